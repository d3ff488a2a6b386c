import { COLOURS, label, make, openCanvas, strokeLine } from './draw.js'

// Numbers over the epochs, from 0 up; a grey line says where a round begins.
export class CurveChart {
  constructor(name) {
    this.name = name
    this.canvas = make('canvas', { className: 'curve', aria: { role: 'img', 'aria-label': name } })
  }

  draw(series, rounds) {
    const [draw, width, height] = openCanvas(this.canvas)
    const most = Math.max(1e-6, ...series.flatMap(({ values }) => values.filter(Number.isFinite)))
    const x = epoch => 8 + (epoch / Math.max(rounds.length - 1, 1)) * (width - 16)
    const y = value => height - 16 - (value / most) * (height - 36)
    rounds.forEach((round, epoch) => {
      const border = x(epoch - 0.5)
      if (epoch && round > rounds[epoch - 1]) strokeLine(draw, [[border, 18], [border, height]], COLOURS.line)
    })
    let at = width - 8
    for (const { name, values, colour } of series.toReversed()) {
      const points = values.map((value, epoch) => [x(epoch), y(value)])
      strokeLine(draw, points, colour, 1.6)
      for (const [px, py] of points) dotAt(draw, px, py, colour)
      const words = values.length ? `${name} ${values.at(-1).toFixed(3)}` : ''
      label(draw, words, at, 12, colour, 'right')
      at -= draw.measureText(words).width + 12
    }
    label(draw, this.name, 5, 12)
    label(draw, most.toPrecision(2), 5, 28)
    if (rounds.length) label(draw, `epoch ${rounds.length}`, width - 8, height - 4, COLOURS.soft, 'right')
  }
}

function dotAt(draw, x, y, colour) {
  draw.fillStyle = colour
  draw.fillRect(x - 2, y - 2, 4, 4)
}
