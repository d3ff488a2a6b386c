import { Link, typed } from './link.js'
import { COLOURS, SERIES, keepKeys, make, onceSoon } from './draw.js'
import { PilotPanel } from './arena_panel.js'
import { StepChart } from './arena_chart.js'
import { RaceMap } from './arena_map.js'
import { gateTable, raceTable } from './arena_tables.js'

const STEP_MS = 50 // of a recording and of the twin
const SETTLE_MS = 150 // until it is shown where they look, so that scrubbing stays fluent
const APART = 20 // steps between two places where the pilots differ
const EXAM_TRACKS = 16
const SLIDERS = {
  brightness: { text: 'brightness', min: 0.2, max: 3, step: 0.05, value: 1, unit: '×' },
  blur_px: { text: 'blur', min: 0, max: 8, step: 0.25, value: 0, unit: 'px' },
  latency_ms: { text: 'latency', min: 0, max: 200, step: 5, value: 75, unit: 'ms' },
}
const HELP = `← → a step, with Shift ten, Home, End; space plays; T recording or twin
D goes where they differ most, and on; S shows where they look; E examines`

// The view of two or three pilots: what each sees and does, step by step, and what the gate says.
class Arena {
  constructor(model, el) {
    this.link = new Link(model)
    this.mode = 'twin'
    this.place = 0
    this.where = true
    this.steering = []
    this.cte = []
    this.generation = 0
    this.redraw = onceSoon(() => this.drawAll())
    this.refresh = onceSoon(() => this.refreshNow(), 200)
    this.build(el)
    keepKeys(this.root, event => this.press(event))
    this.resized = new ResizeObserver(() => this.redraw())
    this.resized.observe(this.root)
  }

  // ---- parts
  build(el) {
    const button = (act, text, title, onclick) =>
      make('button', { type: 'button', textContent: text, title, onclick, data: { act } })
    this.modes = ['recording', 'twin'].map(mode =>
      button(mode, mode, `show the ${mode} (T)`, () => this.turnTo(mode)))
    this.where_ = button('where', 'where they look', 'show it in red (S)', () => this.toggleWhere())
    this.play = button('play', '▶', 'play (space)', () => this.togglePlay())
    this.time = make('output', { className: 'time' })
    this.note = make('output', { className: 'note', aria: { role: 'status' } })
    this.stage = make('div', { className: 'panels' })
    this.map = new RaceMap()
    const seek = share => this.seek(Math.floor(share * this.count()))
    this.lines = new StepChart('steering: right is up', seek)
    this.more = new StepChart('difference', seek)
    this.tables = make('div', { className: 'tables' })
    this.root = make('div', { className: 'edgecar-widget arena', tabIndex: 0,
      aria: { role: 'application', 'aria-label': 'arena', 'aria-keyshortcuts': 'T D S E' } },
    make('header', {}, ...this.modes, this.time, this.note), this.stage, this.lines.canvas, this.more.canvas,
    make('div', { className: 'tools' }, this.play,
      button('differ', 'differ most', 'where they differ most, and on (D)', () => this.seekDifference()),
      this.where_, ...this.makeSliders(), ...this.makeRoad(),
      button('examine', 'examine', `drive ${EXAM_TRACKS} tracks (E)`, () => this.examine())),
    this.tables, make('pre', { className: 'help', textContent: HELP }))
    el.append(this.root)
  }

  makeSliders() {
    this.sliders = {}
    return Object.entries(SLIDERS).map(([name, { text, unit, ...range }]) => {
      const input = make('input', { type: 'range', ...range, className: name })
      const shown = make('output', { textContent: `${range.value} ${unit}` })
      input.oninput = () => {
        shown.textContent = `${input.value} ${unit}`
        this.refresh()
      }
      this.sliders[name] = input
      return make('label', { className: 'slider' }, text, input, shown)
    })
  }

