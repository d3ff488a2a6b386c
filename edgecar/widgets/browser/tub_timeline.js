import { COLOURS, grouped, label, make, openCanvas, strokeLine } from './draw.js'
import { DELETED } from './tub_data.js'

const SMALLEST_SPAN = 20 // records that the lower line shows at most enlarged

// Two lines of a tub: all of it above, what is around the cursor below. Both scrub; with Shift they select.
export class Timeline {
  constructor(actions) {
    this.actions = actions // seek(place, event), select(from, to)
    this.span = 400
    this.ticks = [] // places of faults
    this.shown = new Map() // canvas -> [first, count] as it was drawn
    this.cursors = new Map() // canvas -> the line over it
    this.whole = this.makeCanvas('whole tub', 'whole')
    this.near = this.makeCanvas('around the cursor', 'near')
    this.near.addEventListener('wheel', event => this.zoom(event.deltaY > 0 ? 1.25 : 0.8, event), {
      passive: false,
    })
    const strips = [this.whole, this.near].map(canvas =>
      make('div', { className: 'strip' }, canvas, this.cursors.get(canvas)))
    this.element = make('div', { className: 'timeline' }, ...strips)
  }

  makeCanvas(name, className) {
    const aria = { role: 'img', 'aria-label': `steering and throttle, ${name}` }
    const canvas = make('canvas', { className, aria })
    this.cursors.set(canvas, make('div', { className: 'cursor' }))
    canvas.addEventListener('pointerdown', event => this.press(canvas, event))
    canvas.addEventListener('pointermove', event => event.buttons & 1 && this.move(canvas, event))
    return canvas
  }

  // Return the first record that a canvas shows, and how many it shows.
  extent(canvas) {
    const { tub, place } = this.state
    if (canvas === this.whole || tub.count <= this.span) return [0, tub.count]
    return [Math.max(0, Math.min(tub.count - this.span, place - Math.floor(this.span / 2))), this.span]
  }

  placeAt(canvas, event) {
    const [first, count] = canvas === this.near && this.held ? this.held : this.extent(canvas)
    const box = canvas.getBoundingClientRect()
    const place = first + Math.floor(((event.clientX - box.left) / box.width) * count)
    return Math.max(0, Math.min(this.state.tub.count - 1, place))
  }

  press(canvas, event) {
    if (event.button || !this.state?.tub.count) return
    canvas.setPointerCapture(event.pointerId)
    this.held = canvas === this.near ? this.extent(canvas) : null // it stays while a person drags on it
    this.anchor = event.shiftKey ? this.placeAt(canvas, event) : null
    this.move(canvas, event)
    canvas.addEventListener('pointerup', () => this.release(), { once: true })
  }

  move(canvas, event) {
    if (!this.state?.tub.count) return
    const place = this.placeAt(canvas, event)
    if (this.anchor != null) this.actions.select(this.anchor, place)
    this.actions.seek(place, event)
  }

  release() {
    if (this.held) this.actions.redraw()
    this.held = null
  }

  // Show more or fewer records around the cursor.
  zoom(factor, event) {
    event?.preventDefault()
    const most = this.state?.tub.count ?? this.span
    this.span = Math.round(Math.max(SMALLEST_SPAN, Math.min(most, this.span * factor)))
    this.actions.redraw()
  }

  // Forget the drawing of the whole tub, because something in it has changed.
  spoil() {
    this.shown.delete(this.whole)
  }

  // Draw what has changed; the line of the whole tub costs most, and stays while a person scrubs.
  draw(state) {
    this.state = state
    if (!this.shown.has(this.whole)) this.drawStrip(this.whole)
    this.drawStrip(this.near)
    this.moveCursors(state.place)
  }

  drawStrip(canvas) {
    const [draw, width, height] = openCanvas(canvas)
    const [first, count] = (canvas === this.near && this.held) || this.extent(canvas)
    this.drawColumns(draw, width, height, first, count)
    this.shown.set(canvas, [first, count, width])
    if (!count || canvas === this.whole) return
    label(draw, grouped(first), 4, height - 4)
    label(draw, grouped(first + count - 1), width - 4, height - 4, COLOURS.soft, 'right')
  }

  // Move both cursors without drawing anything anew.
  moveCursors(place) {
    if (this.state) this.state.place = place
    for (const [canvas, [first, count, width]] of this.shown) {
      const x = ((place - first + 0.5) / Math.max(count, 1)) * width
      const cursor = this.cursors.get(canvas)
      cursor.style.transform = `translateX(${Math.round(x)}px)`
      cursor.style.visibility = x >= 0 && x <= width ? 'visible' : 'hidden'
    }
  }

  // Draw records as columns: what is deleted, what is selected, and the span of both commands.
  drawColumns(draw, width, height, first, count) {
    const { tub, mask } = this.state
    strokeLine(draw, [[0, height / 2], [width, height / 2]], COLOURS.line)
    if (!count) return
    const columns = Math.min(Math.ceil(width), count)
    const at = column => first + Math.floor((column * count) / columns)
    const step = width / columns
    for (let c = 0; c < columns; c++) {
      let [selected, deleted] = [0, 0]
      for (let i = at(c); i < at(c + 1); i++) {
        selected |= mask[i]
        deleted |= tub.flags[i] & DELETED
      }
      if (deleted) fill(draw, COLOURS.deleted + '66', c * step, 0, step, height)
      if (selected) fill(draw, COLOURS.selected + '88', c * step, 0, step, height)
    }
    for (const start of tub.sessions) this.drawTick(draw, start, first, count, width, height, COLOURS.soft, 1)
    for (const [name, values] of [['throttle', tub.throttle], ['steering', tub.steering]]) {
      drawSpans(draw, values, at, columns, step, height, COLOURS[name])
    }
    for (const tick of this.ticks) this.drawTick(draw, tick, first, count, width, 7, COLOURS.deleted, 3)
  }

  drawTick(draw, place, first, count, width, height, colour, thick) {
    if (place < first || place >= first + count) return
    const x = ((place - first + 0.5) / count) * width
    strokeLine(draw, [[x, 0], [x, height]], colour, thick)
  }
}

function fill(draw, colour, x, y, width, height) {
  draw.fillStyle = colour
  draw.fillRect(x, y, Math.max(width, 1), height)
}

// Draw a command as a line; where a column has many records, from the least to the largest of them.
function drawSpans(draw, values, at, columns, step, height, colour) {
  const y = value => height / 2 - value * (height / 2 - 6)
  draw.strokeStyle = colour
  draw.lineWidth = 1.2
  draw.beginPath()
  for (let c = 0; c < columns; c++) {
    let [low, high] = [Infinity, -Infinity]
    for (let i = at(c); i < at(c + 1); i++) {
      if (values[i] < low) low = values[i]
      if (values[i] > high) high = values[i]
    }
    if (low > high) continue // commands that are no numbers
    draw.lineTo((c + 0.5) * step, y(low))
    if (high > low) draw.lineTo((c + 0.5) * step, y(high))
  }
  draw.stroke()
}
