import { Link, typed } from './link.js'
import { COLOURS, keepKeys, label, make, onceSoon, openCanvas, strokeLine } from './draw.js'
import { beside, centimetre, edgeNear, lineOf } from './road.js'

const GRAB_PX = 12 // from a point, to take hold of it
const APART_M = 0.7 // between points of a line that is drawn by hand
const HELP = `drag a point, or the arrow keys (Shift: further); N P next and previous point
a click beside the points, or I, puts a new one there; Delete takes one out; + − width
X draws a new line: drag once round; U takes back; S saves, D drives some laps`

// The view of a road: its points, its edges, its bends, what is wrong with it, and a drive on it.
class TrackEditor {
  constructor(model, el) {
    this.link = new Link(model)
    this.road = { name: '', width_m: 1, points: [], cones: [] }
    this.past = []
    this.chosen = 0
    this.trail = null
    this.redraw = onceSoon(() => this.drawAll())
    this.judge = onceSoon(() => this.judgeNow(), 120)
    this.build(el)
    keepKeys(this.root, event => this.press(event))
    this.resized = new ResizeObserver(() => this.fit())
    this.resized.observe(this.root)
  }

  build(el) {
    const button = (act, text, title, onclick) =>
      make('button', { type: 'button', textContent: text, title, onclick, data: { act } })
    const picture = (className, name) =>
      make('canvas', { className, aria: { role: 'img', 'aria-label': name } })
    this.map = picture('map', 'road from above')
    this.bends = picture('bends', 'curvature along the road')
    this.verdict = make('output', { className: 'verdict', aria: { role: 'status' } })
    this.note = make('output', { className: 'note', aria: { role: 'status' } })
    this.width = make('input', { type: 'number', min: 0.2, max: 5, step: 0.05, className: 'width',
      aria: { 'aria-label': 'width, m' } })
    this.width.onchange = () => this.change(road => (road.width_m = +this.width.value))
    this.root = make('div', { className: 'edgecar-widget track-editor', tabIndex: 0,
      aria: { role: 'application', 'aria-label': 'track editor' } },
    make('header', {}, this.verdict, this.note), this.map, this.bends,
    make('div', { className: 'tools' },
      button('new', 'draw anew', 'draw a new line (X)', () => this.drawAnew()),
      button('undo', 'undo', 'take the last change back (U)', () => this.undo()), 'width, m', this.width,
      button('save', 'save', 'write the file (S)', () => this.save()),
      button('drive', 'drive', 'drive some laps of the file (D)', () => this.drive())),
    make('pre', { className: 'help', textContent: HELP }))
    this.map.onpointerdown = event => this.grab(event)
    this.map.onpointermove = event => event.buttons & 1 && this.drag(event)
    this.map.onpointerup = () => this.release()
    el.append(this.root)
  }

  // ---- what a person does
  async start() {
    const { name, width_m, points, cones, file } = await this.link.ask('load')
    this.road = { name, width_m, points, cones }
    this.root.dataset.file = file
    this.changed()
    this.fit()
  }

  // Change the road, and remember how it was.
  change(what) {
    this.past.push(structuredClone(this.road))
    what(this.road)
    this.changed()
  }

  changed() {
    this.chosen = Math.max(0, Math.min(this.chosen, this.road.points.length - 1))
    this.trail = null
    this.width.value = this.road.width_m
    this.redraw()
    this.judge()
  }

  undo() {
    if (!this.past.length) return this.say('there is nothing to undo')
    this.road = this.past.pop()
    this.changed()
  }

  drawAnew() {
    this.say('drag once round on the map')
    this.drawing = []
  }

  grab(event) {
    if (event.button) return
    this.map.setPointerCapture(event.pointerId)
    const place = this.metres(event)
    if (this.drawing) return this.drawing.push(place)
    const near = this.road.points.findIndex(point => {
      const [x, y] = this.pixels(point)
      return Math.hypot(x - event.offsetX, y - event.offsetY) < GRAB_PX
    })
    this.change(road => {
      this.chosen = near < 0 ? edgeNear(road.points, place) + 1 : near
      if (near < 0) road.points.splice(this.chosen, 0, place)
    })
    this.held = true
  }

