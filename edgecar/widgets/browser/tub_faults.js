import { grouped, make } from './draw.js'

// What a check of a tub has found: a line a kind, below it its records, each a button that jumps there.
export class FaultList {
  constructor(jump) {
    this.jump = jump
    const aria = { role: 'region', 'aria-label': 'what the check found' }
    this.element = make('div', { className: 'faults', aria })
    this.places = []
  }

  say(text) {
    this.element.replaceChildren(make('p', { className: 'soft', textContent: text }))
    this.places = []
  }

  // Show faults, [{kind, mend, count, items: [[place, text]]}], and warnings, [[text, hint]].
  show({ faults, warnings, total }) {
    const kinds = faults.map(group => this.makeGroup(group))
    const advice = warnings.map(([text, hint]) => makeAdvice(text, hint))
    const head = total ? `${grouped(total)} faults` : 'no faults'
    const also = warnings.length ? `, ${warnings.length} worth a look` : ''
    this.element.replaceChildren(make('p', { textContent: head + also }), ...kinds, ...advice)
    const places = faults.flatMap(group => group.items.map(([place]) => place))
    this.places = [...new Set(places)].filter(place => place !== null).sort((a, b) => a - b)
  }

  makeGroup({ kind, mend, count, items }) {
    const rows = items.map(([place, text]) => {
      const button = make('button', { type: 'button', textContent: text, disabled: place === null })
      button.onclick = event => this.jump(place, event)
      return make('li', {}, button)
    })
    const others = count - items.length
    const more = others ? [make('li', { textContent: `and ${grouped(others)} more` })] : []
    const title = make('summary', { textContent: `${kind}: ${grouped(count)}`, title: `a repair: ${mend}` })
    return make('details', { open: true }, title, make('ul', {}, ...rows, ...more))
  }
}

function makeAdvice(text, hint) {
  const words = [make('b', { textContent: text }), make('span', { textContent: ` → ${hint}` })]
  return make('p', { className: 'advice' }, ...words)
}
