'use strict'
// Shows what the car tells twenty times a second, {status, age_ms, you, taken, others, pong} and then a picture, and says every 45 ms what its driver asks for.
const $ = id => document.getElementById(id)
const BEAT_MS = 45, LOST_MS = 500, SLOW_MS = 150
const token = new URLSearchParams(location.search).get('token')
if (token) history.replaceState(null, '', location.pathname)   // it is in a cookie now, and need not stand in the address
let socket = null, told = null, heard = -1e9, latency = null, road = null, trail = [], beats = 0

function connect() {
  socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/wsDrive?page=1' + (token ? '&token=' + encodeURIComponent(token) : ''))
  socket.binaryType = 'blob'
  socket.onmessage = e => typeof e.data === 'string' ? hear(JSON.parse(e.data)) : picture(e.data)
  socket.onclose = () => { heard = -1e9; look(); setTimeout(connect, 700) }
}

const alive = () => performance.now() - heard < LOST_MS
const drives = () => alive() && told.you

function say(message) {   // what cannot be sent at once is not sent later: it would be an old command then
  if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < 2000) socket.send(JSON.stringify(message))
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
  if (canvas.width !== image.width || canvas.height !== image.height) { canvas.width = image.width; canvas.height = image.height; canvas.style.aspectRatio = `${image.width} / ${image.height}` }
  canvas.getContext('2d').drawImage(image, 0, 0)
  image.close()
}

// ---- the stick, the keys, the gamepad: all say what they want, the strongest counts
const stick = { angle: 0, throttle: 0 }, keys = { angle: 0, throttle: 0 }, pad = { angle: 0, throttle: 0 }, held = new Set()
const clamp = x => Math.min(Math.max(x, -1), 1)
const KEYS = { ArrowLeft: 'left', ArrowRight: 'right', ArrowUp: 'up', ArrowDown: 'down', KeyJ: 'left', KeyL: 'right', KeyI: 'up', KeyK: 'down' }
const HITS = { KeyR: () => $('record').click(), KeyU: () => mode('user'), KeyS: () => mode('local_angle'), KeyA: () => mode('local') }
const DEAD = .08

function rest() {
  held.clear()
  for (const of of [stick, keys, pad]) of.angle = of.throttle = 0
}

function drag(e) {
  const box = $('pad').getBoundingClientRect(), r = box.width/2*.75
  let x = (e.clientX - box.left - box.width/2)/r, y = (box.top + box.height/2 - e.clientY)/r
  const far = Math.hypot(x, y)
  if (far > 1) { x /= far; y /= far }
  stick.angle = Math.abs(x) < DEAD ? 0 : x
  stick.throttle = Math.abs(y) < DEAD ? 0 : y
}

function leanOnKeys() {   // steering comes and goes in a few beats, the throttle comes slowly and goes at once
  const wants = (a, b) => held.has(a) - held.has(b), angle = wants('right', 'left'), throttle = wants('up', 'down')
  keys.angle = angle ? clamp(keys.angle + .16*angle) : Math.abs(keys.angle) < .3 ? 0 : keys.angle - .3*Math.sign(keys.angle)
  keys.throttle = throttle && keys.throttle*throttle >= 0 ? clamp(keys.throttle + .08*throttle) : 0
}

function readGamepad() {
  const it = [...(navigator.getGamepads?.() ?? [])].find(p => p && p.connected && p.axes.length > 1), dead = x => Math.abs(x) < DEAD ? 0 : clamp(x)
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
  const strongest = key => [stick, keys, pad].map(of => of[key]).reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a)
  return { angle: +strongest('angle').toFixed(3), throttle: +strongest('throttle').toFixed(3) }
}

function beat() {
  leanOnKeys()
  readGamepad()
  if (!drives()) rest()
  const want = wanted(), ping = performance.now()
  if (drives()) say({ ...want, ping })
  else if (beats++ % 10 === 0) say({ ping })
  $('knob').style.transform = `translate(${want.angle*4}rem, ${-want.throttle*4}rem)`
  $('angle').textContent = want.angle.toFixed(2)
  $('throttle').textContent = want.throttle.toFixed(2)
  look()
}

