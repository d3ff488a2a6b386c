import { COLOURS, make, openCanvas } from './draw.js'

// What one pilot sees, and how it steers: a bar from the middle, with a mark where the driver steered.
export class PilotPanel {
  constructor(name, colour) {
    this.colour = colour
    const canvas = (className, what) =>
      make('canvas', { className, aria: { role: 'img', 'aria-label': `${name}: ${what}` } })
    this.picture = canvas('picture', 'frame')
    this.meter = canvas('meter', 'steering')
    this.value = make('output')
    const caption = make('figcaption', {}, make('span', { textContent: '● ' }), name, ' ', this.value)
    caption.firstChild.style.color = colour
    this.element = make('figure', { className: 'pilot' }, caption, this.picture, this.meter)
  }

  // Show a frame that has come as RGBA.
  show([height, width], view) {
    Object.assign(this.picture, { width, height })
    const pixels = new Uint8ClampedArray(view.buffer, view.byteOffset, view.byteLength)
    this.picture.getContext('2d').putImageData(new ImageData(pixels, width, height), 0, 0)
  }

  steer(steering, driver) {
    const [draw, width, height] = openCanvas(this.meter)
    const x = value => (width / 2) * (1 + value)
    draw.fillStyle = COLOURS.line
    draw.fillRect(width / 2 - 0.5, 0, 1, height)
    if (steering === undefined) return
    draw.fillStyle = this.colour
    draw.fillRect(Math.min(x(0), x(steering)), 2, Math.abs(x(steering) - x(0)), height - 4)
    draw.fillStyle = COLOURS.text
    if (driver !== undefined) draw.fillRect(x(driver) - 1, 0, 2, height)
    this.value.textContent = `steers ${steering.toFixed(2)}`
  }
}
