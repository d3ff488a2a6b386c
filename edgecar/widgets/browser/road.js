// The middle line of a road as the twin has it: a closed uniform cubic B-spline of its control points.
const PARTS = 16 // places between two control points

// Return places along the line: {x, y, tx, ty, bend}, the direction of driving and the curvature in 1/m.
export function lineOf(points) {
  const places = []
  for (let i = 0; i < points.length; i++) {
    const four = [-1, 0, 1, 2].map(j => points[(i + j + points.length) % points.length])
    for (let part = 0; part < PARTS; part++) places.push(placeAt(four, part / PARTS))
  }
  return places
}

function placeAt([a, b, c, d], t) {
  const r = 1 - t
  const weights = [r ** 3, 4 + t * t * (3 * t - 6), 1 + t * (3 + t * (3 - 3 * t)), t ** 3].map(w => w / 6)
  const sum = (w, axis) => w[0] * a[axis] + w[1] * b[axis] + w[2] * c[axis] + w[3] * d[axis]
  const first = k => r * r * (b[k] - a[k]) + (1 + 2 * t * r) * (c[k] - b[k]) + t * t * (d[k] - c[k])
  const v = [first(0) / 2, first(1) / 2]
  const u = [0, 1].map(k => r * (a[k] - 2 * b[k] + c[k]) + t * (b[k] - 2 * c[k] + d[k]))
  const speed = Math.hypot(...v) || 1e-9
  return {
    x: sum(weights, 0),
    y: sum(weights, 1),
    tx: v[0] / speed,
    ty: v[1] / speed,
    bend: (v[0] * u[1] - v[1] * u[0]) / speed ** 3,
  }
}

// Return the line that runs some m to the right of a line.
export const beside = (line, right) => line.map(({ x, y, tx, ty }) => [x + right * ty, y - right * tx])

// Return the number of the control point after which a new one at a place belongs.
export function edgeNear(points, [x, y]) {
  const ways = points.map((p, i) => {
    const q = points[(i + 1) % points.length]
    const [dx, dy] = [q[0] - p[0], q[1] - p[1]]
    const t = Math.max(0, Math.min(1, ((x - p[0]) * dx + (y - p[1]) * dy) / (dx * dx + dy * dy || 1)))
    return Math.hypot(x - p[0] - t * dx, y - p[1] - t * dy)
  })
  return ways.indexOf(Math.min(...ways))
}

// Round to the centimetre, as a file has it.
export const centimetre = value => Math.round(value * 100) / 100