function estop() { rest(); push({ estop: true }) }
const mode = name => drives() && say({ drive_mode: name })

// ---- what is seen
function text(id, words) { if ($(id).textContent !== words) $(id).textContent = words }   // and no screen reader is woken for nothing

function pairs(id, rows) {   // [what, value, class] each
  const key = JSON.stringify(rows)
  if ($(id).dataset.key === key) return
  $(id).dataset.key = key
  $(id).replaceChildren(...rows.map(([what, value, how]) => {
    const pair = document.createElement('div'), dt = document.createElement('dt'), dd = document.createElement('dd')
    pair.className = 'pair ' + (how ?? '')
    dt.textContent = what
    dd.textContent = value
    pair.append(dt, dd)
    return pair
  }))
}

const MODES = { user: 'driver', local_angle: 'pilot steers', local: 'pilot drives' }
const words = name => name === 'estop' ? 'e-stop' : String(name).replaceAll('_', ' ')
const unit = (x, digits, u) => typeof x === 'number' ? x.toFixed(digits) + ' ' + u : '–'
const some = x => typeof x === 'number' ? +x.toPrecision(3) : words(x)

function look() {
  const on = alive(), s = told?.status ?? {}, you = on && told.you, stopped = s.stopped ?? [], latched = s.latched ?? stopped, still = on && (told.age_ms === null || told.age_ms > LOST_MS)
  document.body.className = on ? still ? 'still' : '' : 'off'
  text('banner', !on ? 'Not connected: the car stops.' : still ? 'The loop stands still: the car stops.' : (latched.length ? 'Stopped: ' : 'Neutral: ') + stopped.map(n => s.why?.[n] || words(n)).join(', ') + (latched.length ? '. Release, then arm.' : '.'))
  $('banner').hidden = on && !still && !stopped.length
  text('link', !on ? 'not connected' : latency === null ? 'connected' : `${latency.toFixed(0)} ms` + (latency > SLOW_MS ? ', slow' : ''))
  $('link').className = latency > SLOW_MS ? 'slow' : ''
  text('who', !on ? '–' : you ? 'you drive' : told.taken ? 'another drives' : 'nobody drives')
  $('who').classList.toggle('on', you)
  text('armed', !on ? '–' : s.armed ? 'armed' : 'disarmed')
  $('armed').classList.toggle('on', on && !!s.armed)
  text('take', you ? 'Give up' : told?.taken ? 'Take over' : 'Take wheel')
  $('take').disabled = $('estop').disabled = !on
  $('take').classList.toggle('primary', on && !you)
  $('arm').disabled = !you || !!s.armed || latched.length > 0
  $('arm').classList.toggle('primary', !$('arm').disabled)
  $('release').disabled = !you || !latched.length
  $('release').classList.toggle('primary', !$('release').disabled)
  $('driving').disabled = !you
  if (told) { driving(s); state(s, on); map(s) }
}

function driving(s) {
  text('mode-now', MODES[s.mode] ?? '')
  for (const b of $('modes').children) b.ariaPressed = b.dataset.mode === s.mode
  $('rec').classList.toggle('on', !!s.recording)
  $('record').ariaPressed = !!s.recording
  text('record', s.recording ? 'Stop recording' : 'Record')
  text('records', (s.records ?? 0).toLocaleString('en'))
  const note = [s.recording_note, s.dropped ? `${s.dropped} dropped: the disk is slow` : ''].filter(x => x).join('; ')
  text('rec-note', note && (s.recording_failed ? `Recording stopped: ${note}` : note))
  $('rec-note').hidden = !note
  $('rec-note').classList.toggle('bad', !!s.recording_failed)
  text('upload', s.upload_waiting === undefined ? '' : s.upload_error ? `not uploaded: ${s.upload_error}` : s.upload_waiting ? `${s.upload_waiting} tub${s.upload_waiting > 1 ? 's' : ''} not in the remote yet` : 'all finished tubs are in the remote')
  $('upload').hidden = s.upload_waiting === undefined
  text('disk', typeof s.disk_left_mb !== 'number' ? '' : s.disk_left_mb < 1000 ? `${s.disk_left_mb.toFixed(0)} MB left` : `${(s.disk_left_mb/1000).toFixed(1)} GB left`)
  if (performance.now() - limitMoved > 600 && s.throttle_limit !== undefined) $('limit').value = s.throttle_limit
  text('limit-now', `${Math.round($('limit').value*100)} %`)
  const names = s.models ?? [], list = $('models'), before = list.value
  if (list.dataset.key !== JSON.stringify(names)) {
    list.dataset.key = JSON.stringify(names)
    list.replaceChildren(...names.map(name => new Option(name)))
    list.value = names.includes(before) ? before : s.model?.name ?? ''
  }
  text('load', list.value && list.value === s.model?.name ? 'Reload' : 'Load')
}

