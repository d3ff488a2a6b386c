'use strict'
// The page of a car. Twenty times a second the car sends {status, age_ms, you, taken, others, pong}, then a
// picture. Every 45 ms the page sends what its driver asks for.
const $ = id => document.getElementById(id)
const BEAT_MS = 45
const LOST_MS = 500
const SLOW_MS = 150
const token = new URLSearchParams(location.search).get('token')
// the token is in a cookie now, and need not stand in the address
if (token) history.replaceState(null, '', location.pathname)
let socket = null
let told = null
let heard = -1e9
let latency = null
let road = null
let trail = []
let beats = 0

function connect() {
  socket = new WebSocket(
    location.origin.replace(/^http/, 'ws') +
      '/wsDrive?page=1' +
      (token ? '&token=' + encodeURIComponent(token) : ''),
  )
  socket.binaryType = 'blob'
  socket.onmessage = e => (typeof e.data === 'string' ? hear(JSON.parse(e.data)) : picture(e.data))
  socket.onclose = () => {
    heard = -1e9
    look()
    setTimeout(connect, 700)
  }
}

const alive = () => performance.now() - heard < LOST_MS
const drives = () => alive() && told.you

// what cannot be sent at once is not sent later: it would be an old command then
function say(message) {
  if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 2000)
    socket.send(JSON.stringify(message))
}
const push = buttons => say({ buttons })

function hear(news) {
  told = news
  heard = performance.now()
  if (news.pong) latency = Math.max(heard - news.pong[0] - news.pong[1], 0)
  look()
}

async function picture(blob) {
  const image = await createImageBitmap(blob).catch(() => null)
  if (!image) return
  const canvas = $('camera')
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width
    canvas.height = image.height
    canvas.style.aspectRatio = `${image.width} / ${image.height}`
  }
  canvas.getContext('2d').drawImage(image, 0, 0)
  image.close()
}

// ---- the stick, the keys, the gamepad: all say what they want, the strongest counts
const stick = { angle: 0, throttle: 0 }
const keys = { angle: 0, throttle: 0 }
const pad = { angle: 0, throttle: 0 }
const held = new Set()
const clamp = x => Math.min(Math.max(x, -1), 1)
const KEYS = {
  ArrowLeft: 'left',
  ArrowRight: 'right',
  ArrowUp: 'up',
  ArrowDown: 'down',
  KeyJ: 'left',
  KeyL: 'right',
  KeyI: 'up',
  KeyK: 'down',
}
const HITS = {
  KeyR: () => $('record').click(),
  KeyU: () => mode('user'),
  KeyS: () => mode('local_angle'),
  KeyA: () => mode('local'),
}
const DEAD = 0.08

function rest() {
  held.clear()
  for (const of of [stick, keys, pad]) of.angle = of.throttle = 0
}

function drag(e) {
  const box = $('pad').getBoundingClientRect()
  const r = (box.width / 2) * 0.75
  let x = (e.clientX - box.left - box.width / 2) / r
  let y = (box.top + box.height / 2 - e.clientY) / r
  const far = Math.hypot(x, y)
  if (far > 1) {
    x /= far
    y /= far
  }
  stick.angle = Math.abs(x) < DEAD ? 0 : x
  stick.throttle = Math.abs(y) < DEAD ? 0 : y
}

const towardsZero = (x, step) => (Math.abs(x) < step ? 0 : x - step * Math.sign(x))

// steering comes and goes in a few beats, the throttle comes slowly and goes at once
function leanOnKeys() {
  const wants = (a, b) => held.has(a) - held.has(b)
  const angle = wants('right', 'left')
  const throttle = wants('up', 'down')
  keys.angle = angle ? clamp(keys.angle + 0.16 * angle) : towardsZero(keys.angle, 0.3)
  keys.throttle = throttle && keys.throttle * throttle >= 0 ? clamp(keys.throttle + 0.08 * throttle) : 0
}

function readGamepad() {
  const it = [...(navigator.getGamepads?.() ?? [])].find(p => p && p.connected && p.axes.length > 1)
  const dead = x => (Math.abs(x) < DEAD ? 0 : clamp(x))
  const was = pad.down ?? []
  Object.assign(pad, { angle: 0, throttle: 0, down: it ? it.buttons.map(b => b.pressed) : [] })
  if (!it) return
  const pulled = (it.buttons[7]?.value ?? 0) - (it.buttons[6]?.value ?? 0)
  pad.angle = dead(it.axes[0])
  pad.throttle = dead(pulled || -(it.axes[3] ?? it.axes[1]))
  if (pad.down[1] && !was[1]) estop()
  if (pad.down[3] && !was[3]) $('record').click()
}

function wanted() {
  const strongest = key =>
    [stick, keys, pad].map(of => of[key]).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a))
  return { angle: +strongest('angle').toFixed(3), throttle: +strongest('throttle').toFixed(3) }
}

