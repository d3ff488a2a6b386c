import { make } from './draw.js'
import { DELETED, STUB } from './tub_data.js'

// A frame as large as it was recorded, which the browser enlarges; over it the commands, below it the fields.
export class Stage {
  constructor() {
    this.canvas = make('canvas', { aria: { role: 'img', 'aria-label': 'frame' } })
    this.draw = this.canvas.getContext('2d', { alpha: false })
    this.needle = make('div', { className: 'needle' })
    this.bar = make('div', { className: 'bar' })
    this.banner = make('div', { className: 'banner' })
    this.element = make('div', { className: 'stage' }, this.canvas, this.needle, this.bar, this.banner)
    this.values = make('dl', { className: 'values' })
  }

  show(tub, place, { bitmap, record, fault }) {
    this.showPicture(bitmap)
    this.showCommands(tub.steering[place], tub.throttle[place])
    const deleted = tub.flags[place] & DELETED
    const about = tub.flags[place] & STUB ? 'no record, left by a repair' : deleted ? 'deleted' : ''
    this.banner.textContent = fault || about
    this.banner.classList.toggle('wrong', Boolean(fault || deleted))
    this.showFields({ record: `${tub.index[place]}`, ...record })
  }

  showPicture(bitmap) {
    if (bitmap && (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height)) {
      this.canvas.width = bitmap.width
      this.canvas.height = bitmap.height
    }
    if (bitmap instanceof ImageData) this.draw.putImageData(bitmap, 0, 0)
    else if (bitmap) this.draw.drawImage(bitmap, 0, 0)
    else this.draw.fillRect(0, 0, this.canvas.width, this.canvas.height)
  }

  // Turn the needle by the steering, and let the bar grow up or down from the middle by the throttle.
  showCommands(steering, throttle) {
    this.needle.style.visibility = Number.isNaN(steering) ? 'hidden' : 'visible'
    this.needle.style.transform = `rotate(${60 * steering}deg)`
    this.bar.style.visibility = Number.isNaN(throttle) ? 'hidden' : 'visible'
    this.bar.style.transform = `scaleY(${throttle})`
  }

  // Write the fields; their places are made anew only when a record has others.
  showFields(fields) {
    const names = Object.keys(fields).join()
    if (this.names !== names) {
      this.names = names
      const row = name => [make('dt', { textContent: name }), make('dd')]
      this.values.replaceChildren(...Object.keys(fields).flatMap(row))
    }
    const places = this.values.querySelectorAll('dd')
    Object.values(fields).forEach((value, i) => (places[i].textContent = value))
  }
}