  drag(event) {
    const place = this.metres(event)
    if (this.drawing) {
      const last = this.drawing.at(-1)
      if (Math.hypot(place[0] - last[0], place[1] - last[1]) >= APART_M) this.drawing.push(place)
      return this.redraw()
    }
    if (!this.held) return
    this.road.points[this.chosen] = place
    this.changed()
  }

  release() {
    this.held = false
    if (!this.drawing) return
    const points = this.drawing
    this.drawing = null
    if (points.length < 4) return this.say('that was too short', true)
    this.say('')
    this.change(road => Object.assign(road, { points, cones: [] }))
  }

  nudge(dx, dy, far) {
    const step = far ? 0.25 : 0.05
    this.change(({ points }) => {
      const [x, y] = points[this.chosen]
      points[this.chosen] = [centimetre(x + dx * step), centimetre(y + dy * step)]
    })
  }

  choose(step) {
    this.chosen = (this.chosen + step + this.road.points.length) % this.road.points.length
    this.redraw()
  }

  insert() {
    this.change(({ points }) => {
      const [a, b] = [points[this.chosen], points[(this.chosen + 1) % points.length]]
      points.splice(++this.chosen, 0, [0, 1].map(k => centimetre((a[k] + b[k]) / 2)))
    })
  }

  remove() {
    if (this.road.points.length <= 4) return this.say('a road needs four points', true)
    this.change(({ points }) => points.splice(this.chosen, 1))
  }

  widen(by) {
    this.change(road => (road.width_m = centimetre(Math.max(0.2, Math.min(5, road.width_m + by)))))
  }

  press(event) {
    const far = event.shiftKey
    const keys = {
      ArrowLeft: () => this.nudge(-1, 0, far), ArrowRight: () => this.nudge(1, 0, far),
      ArrowUp: () => this.nudge(0, 1, far), ArrowDown: () => this.nudge(0, -1, far),
      n: () => this.choose(1), p: () => this.choose(-1), i: () => this.insert(),
      Delete: () => this.remove(), '+': () => this.widen(0.05), '-': () => this.widen(-0.05),
      x: () => this.drawAnew(), u: () => this.undo(), s: () => this.save(), d: () => this.drive(),
    }
    if (event.ctrlKey) return false
    keys[event.key]?.()
    return event.key in keys
  }

  // ---- what Python says
  say(text, wrong = false) {
    this.note.textContent = text
    this.note.classList.toggle('bad', wrong)
  }

  async judgeNow() {
    const asked = JSON.stringify(this.road)
    let words
    this.fault = null
    try {
      const { length_m, radius_m } = await this.link.ask('judge', this.road)
      words = `${length_m} m long, tightest bend ${radius_m} m`
    } catch (error) {
      words = this.fault = error.message
    }
    if (asked !== JSON.stringify(this.road)) return // a newer one is asked already
    this.verdict.textContent = words
    this.verdict.classList.toggle('bad', Boolean(this.fault))
    this.redraw()
  }

  async save() {
    this.say('saving …')
    try {
      this.say((await this.link.ask('save', this.road)).said)
    } catch (error) {
      this.say(`not saved: ${error.message}`, true)
    }
  }

  async drive() {
    this.say('driving …')
    try {
      const answer = await this.link.ask('drive')
      this.trail = typed(Float32Array, answer.buffers[0])
      const lap = answer.lap_s ? `, ${answer.lap_s.toFixed(2)} s a lap` : ''
      this.say(`${answer.laps} laps${lap}, off the line by ${answer.cte_p95_m.toFixed(2)} m at most in 95 %`)
      this.redraw()
    } catch (error) {
      this.say(error.message, true)
    }
  }

  // ---- what a person sees
  // Choose the piece of the floor that the map shows.
  fit() {
    const reach = axis => Math.max(3, ...this.road.points.map(point => Math.abs(point[axis]))) + 1
    const { clientWidth, clientHeight } = this.map
    this.scale = Math.min(clientWidth / 2 / reach(0), clientHeight / 2 / reach(1))
    this.redraw()
  }

  pixels([x, y]) {
    return [this.map.clientWidth / 2 + x * this.scale, this.map.clientHeight / 2 - y * this.scale]
  }