  makeRoad() {
    const onchange = () => this.turnTo(this.mode)
    this.track = make('input', { className: 'track', spellcheck: false, onchange })
    this.seed = make('input', { className: 'number', type: 'number', min: 0, max: 1e6, value: 0, onchange })
    this.first = make('input', { className: 'number', type: 'number', min: 0, value: 0, onchange })
    const [track, seed, first] = [['track', this.track], ['seed', this.seed], ['from frame', this.first]].map(
      ([text, input]) => make('label', {}, text, input))
    this.ofTwin = [track, seed]
    this.ofRecording = [first]
    return [track, seed, first]
  }

  // ---- what a person does
  async start() {
    const { names, recorded, track, table } = await this.link.ask('load')
    this.names = names
    this.panels = names.map((name, i) => new PilotPanel(name, SERIES[i]))
    this.stage.append(...this.panels.map(panel => panel.element), this.map.element)
    this.modes[0].disabled = !recorded
    this.track.value = track
    this.race = make('div')
    this.gate = make('div', {}, gateTable(table))
    this.tables.append(this.race, this.gate)
    this.turnTo(recorded ? 'recording' : 'twin')
  }

  turnTo(mode) {
    if (mode === 'recording' && this.modes[0].disabled) return
    this.mode = mode
    this.root.dataset.mode = mode
    this.modes.forEach(button => button.setAttribute('aria-pressed', button.textContent === mode))
    this.map.element.hidden = mode !== 'twin'
    for (const part of this.ofTwin) part.hidden = mode !== 'twin'
    for (const part of this.ofRecording) part.hidden = mode === 'twin'
    this.refresh()
  }

  // Ask for everything anew: the light, the latency, the road or the frames have changed.
  async refreshNow() {
    const generation = ++this.generation
    const sliders = Object.entries(this.sliders)
    const now = Object.fromEntries(sliders.map(([name, input]) => [name, +input.value]))
    const [what, fields] = this.mode === 'twin'
      ? ['race', { track: this.track.value, seed: +this.seed.value }]
      : ['watch', { first: +this.first.value }]
    await this.guarded(this.mode === 'twin' ? 'driving …' : 'looking …', async () => {
      const answer = await this.link.ask(what, { ...now, ...fields })
      if (generation === this.generation) this.take(answer)
    })
  }

  take({ buffers, ...answer }) {
    const columns = buffers.map(buffer => typed(Float32Array, buffer))
    const n = this.names.length
    this.driver = this.mode === 'twin' ? null : columns.shift()
    this.steering = columns.slice(0, n)
    this.cte = columns.slice(n, 2 * n)
    this.map.set(answer, columns.slice(2 * n))
    this.origin = answer.first ?? 0
    if (answer.numbers) this.race.replaceChildren(raceTable(this.names, answer.numbers))
    this.visited = []
    this.shown = this.generation
    this.root.dataset.shown = this.generation
    this.seek(Math.min(this.place, this.count() - 1))
  }

  count() {
    return this.steering[0]?.length ?? 0
  }

  seek(place) {
    if (!this.count()) return
    this.place = Math.max(0, Math.min(this.count() - 1, place))
    this.root.dataset.place = this.place
    this.want(0)
    clearTimeout(this.settled)
    if (this.where && !this.playing) this.settled = setTimeout(() => this.want(1), SETTLE_MS)
    this.redraw()
  }

  // Go to where the pilots differ most; then to where they differ most elsewhere.
  seekDifference() {
    let [best, most] = [null, -1]
    for (let i = 0; i < this.count(); i++) {
      const values = this.steering.map(column => column[i])
      const spread = Math.max(...values) - Math.min(...values)
      if (spread > most && this.visited.every(at => Math.abs(at - i) >= APART)) [best, most] = [i, spread]
    }
    if (best === null) return this.say('there is no other place')
    this.visited.push(best)
    this.seek(best)
    this.say(`they differ by ${most.toFixed(2)} here`)
  }

  toggleWhere() {
    this.where = !this.where
    this.seek(this.place)
  }

