import { typed } from './link.js'

export const DELETED = 1 // flags of a record
export const STUB = 2
export const UNUSABLE = 4
const KEPT_FRAMES = 200 // decoded
const IN_FLIGHT = 2 // frames that are asked for at once while a person scrubs

// Return the pixels of a frame that has come decoded.
function pixelsOf({ size: [height, width], buffers: [view] }) {
  return new ImageData(new Uint8ClampedArray(view.buffer, view.byteOffset, view.byteLength), width, height)
}

// What a view knows of a tub: its columns, its flags, and frames as they are asked for.
export class TubData {
  constructor(link) {
    this.link = link
    this.count = 0
    this.frames = new Map() // place -> {bitmap, record, fault}, the oldest first
    this.flying = new Set()
    this.wanted = null
    this.onframe = () => {}
    this.generation = 0 // of the tub that is open
  }

  // Open one of the tubs.
  async open(number) {
    const answer = await this.link.ask('open', { tub: number })
    const [index, steering, throttle, sessions, flags] = answer.buffers
    Object.assign(this, { path: answer.path, count: answer.count, wanted: null })
    this.index = typed(Float64Array, index)
    this.steering = typed(Float32Array, steering)
    this.throttle = typed(Float32Array, throttle)
    this.sessions = typed(Int32Array, sessions)
    this.flags = typed(Uint8Array, flags)
    this.generation++
    for (const { bitmap } of this.frames.values()) bitmap?.close?.()
    this.frames.clear()
    this.flying.clear()
  }

  // Count the records that are marked as deleted.
  deletedCount() {
    let count = 0
    for (let i = 0; i < this.count; i++) count += this.flags[i] & DELETED
    return count
  }

  // Say which frame a person wants to see; only the newest wish counts.
  want(place) {
    if (place >= this.count) return
    this.wanted = place
    const kept = this.frames.get(place)
    if (kept) this.onframe(place, kept)
    else this.pump()
  }

  // Fetch frames that will be wanted soon.
  prefetch(from, number) {
    for (let i = from; i < Math.min(from + number, this.count); i++) {
      if (!this.frames.has(i) && !this.flying.has(i) && this.flying.size < IN_FLIGHT + number) this.fetch(i)
    }
  }

  pump() {
    const missing = this.wanted !== null && !this.frames.has(this.wanted) && !this.flying.has(this.wanted)
    if (missing && this.flying.size < IN_FLIGHT) this.fetch(this.wanted)
  }

  async fetch(place) {
    const generation = this.generation
    this.flying.add(place)
    let frame
    try {
      const answer = await this.link.ask('frame', { place })
      frame = { record: answer.record, fault: answer.fault, bitmap: null }
      if (answer.size) frame.bitmap = pixelsOf(answer)
      else if (answer.buffers.length) frame.bitmap = await createImageBitmap(new Blob([answer.buffers[0]]))
    } catch (error) {
      frame = { record: frame?.record ?? {}, fault: frame ? 'a browser cannot show it' : error.message }
    }
    if (generation !== this.generation) return frame.bitmap?.close?.()
    this.flying.delete(place)
    this.keep(place, frame)
    if (place === this.wanted) this.onframe(place, frame)
    this.pump()
  }

  keep(place, frame) {
    this.frames.set(place, frame)
    if (this.frames.size <= KEPT_FRAMES) return
    const [oldest, { bitmap }] = this.frames.entries().next().value
    this.frames.delete(oldest)
    if (oldest !== this.wanted) bitmap?.close?.()
  }

  // Delete or restore ranges of places, or take the last of those back; return what Python says of it.
  async edit(what, ranges = []) {
    const answer = await this.link.ask(what, { ranges })
    this.flags = typed(Uint8Array, answer.buffers[0])
    return answer
  }

  // Return the mask of the records for which an expression holds.
  async filter(expression) {
    return typed(Uint8Array, (await this.link.ask('filter', { expression })).buffers[0])
  }

  // Return the places of a record's number; there are two where a number was used twice.
  placeOf(index) {
    return this.index.lastIndexOf(index)
  }
}