function beat() {
  leanOnKeys()
  readGamepad()
  if (!drives()) rest()
  const want = wanted()
  const ping = performance.now()
  if (drives()) say({ ...want, ping })
  else if (beats++ % 10 === 0) say({ ping })
  $('knob').style.transform = `translate(${want.angle * 4}rem, ${-want.throttle * 4}rem)`
  $('angle').textContent = want.angle.toFixed(2)
  $('throttle').textContent = want.throttle.toFixed(2)
  look()
}

function estop() {
  rest()
  push({ estop: true })
}
const mode = name => drives() && say({ drive_mode: name })

// ---- what is seen
// change a text, and wake no screen reader for nothing
function text(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words
}

// show rows of [what, value, class]
function pairs(id, rows) {
  const key = JSON.stringify(rows)
  if ($(id).dataset.key === key) return
  $(id).dataset.key = key
  $(id).replaceChildren(
    ...rows.map(([what, value, how]) => {
      const pair = document.createElement('div')
      const dt = document.createElement('dt')
      const dd = document.createElement('dd')
      pair.className = 'pair ' + (how ?? '')
      dt.textContent = what
      dd.textContent = value
      pair.append(dt, dd)
      return pair
    }),
  )
}

const MODES = { user: 'driver', local_angle: 'pilot steers', local: 'pilot drives' }
const words = name => (name === 'estop' ? 'e-stop' : String(name).replaceAll('_', ' '))
const unit = (x, digits, u) => (typeof x === 'number' ? x.toFixed(digits) + ' ' + u : '–')
const some = x => (typeof x === 'number' ? +x.toPrecision(3) : words(x))

// show a note, or hide it when it is empty
function note(id, words) {
  text(id, words)
  $(id).hidden = !words
}

function bannerText(on, still, stopped, latched, why) {
  if (!on) return 'Not connected: the car stops.'
  if (still) return 'The loop stands still: the car stops.'
  const causes = stopped.map(n => why?.[n] || words(n)).join(', ')
  return latched.length ? `Stopped: ${causes}. Release, then arm.` : `Neutral: ${causes}.`
}

function linkText(on) {
  if (!on) return 'not connected'
  if (latency === null) return 'connected'
  return `${latency.toFixed(0)} ms` + (latency > SLOW_MS ? ', slow' : '')
}

function whoText(on, you) {
  if (!on) return '–'
  if (you) return 'you drive'
  return told.taken ? 'another drives' : 'nobody drives'
}

function takeText(you) {
  if (you) return 'Give up'
  return told?.taken ? 'Take over' : 'Take wheel'
}

function look() {
  const on = alive()
  const s = told?.status ?? {}
  const you = on && told.you
  const still = on && (told.age_ms === null || told.age_ms > LOST_MS)
  document.body.className = on ? '' : 'off'
  document.body.classList.toggle('still', still)
  head(s, on, you, still)
  buttons(s, on, you)
  if (!told) return
  driving(s)
  state(s, on)
  map(s)
}

// the banner and the line above it
function head(s, on, you, still) {
  const stopped = s.stopped ?? []
  text('banner', bannerText(on, still, stopped, s.latched ?? stopped, s.why))
  $('banner').hidden = on && !still && !stopped.length
  text('link', linkText(on))
  $('link').className = latency > SLOW_MS ? 'slow' : ''
  text('who', whoText(on, you))
  $('who').classList.toggle('on', you)
  text('armed', on ? (s.armed ? 'armed' : 'disarmed') : '–')
  $('armed').classList.toggle('on', on && !!s.armed)
}

// which buttons can be pressed, and which one is due
function buttons(s, on, you) {
  const latched = s.latched ?? s.stopped ?? []
  text('take', takeText(you))
  $('take').disabled = $('estop').disabled = !on
  $('take').classList.toggle('primary', on && !you)
  $('arm').disabled = !you || !!s.armed || latched.length > 0
  $('arm').classList.toggle('primary', !$('arm').disabled)
  $('release').disabled = !you || !latched.length
  $('release').classList.toggle('primary', !$('release').disabled)
  $('driving').disabled = !you
}

function uploadText(s) {
  if (s.upload_waiting === undefined) return ''
  if (s.upload_error) return `not uploaded: ${s.upload_error}`
  if (!s.upload_waiting) return 'all finished tubs are in the remote'
  return `${s.upload_waiting} tub${s.upload_waiting > 1 ? 's' : ''} not in the remote yet`
}

function diskText(left_mb) {
  if (typeof left_mb !== 'number') return ''
  return left_mb < 1000 ? `${left_mb.toFixed(0)} MB left` : `${(left_mb / 1000).toFixed(1)} GB left`
}