  togglePlay() {
    if (this.playing) clearInterval(this.playing)
    const next = () => (this.place + 1 < this.count() ? this.seek(this.place + 1) : this.togglePlay())
    this.playing = this.playing ? null : setInterval(next, STEP_MS)
    this.play.textContent = this.playing ? '⏸' : '▶'
    this.seek(this.place)
  }

  async examine() {
    await this.guarded(`examining on ${EXAM_TRACKS} tracks …`, async () => {
      this.gate.replaceChildren(gateTable(await this.link.ask('examine', { tracks: EXAM_TRACKS })))
      this.root.dataset.examined = true
    })
  }

  press(event) {
    const far = event.shiftKey ? 10 : 1
    const keys = {
      ArrowLeft: () => this.seek(this.place - far), ArrowRight: () => this.seek(this.place + far),
      Home: () => this.seek(0), End: () => this.seek(this.count() - 1),
      t: () => this.turnTo(this.mode === 'twin' ? 'recording' : 'twin'),
      d: () => this.seekDifference(), s: () => this.toggleWhere(), e: () => this.examine(),
    }
    if (event.target.tagName !== 'BUTTON') keys[' '] = () => this.togglePlay()
    const act = event.ctrlKey ? null : keys[event.key]
    act?.()
    return Boolean(act)
  }

  // ---- what a person sees
  say(text, wrong = false) {
    this.note.textContent = text
    this.note.classList.toggle('bad', wrong)
  }

  // Do something that takes a while, and show what went wrong with it.
  async guarded(doing, action) {
    this.say(doing)
    this.root.setAttribute('aria-busy', 'true')
    try {
      await action()
      if (this.note.textContent === doing) this.say('')
    } catch (error) {
      this.say(error.message, true)
    }
    this.root.setAttribute('aria-busy', 'false')
  }

  // Say which frames a person wants to see; only the newest wish counts.
  want(where) {
    this.wish = { place: this.place, where }
    this.pump()
  }

  async pump() {
    if (this.looking || !this.wish) return
    const { place, where } = this.wish
    const generation = this.shown
    this.wish = null
    this.looking = true
    try {
      const answer = await this.link.ask('look', { place, where })
      this.panels.forEach((panel, i) => panel.show(answer.sizes_px[i], answer.buffers[i]))
      this.root.dataset.looked = `${place} ${where}`
    } catch (error) {
      if (generation === this.generation) this.say(error.message, true)
    }
    this.looking = false
    this.pump()
  }

  drawAll() {
    const { place } = this
    const lines = this.steering.map((values, i) => ({ values, colour: SERIES[i] }))
    const beside = this.driver ? [{ values: this.driver, colour: COLOURS.soft }] : []
    this.lines.draw([...beside, ...lines], place, 1)
    if (this.mode === 'twin') {
      const cte = this.cte.map((values, i) => ({ values, colour: SERIES[i] }))
      this.more.draw(cte, place, this.map.width_m / 2, 'metres off the line: right is up')
    } else {
      const apart = lines.slice(1).map(({ values, colour }) =>
        ({ colour, values: values.map((value, i) => value - this.steering[0][i]) }))
      this.more.draw(apart, place, 1, `difference of steering from ${this.names?.[0]}`)
    }
    this.map.draw(place)
    this.panels?.forEach((panel, i) => panel.steer(this.steering[i]?.[place], this.driver?.[place]))
    this.where_.setAttribute('aria-pressed', this.where)
    if (!this.count()) return
    const seconds = `${((place * STEP_MS) / 1000).toFixed(2)} s`
    const step = this.mode === 'twin' ? seconds : `frame ${place + this.origin}`
    this.time.textContent = `${step}, ${place + 1} of ${this.count()}`
  }

  close() {
    if (this.playing) clearInterval(this.playing)
    clearTimeout(this.settled)
    this.resized.disconnect()
    this.link.close()
  }
}

export default {
  render({ model, el }) {
    const view = new Arena(model, el)
    view.start()
    return () => view.close()
  },
}
