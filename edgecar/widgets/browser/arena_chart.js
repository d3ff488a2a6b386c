import { COLOURS, label, make, openCanvas, strokeLine } from './draw.js'

// Columns of numbers over the steps; a press or a drag goes to a step.
export class StepChart {
  constructor(name, seek) {
    this.name = name
    this.canvas = make('canvas', { className: 'chart', aria: { role: 'img', 'aria-label': name } })
    const share = event => event.offsetX / this.canvas.clientWidth
    this.canvas.onpointerdown = event => {
      if (event.button) return
      this.canvas.setPointerCapture(event.pointerId)
      seek(share(event))
    }
    this.canvas.onpointermove = event => event.buttons & 1 && seek(share(event))
  }

  // Draw series with values from -most to most.
  draw(series, place, most, name = this.name) {
    const [draw, width, height] = openCanvas(this.canvas)
    const y = value => height / 2 - (Math.max(-most, Math.min(most, value)) / most) * (height / 2 - 3)
    strokeLine(draw, [[0, y(0)], [width, y(0)]], COLOURS.line)
    for (const { values, colour } of series) {
      const points = Array.from(values, (value, i) => [((i + 0.5) / values.length) * width, y(value)])
      strokeLine(draw, points, colour, 1.4)
    }
    const x = ((place + 0.5) / (series[0]?.values.length || 1)) * width
    strokeLine(draw, [[x, 0], [x, height]], '#fff', 1.5)
    label(draw, name, 5, 12)
    label(draw, `±${most.toPrecision(2)}`, width - 5, 12, COLOURS.soft, 'right')
    this.canvas.setAttribute('aria-label', name)
  }
}
