import { COLOURS, SERIES, label, make, openCanvas, strokeLine } from './draw.js'
import { lineOf } from './road.js'

// The road from above, with where each car has been.
export class RaceMap {
  constructor() {
    const aria = { role: 'img', 'aria-label': 'cars on the road' }
    this.canvas = make('canvas', { className: 'picture', aria })
    this.element = make('figure', { className: 'race' },
      make('figcaption', { textContent: 'the road' }), this.canvas)
    this.trails = []
    this.width_m = 1
  }

  set({ points = [], width_m = 1 }, trails) {
    this.width_m = width_m
    this.line = points.length ? lineOf(points) : []
    this.trails = trails
  }

  draw(place) {
    if (this.element.hidden || !this.line?.length) return
    const [draw, width, height] = openCanvas(this.canvas)
    const [xs, ys] = ['x', 'y'].map(axis => this.line.map(at => at[axis]))
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)]
    const scale = Math.min(width / (right - left + 2), height / (high - low + 2))
    const [midX, midY] = [(left + right) / 2, (low + high) / 2]
    const at = (x, y) => [width / 2 + (x - midX) * scale, height / 2 - (y - midY) * scale]
    const middle = this.line.map(({ x, y }) => at(x, y))
    draw.lineJoin = 'round'
    strokeLine(draw, [...middle, middle[0], middle[1]], '#4a5058', this.width_m * scale)
    this.trails.forEach((trail, i) => {
      const path = []
      for (let n = 0; n <= place && 2 * n < trail.length; n++) path.push(at(trail[2 * n], trail[2 * n + 1]))
      drawPath(draw, path, SERIES[i])
    })
    label(draw, '1 m', width - 8, height - 10, COLOURS.soft, 'right')
    strokeLine(draw, [[width - 8 - scale, height - 5], [width - 8, height - 5]], COLOURS.soft, 2)
  }
}

// Draw a path; where the car was carried back it is broken.
function drawPath(draw, path, colour) {
  let piece = []
  for (const point of path) {
    const last = piece.at(-1)
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) > 12) {
      strokeLine(draw, piece, colour, 1.5)
      piece = []
    }
    piece.push(point)
  }
  strokeLine(draw, piece, colour, 1.5)
  if (!piece.length) return
  draw.fillStyle = colour
  draw.beginPath()
  draw.arc(...piece.at(-1), 5, 0, 7)
  draw.fill()
}
