import { Link, typed } from './link.js'
import { SERIES, keepKeys, make, onceSoon } from './draw.js'
import { CurveChart } from './training_curves.js'
import { RaceMap } from './arena_map.js'
import { makeTable } from './tables.js'

const POLL_MS = 1000
const ERRORS = ['val_steering_mae', 'val_throttle_mae']
const HELP = `R starts, or goes on after a stop; X stops, and what was learned stays
an exam drives a candidate on tracks that only this choice uses; the lap is of the pilot of the last round`

// The view of a training: curves, exams of candidates, the best lap; start and stop.
class Training {
  constructor(model, el) {
    this.link = new Link(model)
    this.state = { epochs: [], exams: [] }
    this.candidate = '0'
    this.redraw = onceSoon(() => this.drawAll())
    this.build(el)
    keepKeys(this.root, event => this.press(event))
    this.resized = new ResizeObserver(() => this.redraw())
    this.resized.observe(this.root)
  }

  build(el) {
    const button = (act, text, title, onclick) =>
      make('button', { type: 'button', textContent: text, title, onclick, data: { act } })
    this.begin = button('start', 'start', 'start, or go on (R)', () => this.begin_())
    this.halt = button('stop', 'stop', 'stop (X)', () => this.halt_())
    this.status = make('output', { className: 'status' })
    this.note = make('output', { className: 'note', aria: { role: 'status' } })
    this.loss = new CurveChart('loss')
    this.errors = new CurveChart('mean error of steering and throttle, full lock is 1')
    this.map = new RaceMap()
    this.lap = this.map.element.querySelector('figcaption')
    this.lap.textContent = 'the best lap: no candidate has driven yet'
    this.exams = make('div', { className: 'exams' })
    this.log = make('pre', { className: 'log', tabIndex: 0, aria: { 'aria-label': 'what it says' } })
    this.root = make('div', { className: 'edgecar-widget training', tabIndex: 0,
      aria: { role: 'application', 'aria-label': 'training', 'aria-keyshortcuts': 'R X' } },
    make('header', {}, this.begin, this.halt, this.status, this.note),
    make('div', { className: 'see' },
      make('div', { className: 'curves' }, this.loss.canvas, this.errors.canvas), this.map.element),
    this.exams, this.log, make('pre', { className: 'help', textContent: HELP }))
    el.append(this.root)
  }

  async start() {
    this.map.set(await this.link.ask('load'), [])
    await this.poll()
  }

  // Ask how it goes, and again a little later.
  async poll() {
    try {
      this.take(await this.link.ask('state'))
    } catch (error) {
      this.say(error.message, true)
    }
    if (!this.closed) this.later = setTimeout(() => this.poll(), POLL_MS)
  }

  take(state) {
    this.state = state
    if (state.candidate !== '0' && state.candidate !== this.candidate) this.drive(state.candidate)
    this.redraw()
  }

  async drive(candidate) {
    this.candidate = candidate
    try {
      const { best, buffers } = await this.link.ask('lap')
      this.map.trails = [typed(Float32Array, buffers[0])]
      const back = best.off_track + best.hit + best.stuck
      const lap = best.lap_s ? `${best.lap_s.toFixed(2)} s` : 'none'
      this.lap.textContent = `the best lap: ${lap}, carried back ${back} times, after ${best.after_epochs} epochs`
      this.root.dataset.laps = +(this.root.dataset.laps ?? 0) + 1
      this.redraw()
    } catch (error) {
      this.say(error.message, true)
    }
  }

  // ---- what a person does
  async begin_() {
    await this.guarded('starting …', 'start')
  }

  async halt_() {
    await this.guarded('stopping …', 'stop')
  }

  async guarded(doing, what) {
    this.say(doing)
    try {
      await this.link.ask(what)
      this.take(await this.link.ask('state'))
      this.say(what === 'stop' ? 'stopped' : '')
    } catch (error) {
      this.say(error.message, true)
    }
  }

  press(event) {
    const keys = { r: () => this.begin_(), x: () => this.halt_() }
    if (event.ctrlKey) return false
    keys[event.key]?.()
    return event.key in keys
  }

  // ---- what a person sees
  say(text, wrong = false) {
    this.note.textContent = text
    this.note.classList.toggle('bad', wrong)
  }

  describe({ running, status, epochs, passed_s, resumable }) {
    const last = epochs.at(-1)
    const at = last ? `epoch ${last.epoch + 1}, round ${last.round}` : 'no epoch yet'
    if (running) return `trains for ${Math.round(passed_s)} s: ${at}`
    if (resumable) return `stopped: ${at}; R goes on`
    if (status) return `failed: ${at}; what it says is below`
    return status === 0 ? `done: ${at}` : `at rest: ${at}`
  }

  drawAll() {
    const { epochs, exams, running, resumable, said } = this.state
    this.status.textContent = this.describe(this.state)
    this.begin.disabled = running
    this.halt.disabled = !running
    this.begin.textContent = resumable ? 'go on' : 'start'
    const rounds = epochs.map(({ round }) => round)
    this.loss.draw([{ name: 'loss', values: epochs.map(({ loss }) => loss), colour: SERIES[0] }], rounds)
    this.errors.draw(ERRORS.map((name, i) =>
      ({ name: name.split('_')[1], values: epochs.map(numbers => numbers[name]), colour: SERIES[i] })), rounds)
    this.map.draw(Infinity)
    if (this.exams.dataset.count !== `${exams.length}`) this.showExams(exams)
    if (this.log.textContent !== said) {
      this.log.textContent = said
      this.log.scrollTop = this.log.scrollHeight
    }
    Object.assign(this.root.dataset, { epochs: epochs.length, running: Boolean(running) })
  }

  showExams(exams) {
    this.exams.dataset.count = exams.length
    const words = {
      off_track_per_km: 'carried back, 1/km', troubled_per_km: 'with troubles, 1/km',
      cte_p95_m: 'p95 of |cte|, m', speed_ratio: "of the expert's speed",
    }
    const rows = exams.map(({ epoch, round, cost, numbers, missed, passed, best }) => [
      `${epoch + 1}${best ? ' ★' : ''}`, `${round}`, cost.toFixed(3),
      ...Object.keys(words).map(name => [numbers[name]?.toFixed(3) ?? '', name in missed ? 'bad broken' : '']),
      passed ? 'passed' : [`misses ${Object.keys(missed).join(', ')}`, 'bad']])
    const head = ['epoch', 'round', 'cost', ...Object.values(words), '']
    this.exams.replaceChildren(exams.length ? makeTable('exams of candidates', head, rows)
      : make('p', { className: 'soft', textContent: 'no candidate has been examined yet' }))
  }

  close() {
    this.closed = true
    clearTimeout(this.later)
    this.resized.disconnect()
    this.link.close()
  }
}

export default {
  render({ model, el }) {
    const view = new Training(model, el)
    view.start()
    return () => view.close()
  },
}