  metres(event) {
    const { clientWidth, clientHeight } = this.map
    const [x, y] = [event.offsetX - clientWidth / 2, clientHeight / 2 - event.offsetY]
    return [centimetre(x / this.scale), centimetre(y / this.scale)]
  }

  drawAll() {
    const line = this.road.points.length > 2 ? lineOf(this.road.points) : []
    this.drawMap(line)
    this.drawBends(line)
    this.root.dataset.points = this.road.points.length
    this.root.dataset.chosen = this.chosen
  }

  drawMap(line) {
    const [draw, width] = openCanvas(this.map)
    const half = this.road.width_m / 2
    const path = points => points.map(point => this.pixels(point))
    const closed = points => [...points, ...points.slice(0, 1)]
    const middle = path(line.map(({ x, y }) => [x, y]))
    draw.lineJoin = 'round'
    strokeLine(draw, closed(middle), '#3a3f45', 2 * half * this.scale)
    for (const right of [-half, half]) strokeLine(draw, closed(path(beside(line, right))), '#d2d6da', 1)
    line.forEach(({ bend }, i) => {
      const wrong = Math.abs(bend) * half >= 1
      const colour = wrong ? COLOURS.deleted : COLOURS.throttle
      strokeLine(draw, [middle[i], middle[(i + 1) % middle.length]], colour, wrong ? 5 : 1.5)
    })
    if (line.length) strokeLine(draw, path([beside(line, -half)[0], beside(line, half)[0]]), '#fff', 3)
    for (const cone of path(this.road.cones)) dot(draw, cone, 4, '#e8710a')
    path(this.road.points).forEach((point, i) => dot(draw, point, i === this.chosen ? 7 : 4,
      i === this.chosen ? '#fff' : COLOURS.steering))
    if (this.drawing) strokeLine(draw, path(this.drawing), COLOURS.selected, 3)
    this.drawTrail(draw)
    this.drawFault(draw)
    strokeLine(draw, [[width - 12 - this.scale, 14], [width - 12, 14]], COLOURS.soft, 2)
    label(draw, '1 m', width - 12, 28, COLOURS.soft, 'right')
  }

  drawTrail(draw) {
    if (!this.trail) return
    const points = []
    for (let i = 0; i < this.trail.length; i += 2) points.push(this.pixels(this.trail.slice(i, i + 2)))
    strokeLine(draw, points, COLOURS.good, 2)
  }

  // Draw a ring about the place that the verdict names.
  drawFault(draw) {
    const [, x, y] = this.fault?.match(/near \((-?[\d.]+), (-?[\d.]+)\)/) ?? []
    if (x === undefined) return
    draw.strokeStyle = COLOURS.deleted
    draw.lineWidth = 3
    draw.beginPath()
    draw.arc(...this.pixels([+x, +y]), 22, 0, 7)
    draw.stroke()
  }

  // Draw the curvature from the start line on; beyond the dashed lines a bend is too tight for the width.
  drawBends(line) {
    const [draw, width, height] = openCanvas(this.bends)
    const limit = 2 / this.road.width_m
    const most = Math.max(limit * 1.2, 1)
    const y = bend => height / 2 - (Math.max(-most, Math.min(most, bend)) / most) * (height / 2 - 4)
    draw.setLineDash([5, 4])
    for (const at of [-limit, limit]) strokeLine(draw, [[0, y(at)], [width, y(at)]], COLOURS.deleted)
    draw.setLineDash([])
    strokeLine(draw, [[0, y(0)], [width, y(0)]], COLOURS.line)
    const points = line.map(({ bend }, i) => [(i / line.length) * width, y(bend)])
    strokeLine(draw, points, COLOURS.steering, 1.5)
    label(draw, 'curvature: left is up', 4, 12)
  }

  close() {
    this.resized.disconnect()
    this.link.close()
  }
}

function dot(draw, [x, y], radius, colour) {
  draw.fillStyle = colour
  draw.beginPath()
  draw.arc(x, y, radius, 0, 7)
  draw.fill()
}

export default {
  render({ model, el }) {
    const view = new TrackEditor(model, el)
    view.start()
    return () => view.close()
  },
}
