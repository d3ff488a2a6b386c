import { Link } from './link.js'
import { grouped, keepKeys, make, onceSoon } from './draw.js'
import { countOf, describeRanges, nextRange, rangesOf } from './ranges.js'
import { DELETED, TubData } from './tub_data.js'
import { Stage } from './tub_stage.js'
import { Timeline } from './tub_timeline.js'
import { Histogram } from './histogram.js'
import { FaultList } from './tub_faults.js'

const PLAY_HZ = 20
const AHEAD = 6 // frames fetched before they are played
const FOLLOW_MS = 40 // until the cursors move without their frame; with it they cost no picture of their own
const LATER_MS = 250 // until what is around the cursor is drawn, so that the frame comes first
const HELP = `← → a record, with Shift ten, Page ↑ ↓ a hundred, Home, End; space plays
[ ] begin and end of a range, or drag with Shift; Esc clears
Delete deletes, R restores, U takes the last back
/ filter, V checks the tub, N P next and previous fault or range, + − zoom`

// The view of a tub: scrub, select, delete, restore, filter, check.
class TubManager {
  constructor(model, el) {
    this.link = new Link(model)
    this.tub = new TubData(this.link)
    this.mask = new Uint8Array(0)
    this.ranges = []
    this.place = 0
    this.anchor = null
    this.timeline = new Timeline({
      seek: (place, event) => this.seek(place, event),
      select: (from, to) => this.select(from, to),
      redraw: () => this.redraw(),
    })
    this.histograms = ['steering', 'throttle'].map(name => new Histogram(name))
    this.faults = new FaultList((place, event) => this.seek(place, event))
    this.redraw = onceSoon(() => this.drawLines())
    this.follow = onceSoon(() => this.timeline.moveCursors(this.place), FOLLOW_MS)
    this.redrawLater = onceSoon(() => this.drawLines(), LATER_MS)
    this.recount = onceSoon(() => this.drawHistograms())
    this.stage = new Stage()
    this.tub.onframe = (place, frame) => this.showFrame(place, frame)
    this.build(el)
    keepKeys(this.root, event => this.press(event))
    this.resized = new ResizeObserver(() => this.redrawAll())
    this.resized.observe(this.root)
  }

  // ---- parts
  build(el) {
    const aria = { 'aria-label': 'record' }
    this.number = make('input', { type: 'number', min: 0, className: 'number', aria })
    this.number.onchange = event => this.seek(this.tub.placeOf(+this.number.value), event)
    this.expression = make('input', { className: 'expression', spellcheck: false,
      placeholder: "abs(steering) > .9 and mode == 'user'", aria: { 'aria-label': 'filter' } })
    this.counts = make('output', { className: 'counts' })
    this.note = make('output', { className: 'note', aria: { role: 'status' } })
    this.tubs = make('select', { aria: { 'aria-label': 'tub' } })
    this.tubs.onchange = () => this.open(+this.tubs.value)
    this.root = make('div', { className: 'edgecar-widget tub-manager', tabIndex: 0,
      aria: { role: 'application', 'aria-label': 'tub manager', 'aria-keyshortcuts': 'Delete R U V N P' } },
    make('header', {}, this.tubs, this.counts, this.note),
    make('div', { className: 'columns' },
      make('div', { className: 'see' }, this.stage.element, this.stage.values),
      make('div', { className: 'know' }, ...this.histograms.map(h => h.element), this.faults.element)),
    this.timeline.element, this.makeTools(), make('pre', { className: 'help', textContent: HELP }))
    el.append(this.root)
  }

  makeTools() {
    const button = (name, text, title, action) =>
      make('button', { type: 'button', textContent: text, title, onclick: action, data: { act: name } })
    this.play = button('play', '▶', 'play (space)', () => this.togglePlay())
    const submit = make('button', { textContent: 'select', title: 'select what matches' })
    const find = make('form', { className: 'find' }, this.expression, submit)
    find.onsubmit = event => {
      event.preventDefault()
      this.filter()
    }
    return make('div', { className: 'tools' }, this.play, this.number,
      button('begin', '[', 'the selection begins here', () => this.mark()),
      button('end', ']', 'the selection ends here', () => this.extend()),
      button('clear', 'clear', 'select nothing (Esc)', () => this.clear()),
      button('delete', 'delete', 'mark the selection as deleted (Delete)', () => this.edit('delete')),
      button('restore', 'restore', 'bring the selection back (R)', () => this.edit('restore')),
      button('undo', 'undo', 'take the last change back (U)', () => this.edit('undo')),
      find, button('verify', 'verify', 'look at every line and every frame (V)', () => this.verify()))
  }

  // ---- what a person does
  async start() {
    const { tubs } = await this.link.ask('tubs')
    this.tubs.replaceChildren(...tubs.map((name, i) => make('option', { value: i, textContent: name })))
    await this.open(0)
  }

  async open(number) {
    await this.guarded(async () => {
      await this.tub.open(number)
      this.mask = new Uint8Array(this.tub.count)
      this.timeline.ticks = []
      this.faults.say('V looks at every line and every frame.')
      this.selectionChanged()
      this.seek(Math.min(this.place, Math.max(this.tub.count - 1, 0)))
      if (!this.tub.count) this.say('this tub has no records')
      this.root.dataset.open = this.tub.path
    })
  }

