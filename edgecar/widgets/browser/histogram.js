import { COLOURS, grouped, label, make, openCanvas, strokeLine } from './draw.js'
import { DELETED } from './tub_data.js'

const BINS = 41 // odd, so that straight ahead has a bar of its own

// Count commands in bins from -1 to 1, of the records for which `counts(place)` holds.
export function binned(values, counts) {
  const bins = new Array(BINS).fill(0)
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] >= -1 && values[i] <= 1) || !counts(i)) continue
    bins[Math.min(BINS - 1, Math.floor(((values[i] + 1) / 2) * BINS))]++
  }
  return bins
}

// A command of all records as a grey shadow, of those that are left as bars, and of those that would be left
// without the selection as a line.
export class Histogram {
  constructor(name) {
    this.name = name
    const aria = { role: 'img', 'aria-label': `histogram of ${name}` }
    this.canvas = make('canvas', { className: 'histogram', aria })
    this.caption = make('figcaption')
    this.element = make('figure', {}, this.canvas, this.caption)
  }

  draw({ tub, mask, selected }) {
    const values = tub[this.name]
    const all = binned(values, () => true)
    const left = binned(values, i => !(tub.flags[i] & DELETED))
    const without = binned(values, i => !(tub.flags[i] & DELETED) && !mask[i])
    const [draw, width, height] = openCanvas(this.canvas)
    const largest = Math.max(1, ...all)
    const bar = width / BINS
    const y = count => height - (count / largest) * (height - 14)
    all.forEach((count, i) => drawBar(draw, i * bar, y(count), bar, height, COLOURS.line))
    left.forEach((count, i) => drawBar(draw, i * bar, y(count), bar, height, COLOURS[this.name]))
    if (selected) {
      const points = without.flatMap((count, i) => [[i * bar, y(count)], [(i + 1) * bar, y(count)]])
      strokeLine(draw, points, '#fff', 1.5)
    }
    label(draw, this.name === 'steering' ? 'left' : 'back', 3, 11)
    label(draw, this.name === 'steering' ? 'right' : 'forwards', width - 3, 11, COLOURS.soft, 'right')
    const sum = bins => bins.reduce((a, b) => a + b, 0)
    const words = `${this.name}: ${grouped(sum(all))} recorded, ${grouped(sum(left))} left`
    this.caption.textContent = words + (selected ? `, ${grouped(sum(without))} without the selection` : '')
  }
}

function drawBar(draw, x, y, width, bottom, colour) {
  draw.fillStyle = colour
  draw.fillRect(x, y, Math.max(width - 1, 1), bottom - y)
}