function recording(s) {
  $('rec').classList.toggle('on', !!s.recording)
  $('record').ariaPressed = !!s.recording
  text('record', s.recording ? 'Stop recording' : 'Record')
  text('records', (s.records ?? 0).toLocaleString('en'))
  const dropped = s.dropped ? `${s.dropped} dropped: the disk is slow` : ''
  const reasons = [s.recording_note, dropped].filter(x => x).join('; ')
  note('rec-note', reasons && (s.recording_failed ? `Recording stopped: ${reasons}` : reasons))
  $('rec-note').classList.toggle('bad', !!s.recording_failed)
  note('upload', uploadText(s))
  text('disk', diskText(s.disk_left_mb))
}

function driving(s) {
  text('mode-now', MODES[s.mode] ?? '')
  for (const b of $('modes').children) b.ariaPressed = b.dataset.mode === s.mode
  recording(s)
  if (performance.now() - limitMoved > 600 && s.throttle_limit !== undefined)
    $('limit').value = s.throttle_limit
  text('limit-now', `${Math.round($('limit').value * 100)} %`)
  const names = s.models ?? []
  const list = $('models')
  const before = list.value
  if (list.dataset.key !== JSON.stringify(names)) {
    list.dataset.key = JSON.stringify(names)
    list.replaceChildren(...names.map(name => new Option(name)))
    list.value = names.includes(before) ? before : (s.model?.name ?? '')
  }
  text('load', list.value && list.value === s.model?.name ? 'Reload' : 'Load')
}

function pilot(s) {
  const m = s.model ?? {}
  const digest = String(m.digest ?? '').replace('sha256:', '')
  text('model', m.name ? `${m.name} ${digest.slice(0, 12)}` : 'no pilot')
  $('model').title = m.digest ?? ''
  const found = Object.entries(m.gate ?? {})
  if (m.name && !found.length) return pairs('gate', [['gate', 'no manifest']])
  pairs(
    'gate',
    found.map(([what, value]) => [words(what), some(value), value === 'not passed' ? 'slow' : '']),
  )
}

function examinedText(s) {
  if (s.latency_examined_ms) return `${s.latency_examined_ms.join('–')} ms`
  return s.model?.name ? 'not examined' : '–'
}

function timing(s, on) {
  const slow = yes => (yes ? 'slow' : '')
  const late = (s.stopped ?? []).some(n => n === 'frame' || n === 'delayed')
  pairs('timing', [
    ['rate', unit(s.loop_hz, 0, 'Hz')],
    ['turn p50', unit(s.loop_p50_ms, 1, 'ms')],
    ['turn p99', unit(s.loop_p99_ms, 1, 'ms')],
    ['inference', unit(s.inference_ms, 1, 'ms')],
    ['frame age', unit(s.frame_age_ms, 0, 'ms'), slow(late)],
    ['to wheels p50', unit(s.latency_p50_ms, 0, 'ms'), slow(s.latency_outside)],
    ['to wheels p95', unit(s.latency_p95_ms, 0, 'ms'), slow(s.latency_outside)],
    ['examined at', examinedText(s)],
    ['link', unit(on ? latency : null, 0, 'ms'), slow(latency > SLOW_MS)],
    ['looking on', String(told.others)],
  ])
  note('latency-note', s.latency_warning ?? '')
  note('frame-fit', s.frame_fit ? `frames: ${s.frame_fit}` : '')
}

// how often each cause was a reason not to drive, and which hold now
function faults(s) {
  const now = new Set(s.stopped ?? [])
  const counts = { ...Object.fromEntries([...now].map(n => [n, ''])), ...(s.faults ?? {}) }
  const rows = Object.entries(counts)
    .filter(([n, count]) => count || now.has(n))
    .map(([n, count]) => {
      const why = s.why?.[n] || words(n)
      return now.has(n) ? [`${why}, now`, count, 'latched'] : [why, count, '']
    })
  pairs('faults', rows)
  $('none').hidden = rows.length > 0
}

function state(s, on) {
  pilot(s)
  timing(s, on)
  faults(s)
  const speed = Math.round((s.speed_m_s ?? 0) * 100) / 100 || 0 // no -0.00
  text('speed', s.speed_m_s === undefined || s.speed_m_s === null ? '' : `${speed.toFixed(2)} m/s`)
  text('laps', String(s.laps ?? 0))
  text('cte', unit(s.cte_m, 2, 'm'))
  const want = wanted()
  bar('bar-angle', s.angle ?? want.angle)
  bar('bar-throttle', s.throttle ?? want.throttle)
}

// a bar from the middle to the left or the right
function bar(id, x) {
  const left = `${50 + 50 * Math.min(x, 0)}%`
  const width = `${50 * Math.abs(x)}%`
  Object.assign($(id).style, { left, width })
}