  seek(place) {
    if (!(place >= 0 && place < this.tub.count)) return
    this.place = place
    this.tub.want(place)
    this.follow()
    this.redrawLater()
  }

  step(by) {
    this.seek(Math.max(0, Math.min(this.tub.count - 1, this.place + by)))
  }

  select(from, to) {
    this.mask.fill(0)
    this.mask.fill(1, Math.min(from, to), Math.max(from, to) + 1)
    this.selectionChanged()
  }

  mark() {
    this.anchor = this.place
    this.select(this.anchor, this.place)
  }

  extend() {
    this.select(this.anchor ?? 0, this.place)
  }

  clear() {
    this.anchor = null
    this.mask.fill(0)
    this.selectionChanged()
  }

  async filter() {
    await this.guarded(async () => {
      this.mask = await this.tub.filter(this.expression.value)
      this.selectionChanged()
      if (!this.ranges.length) this.say('no record is like that')
      else if (!this.mask[this.place]) this.seek(this.ranges[0][0])
      this.root.focus({ preventScroll: true })
    })
  }

  async edit(what) {
    if (what !== 'undo' && !this.ranges.length) return this.say('select records first')
    this.say('')
    await this.guarded(async () => this.say((await this.tub.edit(what, this.ranges)).said))
    this.selectionChanged()
    this.tub.want(this.place)
  }

  async verify() {
    this.faults.say('looking at every line and every frame …')
    await this.guarded(async () => {
      this.faults.show(await this.link.ask('verify'))
      this.timeline.ticks = this.faults.places
      this.spoil()
    }, () => this.faults.say(''))
  }

  jump(step) {
    const stops = this.faults.places.length ? this.faults.places.map(place => [place, place]) : this.ranges
    const place = nextRange(stops, this.place, step)
    if (place === null) this.say('there is no other')
    else this.seek(place)
  }

  togglePlay() {
    if (this.playing) clearInterval(this.playing)
    this.playing = this.playing ? null : setInterval(() => this.playOne(), 1000 / PLAY_HZ)
    this.play.textContent = this.playing ? '⏸' : '▶'
  }

  // Show the next record that is not deleted, once its frame is there.
  playOne() {
    let next = this.place + 1
    while (next < this.tub.count && this.tub.flags[next] & DELETED) next++
    if (next >= this.tub.count) return this.togglePlay()
    this.tub.prefetch(next, AHEAD)
    if (this.tub.frames.has(next)) this.seek(next)
  }

  press(event) {
    const far = event.shiftKey ? 10 : 1
    const keys = {
      ArrowLeft: () => this.step(-far), ArrowRight: () => this.step(far),
      PageUp: () => this.step(-100), PageDown: () => this.step(100),
      Home: () => this.step(-this.tub.count), End: () => this.step(this.tub.count),
      '[': () => this.mark(), ']': () => this.extend(), Escape: () => this.clear(),
      Delete: () => this.edit('delete'), d: () => this.edit('delete'),
      r: () => this.edit('restore'), u: () => this.edit('undo'), v: () => this.verify(),
      n: () => this.jump(1), p: () => this.jump(-1), '/': () => this.expression.focus(),
      '+': () => this.timeline.zoom(0.8), '-': () => this.timeline.zoom(1.25),
    }
    if (event.target.tagName !== 'BUTTON') keys[' '] = () => this.togglePlay()
    const act = event.ctrlKey ? (event.key === 'z' ? keys.u : null) : keys[event.key]
    act?.()
    return Boolean(act)
  }

  // ---- what a person sees
  say(text, wrong = false) {
    this.note.textContent = text
    this.note.classList.toggle('bad', wrong)
  }

  // Do something, and show what went wrong with it.
  async guarded(action, failed = () => {}) {
    this.say('')
    this.root.setAttribute('aria-busy', 'true')
    try {
      await action()
    } catch (error) {
      this.say(error.message, true)
      failed()
    }
    this.root.setAttribute('aria-busy', 'false')
  }

  selectionChanged() {
    this.ranges = rangesOf(this.mask)
    const selected = countOf(this.mask)
    const words = [`${grouped(this.tub.count)} records`, `${grouped(this.tub.deletedCount())} deleted`]
    if (selected) words.push(`${grouped(selected)} selected (${describeRanges(this.ranges)})`)
    this.counts.textContent = words.join(', ')
    this.selected = selected
    this.spoil()
    this.recount()
  }

  spoil() {
    this.timeline.spoil()
    this.redraw()
  }

  redrawAll() {
    this.spoil()
    this.recount()
    this.tub.want(this.place)
  }

  drawLines() {
    this.timeline.draw({ tub: this.tub, mask: this.mask, place: this.place })
  }

  drawHistograms() {
    if (this.tub.steering) this.histograms.forEach(h => h.draw(this))
  }

  showFrame(place, frame) {
    this.timeline.moveCursors(place)
    this.stage.show(this.tub, place, frame)
    if (document.activeElement !== this.number) this.number.value = this.tub.index[place]
    this.root.dataset.place = place
    this.root.dispatchEvent(new CustomEvent('frame', { detail: { place } }))
  }

  close() {
    if (this.playing) this.togglePlay()
    this.resized.disconnect()
    this.link.close()
  }
}

export default {
  render({ model, el }) {
    const view = new TubManager(model, el)
    view.start()
    return () => view.close()
  },
}
