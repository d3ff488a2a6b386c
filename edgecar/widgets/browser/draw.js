// What every view draws with: elements, canvases as sharp as the screen, lines.
export const COLOURS = {
  steering: '#4da3ff',
  throttle: '#ffb000',
  deleted: '#ff4d6d',
  selected: '#c792ea',
  good: '#5fd38d',
  line: '#33383e',
  soft: '#98a1aa',
  text: '#e6e8ea',
}
export const SERIES = ['#4da3ff', '#ffb000', '#5fd38d', '#ff6f91', '#c792ea', '#7fdbca']

// Make an element with properties and children; `aria` and `data` hold attributes.
export function make(tag, properties = {}, ...children) {
  const { aria = {}, data = {}, ...plain } = properties
  const element = Object.assign(document.createElement(tag), plain)
  for (const [name, value] of Object.entries(aria)) element.setAttribute(name, value)
  Object.assign(element.dataset, data)
  element.append(...children)
  return element
}

// Clear a canvas, and return what draws on it, its width and its height in px of the page.
export function openCanvas(canvas) {
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  const [across, down] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)]
  const draw = canvas.getContext('2d')
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across
    canvas.height = down
  }
  draw.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0)
  draw.clearRect(0, 0, width, height)
  return [draw, width, height]
}

// Draw a line along points.
export function strokeLine(draw, points, colour, width = 1) {
  draw.strokeStyle = colour
  draw.lineWidth = width
  draw.beginPath()
  for (const [x, y] of points) draw.lineTo(x, y)
  draw.stroke()
}

// Write small text.
export function label(draw, text, x, y, colour = COLOURS.soft, align = 'left') {
  draw.fillStyle = colour
  draw.font = '11px system-ui, sans-serif'
  draw.textAlign = align
  draw.fillText(text, x, y)
}

// Write a whole number with commas.
export const grouped = number => number.toLocaleString('en')

// Return a function that does something once, before the next picture or some ms later, however often it
// is called.
export function onceSoon(what, ms = 0) {
  let asked = false
  const act = () => {
    asked = false
    what()
  }
  return () => {
    if (asked) return
    asked = true
    if (ms) setTimeout(act, ms)
    else requestAnimationFrame(act)
  }
}

// Keep the keys of a notebook from acting while a view has the focus.
export function keepKeys(root, listener) {
  root.dataset.lmSuppressShortcuts = 'true' // JupyterLab looks for it
  root.addEventListener('keydown', event => {
    const writes = ['INPUT', 'SELECT', 'TEXTAREA'].includes(event.target.tagName)
    if (!writes && !event.altKey && !event.metaKey && listener(event)) event.preventDefault()
    event.stopPropagation()
  })
}