// what the car has driven since it was put on the road
function extendTrail(at) {
  if (at.road && at.road !== road) {
    road = at.road
    trail = []
  }
  if (at.x === undefined) return
  const last = trail.at(-1)
  if (last && Math.hypot(last[0] - at.x, last[1] - at.y) > 1) trail = [] // put back to the start
  if (!last || last[0] !== at.x || last[1] !== at.y) trail.push([at.x, at.y])
  if (trail.length > 300) trail.shift()
}

// from metres to pixels, so that the road fills the canvas
function placeOnCanvas(w, h) {
  const all = [...road.left, ...road.right]
  const xs = all.map(p => p[0])
  const ys = all.map(p => p[1])
  const x0 = Math.min(...xs)
  const x1 = Math.max(...xs)
  const y0 = Math.min(...ys)
  const y1 = Math.max(...ys)
  const scale = Math.min((w - 30) / (x1 - x0), (h - 30) / (y1 - y0))
  return ([x, y]) => [w / 2 + (x - (x0 + x1) / 2) * scale, h / 2 - (y - (y0 + y1) / 2) * scale]
}

function drawRoad(draw, place) {
  draw.fillStyle = '#3a3f45'
  draw.strokeStyle = '#d2d6da'
  draw.beginPath()
  for (const edge of [road.left, road.right]) {
    edge.forEach((p, i) => (i ? draw.lineTo(...place(p)) : draw.moveTo(...place(p))))
    draw.closePath()
  }
  draw.fill('evenodd')
  draw.stroke()
  draw.fillStyle = '#e8710a'
  for (const cone of road.cones ?? []) {
    draw.beginPath()
    draw.arc(...place(cone), 3, 0, 7)
    draw.fill()
  }
}

function drawCar(draw, place, at) {
  draw.strokeStyle = '#4da3ff'
  draw.lineWidth = 2
  draw.beginPath()
  for (const p of trail) draw.lineTo(...place(p))
  draw.stroke()
  draw.translate(...place([at.x, at.y]))
  draw.rotate(-(at.yaw ?? 0))
  draw.fillStyle = '#4da3ff'
  draw.strokeStyle = '#fff'
  draw.beginPath()
  draw.moveTo(9, 0)
  draw.lineTo(-7, -5)
  draw.lineTo(-7, 5)
  draw.closePath()
  draw.fill()
  draw.stroke()
}

function map(s) {
  const at = s.map ?? {}
  extendTrail(at)
  $('map-card').hidden = !road || at.x === undefined
  if ($('map-card').hidden) return
  const canvas = $('map')
  const ratio = devicePixelRatio
  const w = canvas.clientWidth
  const h = canvas.clientHeight
  const draw = canvas.getContext('2d')
  canvas.width = w * ratio
  canvas.height = h * ratio
  draw.scale(ratio, ratio)
  const place = placeOnCanvas(w, h)
  drawRoad(draw, place)
  drawCar(draw, place, at)
}

// ---- who does what
let limitMoved = -1e9
$('take').onclick = () => {
  rest()
  say({ take: !told.you })
}
$('arm').onclick = () => push({ arm: true })
$('release').onclick = () => push({ release: true })
$('estop').onclick = estop
for (const b of $('modes').children) b.onclick = () => mode(b.dataset.mode)
$('record').onclick = () => drives() && say({ recording: !told.status.recording })
$('erase').onclick = () => push({ erase: Math.max(1, Math.round(+$('erase-n').value || 1)) })
$('load').onclick = () => $('models').value && push({ model: $('models').value })
$('models').onchange = look
$('limit').oninput = () => {
  limitMoved = performance.now()
  push({ throttle_limit: +$('limit').value })
  look()
}

$('pad').onpointerdown = e => {
  if (drives()) {
    $('pad').setPointerCapture(e.pointerId)
    drag(e)
    e.preventDefault()
  }
}
$('pad').onpointermove = e => $('pad').hasPointerCapture(e.pointerId) && drag(e)
$('pad').onpointerup =
  $('pad').onpointercancel =
  $('pad').onlostpointercapture =
    () => {
      stick.angle = stick.throttle = 0
    }

addEventListener('keydown', e => {
  if (
    e.target.matches('input[type=number], input[type=password], select') ||
    e.ctrlKey ||
    e.metaKey ||
    e.altKey
  )
    return
  if (e.code === 'Space') estop()
  else if (KEYS[e.code]) held.add(KEYS[e.code])
  else if (HITS[e.code] && !e.repeat) HITS[e.code]()
  else return
  e.preventDefault()
})
addEventListener('keyup', e => {
  held.delete(KEYS[e.code])
  if (e.code === 'Space') e.preventDefault()
})
addEventListener('blur', rest)
addEventListener('pagehide', () => say({ take: false }))
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    rest()
    if (drives()) say({ take: false })
  }
})

setInterval(beat, BEAT_MS)
connect()