function state(s, on) {
  const m = s.model ?? {}
  text('model', m.name ? `${m.name} ${m.digest ? String(m.digest).replace('sha256:', '').slice(0, 12) : ''}` : 'no pilot')
  $('model').title = m.digest ?? ''
  const gate = Object.entries(m.gate ?? {})
  pairs('gate', gate.length ? gate.map(([k, v]) => [words(k), some(v), v === 'not passed' ? 'slow' : '']) : m.name ? [['gate', 'no manifest']] : [])
  const late = (x, most) => x > most ? 'slow' : ''
  pairs('timing', [['rate', unit(s.loop_hz, 0, 'Hz')], ['turn p50', unit(s.loop_p50_ms, 1, 'ms')], ['turn p99', unit(s.loop_p99_ms, 1, 'ms')], ['inference', unit(s.inference_ms, 1, 'ms')],
    ['frame age', unit(s.frame_age_ms, 0, 'ms'), (s.stopped ?? []).some(n => n === 'frame' || n === 'delayed') ? 'slow' : ''],
    ['to wheels p50', unit(s.latency_p50_ms, 0, 'ms'), s.latency_outside ? 'slow' : ''], ['to wheels p95', unit(s.latency_p95_ms, 0, 'ms'), s.latency_outside ? 'slow' : ''],
    ['examined at', s.latency_examined_ms ? `${s.latency_examined_ms.join('–')} ms` : m.name ? 'not examined' : '–'], ['link', unit(on ? latency : null, 0, 'ms'), late(latency, SLOW_MS)], ['looking on', String(told.others)]])
  text('latency-note', s.latency_warning ?? '')
  $('latency-note').hidden = !s.latency_warning
  text('frame-fit', s.frame_fit ? `frames: ${s.frame_fit}` : '')
  $('frame-fit').hidden = !s.frame_fit
  const stopped = new Set(s.stopped ?? []), causes = { ...Object.fromEntries([...stopped].map(n => [n, ''])), ...(s.faults ?? {}) }
  pairs('faults', Object.entries(causes).filter(([n, c]) => c || stopped.has(n)).map(([n, c]) => [(s.why?.[n] || words(n)) + (stopped.has(n) ? ', now' : ''), c, stopped.has(n) ? 'latched' : '']))
  $('none').hidden = $('faults').children.length > 0
  text('speed', s.speed_m_s === undefined || s.speed_m_s === null ? '' : `${(Math.round(s.speed_m_s*100)/100 || 0).toFixed(2)} m/s`)   // no -0.00
  text('laps', String(s.laps ?? 0))
  text('cte', unit(s.cte_m, 2, 'm'))
  const bar = (id, x) => Object.assign($(id).style, { left: `${50 + 50*Math.min(x, 0)}%`, width: `${50*Math.abs(x)}%` })
  const want = wanted()
  bar('bar-angle', s.angle ?? want.angle)
  bar('bar-throttle', s.throttle ?? want.throttle)
}

