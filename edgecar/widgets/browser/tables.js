import { make } from './draw.js'

// Make a table: a head, and rows of texts or of [text, class].
export function makeTable(caption, head, rows) {
  const cell = (tag, content) => {
    const [textContent, className] = Array.isArray(content) ? content : [content, '']
    return make(tag, { textContent, className })
  }
  const row = (tag, cells) => make('tr', {}, ...cells.map(content => cell(tag, content)))
  return make('table', {}, make('caption', { textContent: caption }),
    make('thead', {}, row('th', head)), make('tbody', {}, ...rows.map(cells => row('td', cells))))
}