function map(s) {
  const at = s.map ?? {}
  if (at.road && at.road !== road) { road = at.road; trail = [] }
  $('map-card').hidden = !road || at.x === undefined
  if ($('map-card').hidden) return
  const last = trail.at(-1)
  if (last && Math.hypot(last[0] - at.x, last[1] - at.y) > 1) trail = []   // put back to the start
  if (!last || last[0] !== at.x || last[1] !== at.y) trail.push([at.x, at.y])
  if (trail.length > 300) trail.shift()
  const canvas = $('map'), k = devicePixelRatio, w = canvas.clientWidth, h = canvas.clientHeight, draw = canvas.getContext('2d')
  canvas.width = w*k
  canvas.height = h*k
  draw.scale(k, k)
  const all = [...road.left, ...road.right], xs = all.map(p => p[0]), ys = all.map(p => p[1])
  const x0 = Math.min(...xs), x1 = Math.max(...xs), y0 = Math.min(...ys), y1 = Math.max(...ys), scale = Math.min((w - 30)/(x1 - x0), (h - 30)/(y1 - y0))
  const place = ([x, y]) => [w/2 + (x - (x0 + x1)/2)*scale, h/2 - (y - (y0 + y1)/2)*scale]
  const path = (points, close) => { draw.beginPath(); for (const p of points) draw.lineTo(...place(p)); if (close) draw.closePath() }
  draw.fillStyle = '#3a3f45'
  draw.beginPath()
  for (const edge of [road.left, road.right]) { edge.forEach((p, i) => i ? draw.lineTo(...place(p)) : draw.moveTo(...place(p))); draw.closePath() }
  draw.fill('evenodd')
  draw.strokeStyle = '#d2d6da'
  for (const edge of [road.left, road.right]) { path(edge, true); draw.stroke() }
  draw.fillStyle = '#e8710a'
  for (const cone of road.cones ?? []) { draw.beginPath(); draw.arc(...place(cone), 3, 0, 7); draw.fill() }
  draw.strokeStyle = '#4da3ff'
  draw.lineWidth = 2
  path(trail)
  draw.stroke()
  draw.translate(...place([at.x, at.y]))
  draw.rotate(-(at.yaw ?? 0))
  draw.fillStyle = '#4da3ff'
  draw.strokeStyle = '#fff'
  draw.beginPath()
  for (const [x, y] of [[9, 0], [-7, -5], [-7, 5]]) draw.lineTo(x, y)
  draw.closePath()
  draw.fill()
  draw.stroke()
}

// ---- who does what
let limitMoved = -1e9
$('take').onclick = () => { rest(); say({ take: !told.you }) }
$('arm').onclick = () => push({ arm: true })
$('release').onclick = () => push({ release: true })
$('estop').onclick = estop
for (const b of $('modes').children) b.onclick = () => mode(b.dataset.mode)
$('record').onclick = () => drives() && say({ recording: !told.status.recording })
$('erase').onclick = () => push({ erase: Math.max(1, Math.round(+$('erase-n').value || 1)) })
$('load').onclick = () => $('models').value && push({ model: $('models').value })
$('models').onchange = look
$('limit').oninput = () => { limitMoved = performance.now(); push({ throttle_limit: +$('limit').value }); look() }

$('pad').onpointerdown = e => { if (drives()) { $('pad').setPointerCapture(e.pointerId); drag(e); e.preventDefault() } }
$('pad').onpointermove = e => $('pad').hasPointerCapture(e.pointerId) && drag(e)
$('pad').onpointerup = $('pad').onpointercancel = $('pad').onlostpointercapture = () => { stick.angle = stick.throttle = 0 }

addEventListener('keydown', e => {
  if (e.target.matches('input[type=number], input[type=password], select') || e.ctrlKey || e.metaKey || e.altKey) return
  if (e.code === 'Space') estop()
  else if (KEYS[e.code]) held.add(KEYS[e.code])
  else if (HITS[e.code] && !e.repeat) HITS[e.code]()
  else return
  e.preventDefault()
})
addEventListener('keyup', e => { held.delete(KEYS[e.code]); if (e.code === 'Space') e.preventDefault() })
addEventListener('blur', rest)
addEventListener('pagehide', () => say({ take: false }))
document.addEventListener('visibilitychange', () => { if (document.hidden) { rest(); if (drives()) say({ take: false }) } })

setInterval(beat, BEAT_MS)
connect()
