'use strict'
// The page of a car. Twenty times a second the car sends {status, age_ms, now_ms, you, taken, others, pong},
// then a picture. Every 45 ms the page sends what its driver asks for.
const SEND_EVERY_MS = 45
const RECONNECT_MS = 700
const LOST_MS = 500 // the connection is lost after so long without a message
const SLOW_MS = 150 // a connection with more latency is shown as slow
const UNSENT_BYTES = 2000 // nothing is sent while so much waits
const LIMIT_HELD_MS = 600 // a slider that was moved keeps its place for so long
const DEAD_ZONE = 0.08 // a smaller deflection of a stick counts as 0
const TRAIL_LENGTH = 300 // positions on the map

// Find an element by its id.
const $ = id => document.getElementById(id)

// ---- connection
const token = new URLSearchParams(location.search).get('token')
// the token is in a cookie now, and need not stand in the address
if (token) history.replaceState(null, '', location.pathname)

let socket = null
let latest = null // the newest message of the car
let receivedMs = -Infinity // when it came
let latencyMs = null // there and back, without the time that the car waited
let idleTicks = 0 // ticks without control
let stopIsWanted = false // until the car has latched the stop

// Open the socket; open it again whenever it closes.
function connect() {
  const query = token ? `?page=1&token=${encodeURIComponent(token)}` : '?page=1'
  socket = new WebSocket(new URL('wsDrive', location.href).href.replace(/^http/, 'ws') + query)
  socket.binaryType = 'blob'
  socket.onmessage = event => {
    if (typeof event.data === 'string') receive(JSON.parse(event.data))
    else showPicture(event.data)
  }
  socket.onclose = () => {
    receivedMs = -Infinity
    render()
    setTimeout(connect, RECONNECT_MS)
  }
}

// Tell whether the car was heard lately.
const isConnected = () => performance.now() - receivedMs < LOST_MS

// Tell whether this page has control of the car.
const isDriver = () => isConnected() && latest.you

// Send a message now or never: a message that waits would be an old command when it arrives. The car's own
// time goes back with it, so that the car knows an old command that was held up on its way.
function send(message) {
  if (socket.readyState !== WebSocket.OPEN || socket.bufferedAmount >= UNSENT_BYTES) return
  socket.send(JSON.stringify({ ...message, echo: latest?.now_ms }))
}

// Send the stop, however much waits; where the socket is closed or held up, by another way too.
function sendStop() {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ buttons: { estop: true } }))
  if (socket.readyState === WebSocket.OPEN && socket.bufferedAmount < UNSENT_BYTES) return
  fetch('stop', { method: 'POST', keepalive: true }).catch(() => null)
}

// Send the names of pressed buttons.
const press = buttons => send({ buttons })

// Keep a message of the car, and show it.
function receive(message) {
  latest = message
  receivedMs = performance.now()
  if (latchedBy(message.status).includes('page')) stopIsWanted = false
  if (message.pong) {
    const [sentMs, waitedMs] = message.pong
    latencyMs = Math.max(receivedMs - sentMs - waitedMs, 0)
  }
  render()
}

// ---- commands: joystick, keys and gamepad each ask for something, the strongest counts
const joystick = { angle: 0, throttle: 0 }
const keys = { angle: 0, throttle: 0 }
const gamepad = { angle: 0, throttle: 0 }
const heldDirections = new Set() // of the keys that are down
let gamepadButtons = [] // true: was down at the last reading
let limitMovedMs = -Infinity // when the driver last moved the slider

const KEY_DIRECTIONS = {
  ArrowLeft: 'left',
  ArrowRight: 'right',
  ArrowUp: 'up',
  ArrowDown: 'down',
  KeyJ: 'left',
  KeyL: 'right',
  KeyI: 'up',
  KeyK: 'down',
}
const SHORTCUTS = {
  KeyR: () => $('record').click(),
  KeyU: () => setMode('user'),
  KeyS: () => setMode('local_angle'),
  KeyA: () => setMode('local'),
}
// places in the standard layout of a gamepad
const BUTTON = { estop: 1, record: 3, leftTrigger: 6, rightTrigger: 7 }
const AXIS = { leftX: 0, leftY: 1, rightY: 3 }

const clamp = x => Math.min(Math.max(x, -1), 1)
const withDeadZone = x => (Math.abs(x) < DEAD_ZONE ? 0 : clamp(x))
const towardsZero = (x, step) => (Math.abs(x) < step ? 0 : x - step * Math.sign(x))

// Put the joystick, the keys and the gamepad to rest.
function centreAll() {
  heldDirections.clear()
  for (const control of [joystick, keys, gamepad]) {
    control.angle = 0
    control.throttle = 0
  }
}

// Set the joystick to where the pointer is, at most to its rim.
function moveJoystick(event) {
  const box = $('pad').getBoundingClientRect()
  const radius = (box.width / 2) * 0.75
  const x = (event.clientX - box.left - box.width / 2) / radius
  const y = (box.top + box.height / 2 - event.clientY) / radius
  const distance = Math.max(Math.hypot(x, y), 1)
  joystick.angle = withDeadZone(x / distance)
  joystick.throttle = withDeadZone(y / distance)
}

// Move the command of the keys one step. Steering comes and goes in a few steps; the throttle comes slowly
// and goes at once.
function stepKeys() {
  const direction = (plus, minus) => heldDirections.has(plus) - heldDirections.has(minus)
  const across = direction('right', 'left')
  const along = direction('up', 'down')
  keys.angle = across ? clamp(keys.angle + 0.16 * across) : towardsZero(keys.angle, 0.3)
  const goesOn = along && keys.throttle * along >= 0
  keys.throttle = goesOn ? clamp(keys.throttle + 0.08 * along) : 0
}

// Read the first gamepad; its buttons act when they go down.
function readGamepad() {
  const before = gamepadButtons
  const device = [...(navigator.getGamepads?.() ?? [])].find(g => g && g.connected && g.axes.length > 1)
  gamepad.angle = 0
  gamepad.throttle = 0
  gamepadButtons = device ? device.buttons.map(button => button.pressed) : []
  if (!device) return
  const trigger = n => device.buttons[n]?.value ?? 0
  const triggers = trigger(BUTTON.rightTrigger) - trigger(BUTTON.leftTrigger)
  const stickUp = -(device.axes[AXIS.rightY] ?? device.axes[AXIS.leftY])
  gamepad.angle = withDeadZone(device.axes[AXIS.leftX])
  gamepad.throttle = withDeadZone(triggers || stickUp)
  const wentDown = n => gamepadButtons[n] && !before[n]
  if (wentDown(BUTTON.estop)) emergencyStop()
  if (wentDown(BUTTON.record)) $('record').click()
}

// Return the steering and the throttle that the driver asks for.
function wanted() {
  const stronger = (a, b) => (Math.abs(b) > Math.abs(a) ? b : a)
  const strongest = axis => [joystick, keys, gamepad].map(control => control[axis]).reduce(stronger)
  return { angle: +strongest('angle').toFixed(3), throttle: +strongest('throttle').toFixed(3) }
}

// Read the controls, send what they ask for, and show it. Without control, only every tenth ping is sent.
function tick() {
  stepKeys()
  readGamepad()
  if (!isDriver()) centreAll()
  if (stopIsWanted) sendStop()
  const command = wanted()
  const ping = performance.now()
  if (isDriver()) send({ ...command, ping })
  else if (idleTicks++ % 10 === 0) send({ ping })
  $('knob').style.transform = `translate(${command.angle * 4}rem, ${-command.throttle * 4}rem)`
  $('angle').textContent = command.angle.toFixed(2)
  $('throttle').textContent = command.throttle.toFixed(2)
  render()
}

// Stop the car; any page may. The wish is repeated every tick until the car has latched it.
function emergencyStop() {
  centreAll()
  stopIsWanted = true
  sendStop()
}

// Ask for a mode: user, local_angle or local.
function setMode(name) {
  if (isDriver()) send({ drive_mode: name })
}

// ---- texts
const MODES = { user: 'driver', local_angle: 'pilot steers', local: 'pilot drives' }

// Make a name readable.
const words = name => (name === 'estop' ? 'e-stop' : String(name).replaceAll('_', ' '))

// Write a number with its unit, or a dash for what is unknown.
const quantity = (x, digits, unit) => (typeof x === 'number' ? x.toFixed(digits) + ' ' + unit : '–')

// Write a number with three digits, or a name in words.
const brief = x => (typeof x === 'number' ? +x.toPrecision(3) : words(x))

// Say why a cause stops the car.
const reasonText = (status, cause) => status.why?.[cause] || words(cause)

// Say why the car stands still, and what starts it again.
function bannerText(status, connected, stalled) {
  if (!connected) return 'Not connected: the car stops.'
  if (stalled) return 'The loop stands still: the car stops.'
  const causes = stoppedBy(status)
    .map(cause => reasonText(status, cause))
    .join(', ')
  return latchedBy(status).length ? `Stopped: ${causes}. Release, then arm.` : `Neutral: ${causes}.`
}

// Say whether there is a connection, and how late it is.
function linkText(connected) {
  if (!connected) return 'not connected'
  if (latencyMs === null) return 'connected'
  return `${latencyMs.toFixed(0)} ms` + (latencyMs > SLOW_MS ? ', slow' : '')
}

// Say who has control.
function driverText(connected, driver) {
  if (!connected) return '–'
  if (driver) return 'you drive'
  return latest.taken ? 'another drives' : 'nobody drives'
}

// Say whether the car is armed.
function armedText(status, connected) {
  if (!connected) return '–'
  return status.armed ? 'armed' : 'disarmed'
}

// Name the state that the car is in; nothing when it is unknown.
const stateText = status => (status.state ? `state: ${status.state}` : '')

// Say what refuses to arm a car that is not armed; nothing when nothing does.
function refusalText(status, connected) {
  if (!connected || status.armed || !status.refusals?.length) return ''
  return `Cannot be armed: ${status.refusals.map(name => reasonText(status, name)).join('; ')}.`
}

// Name the button that takes control or gives it up.
function takeText(driver) {
  if (driver) return 'Give up'
  return latest?.taken ? 'Take over' : 'Take wheel'
}

// Say what is wrong with the recording; nothing when all is well.
function recordingText(status) {
  const dropped = status.dropped ? `${status.dropped} dropped: the disk is slow` : ''
  const reasons = [status.recording_note, dropped].filter(reason => reason).join('; ')
  return reasons && status.recording_failed ? `Recording stopped: ${reasons}` : reasons
}

// Say how many tubs wait for their upload; nothing without uploads.
function uploadText(status) {
  const waiting = status.upload_waiting
  if (waiting === undefined) return ''
  if (status.upload_error) return `not uploaded: ${status.upload_error}`
  if (!waiting) return 'all finished tubs are in the remote'
  return `${waiting} tub${waiting > 1 ? 's' : ''} not in the remote yet`
}

// Say how many black boxes there are, and why the newest was kept; nothing without a black box.
function boxText(status) {
  if (status.boxes === undefined) return ''
  const wrong = status.box_note ? `; ${status.box_note}` : ''
  if (!status.boxes) return `no black box yet${wrong}`
  const kept = `${status.boxes} black box${status.boxes > 1 ? 'es' : ''}`
  return `${kept}, the newest ${status.box_newest} (${status.box_why})${wrong}`
}

// Say how much space is left; nothing when it is unknown.
function diskText(left_mb) {
  if (typeof left_mb !== 'number') return ''
  return left_mb < 1000 ? `${left_mb.toFixed(0)} MB left` : `${(left_mb / 1000).toFixed(1)} GB left`
}

// Say at which latencies the pilot was examined.
function examinedText(status) {
  if (status.latency_examined_ms) return `${status.latency_examined_ms.join('–')} ms`
  return status.model?.name ? 'not examined' : '–'
}

// Write a speed in m/s; nothing when it is unknown.
function speedText(speed) {
  if (speed === undefined || speed === null) return ''
  const rounded = Math.round(speed * 100) / 100 || 0 // no -0.00
  return `${rounded.toFixed(2)} m/s`
}

// ---- parts of the page
// Change a text only when it differs, so that a screen reader does not read it again.
function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value
}

// Show a note, or hide it when it is empty.
function note(id, value) {
  text(id, value)
  $(id).hidden = !value
}

// Make the element of one pair: a name, its value, and a class.
function makePair([name, value, className = '']) {
  const pair = document.createElement('div')
  const term = document.createElement('dt')
  const detail = document.createElement('dd')
  pair.className = 'pair ' + className
  term.textContent = name
  detail.textContent = value
  pair.append(term, detail)
  return pair
}

// Remember a value at an element; tell whether it differs from the one before.
function changed(element, value) {
  const key = JSON.stringify(value)
  if (element.dataset.key === key) return false
  element.dataset.key = key
  return true
}

// Show rows of [name, value, class].
function showPairs(id, rows) {
  if (changed($(id), rows)) $(id).replaceChildren(...rows.map(makePair))
}

// Draw a bar from the middle to the left or the right; x is -1 to 1.
function showBar(id, x) {
  $(id).style.left = `${50 + 50 * Math.min(x, 0)}%`
  $(id).style.width = `${50 * Math.abs(x)}%`
}

// Show a button as the one to press next.
function markPrimary(id, primary) {
  $(id).classList.toggle('primary', primary)
}

// ---- status
// List the causes for which the car stands still now.
const stoppedBy = status => status.stopped ?? []

// List those of them that a driver must release.
const latchedBy = status => status.latched ?? stoppedBy(status)

// Show the newest message, or that there is none.
function render() {
  const status = latest?.status ?? {}
  const connected = isConnected()
  const driver = connected && latest.you
  const stalled = connected && (latest.age_ms === null || latest.age_ms > LOST_MS)
  showHead(status, connected, driver, stalled)
  showButtons(status, connected, driver)
  if (!latest) return
  showMode(status)
  showRecording(status)
  showLimit(status)
  showModels(status)
  showPilot(status)
  showTiming(status, connected)
  showFaults(status)
  showMotion(status)
  showMap(status)
}

// Show the line at the top and the banner; the class of the body dims what is old.
function showHead(status, connected, driver, stalled) {
  document.body.classList.toggle('off', !connected)
  document.body.classList.toggle('still', stalled)
  text('banner', bannerText(status, connected, stalled))
  note('refusals', refusalText(status, connected))
  note('state', connected ? stateText(status) : '')
  $('banner').hidden = connected && !stalled && !stoppedBy(status).length
  text('link', linkText(connected))
  $('link').className = latencyMs > SLOW_MS ? 'slow' : ''
  text('who', driverText(connected, driver))
  $('who').classList.toggle('on', driver)
  text('armed', armedText(status, connected))
  $('armed').classList.toggle('on', connected && !!status.armed)
}

// Enable the buttons that can be pressed, and mark the one to press next.
function showButtons(status, connected, driver) {
  const latched = latchedBy(status).length > 0
  const canArm = driver && !status.armed && !latched && !status.refusals?.length
  const canRelease = driver && latched
  text('take', takeText(driver))
  $('take').disabled = !connected
  markPrimary('take', connected && !driver)
  $('arm').disabled = !canArm
  markPrimary('arm', canArm)
  $('release').disabled = !canRelease
  markPrimary('release', canRelease)
  $('driving').disabled = !driver
}

// Show who steers and who drives.
function showMode(status) {
  text('mode-now', MODES[status.mode] ?? '')
  for (const button of $('modes').children) button.ariaPressed = button.dataset.mode === status.mode
}

// Show the recording, its uploads and the space that is left.
function showRecording(status) {
  const recording = !!status.recording
  $('rec').classList.toggle('on', recording)
  $('record').ariaPressed = recording
  text('record', recording ? 'Stop recording' : 'Record')
  text('records', (status.records ?? 0).toLocaleString('en'))
  note('rec-note', recordingText(status))
  $('rec-note').classList.toggle('bad', !!status.recording_failed)
  note('upload', uploadText(status))
  note('boxes', boxText(status))
  text('disk', diskText(status.disk_left_mb))
}

// Show the throttle limit; leave the slider alone while the driver moves it.
function showLimit(status) {
  const held = performance.now() - limitMovedMs <= LIMIT_HELD_MS
  if (!held && status.throttle_limit !== undefined) $('limit').value = status.throttle_limit
  text('limit-now', `${Math.round($('limit').value * 100)} %`)
}

// Show the pilots that can be loaded; keep the one that is chosen.
function showModels(status) {
  const names = status.models ?? []
  const list = $('models')
  const chosen = list.value
  const loaded = status.model?.name
  if (changed(list, names)) {
    list.replaceChildren(...names.map(name => new Option(name)))
    list.value = names.includes(chosen) ? chosen : (loaded ?? '')
  }
  text('load', list.value && list.value === loaded ? 'Reload' : 'Load')
}

// List what the gate measured of a pilot.
function gateRows(model) {
  const measured = Object.entries(model.gate ?? {})
  if (model.name && !measured.length) return [['gate', 'no manifest']]
  return measured.map(([name, x]) => [words(name), brief(x), x === 'not passed' ? 'slow' : ''])
}

// Show the pilot that is loaded.
function showPilot(status) {
  const model = status.model ?? {}
  const digest = String(model.digest ?? '').replace('sha256:', '')
  text('model', model.name ? `${model.name} ${digest.slice(0, 12)}` : 'no pilot')
  $('model').title = model.digest ?? ''
  note('frame-fit', status.frame_fit ? `frames: ${status.frame_fit}` : '')
  showPairs('gate', gateRows(model))
}

// Show how fast the loop turns, and how late its commands are.
function showTiming(status, connected) {
  const slowIf = slow => (slow ? 'slow' : '')
  const staleFrame = stoppedBy(status).some(cause => cause === 'frame' || cause === 'delayed')
  const outside = slowIf(status.latency_outside)
  showPairs('timing', [
    ['rate', quantity(status.loop_hz, 0, 'Hz')],
    ['turn p50', quantity(status.loop_p50_ms, 1, 'ms')],
    ['turn p99', quantity(status.loop_p99_ms, 1, 'ms')],
    ['inference', quantity(status.inference_ms, 1, 'ms')],
    ['frame age', quantity(status.frame_age_ms, 0, 'ms'), slowIf(staleFrame)],
    ['to wheels p50', quantity(status.latency_p50_ms, 0, 'ms'), outside],
    ['to wheels p95', quantity(status.latency_p95_ms, 0, 'ms'), outside],
    ['examined at', examinedText(status)],
    ['link', quantity(connected ? latencyMs : null, 0, 'ms'), slowIf(latencyMs > SLOW_MS)],
    ['looking on', String(latest.others)],
    ...(status.pilot_limited ? [['pilot bounded', quantity(status.pilot_limited, 0, 'turns')]] : []),
  ])
  note('latency-note', status.latency_warning ?? '')
}

// Show how often each cause stopped the car, and which stop it now.
function showFaults(status) {
  const now = new Set(stoppedBy(status))
  const uncounted = Object.fromEntries([...now].map(cause => [cause, '']))
  const counts = Object.entries({ ...uncounted, ...status.faults })
  const rows = counts
    .filter(([cause, count]) => count || now.has(cause))
    .map(([cause, count]) => {
      const reason = reasonText(status, cause)
      return now.has(cause) ? [`${reason}, now`, count, 'latched'] : [reason, count]
    })
  showPairs('faults', rows)
  $('none').hidden = rows.length > 0
}

// Show the speed, the laps, the distance from the line, and the command that drives the car.
function showMotion(status) {
  const command = wanted()
  text('speed', speedText(status.speed_m_s))
  text('laps', String(status.laps ?? 0))
  text('cte', quantity(status.cte_m, 2, 'm'))
  showBar('bar-angle', status.angle ?? command.angle)
  showBar('bar-throttle', status.throttle ?? command.throttle)
}

// ---- camera and map
let road = null // {left, right, cones}, each a list of [x, y] in m
let trail = [] // [x, y] in m

// Draw a picture of the camera, in its own size.
async function showPicture(blob) {
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

// Add a position to the trail. A new road and a car put back to the start begin a new trail.
function extendTrail(pose) {
  if (pose.road && pose.road !== road) {
    road = pose.road
    trail = []
  }
  if (pose.x === undefined) return
  const last = trail.at(-1)
  if (last && Math.hypot(last[0] - pose.x, last[1] - pose.y) > 1) trail = []
  if (!last || last[0] !== pose.x || last[1] !== pose.y) trail.push([pose.x, pose.y])
  if (trail.length > TRAIL_LENGTH) trail.shift()
}

// Return a function from metres to pixels, so that the road fills the canvas.
function mapToCanvas(width, height) {
  const edges = [...road.left, ...road.right]
  const xs = edges.map(point => point[0])
  const ys = edges.map(point => point[1])
  const x0 = Math.min(...xs)
  const x1 = Math.max(...xs)
  const y0 = Math.min(...ys)
  const y1 = Math.max(...ys)
  const scale = Math.min((width - 30) / (x1 - x0), (height - 30) / (y1 - y0))
  return ([x, y]) => [width / 2 + (x - (x0 + x1) / 2) * scale, height / 2 - (y - (y0 + y1) / 2) * scale]
}

// Add a closed outline to a path.
function addOutline(draw, points) {
  points.forEach(([x, y], i) => (i ? draw.lineTo(x, y) : draw.moveTo(x, y)))
  draw.closePath()
}

// Draw the surface of the road, its edges and its cones.
function drawRoad(draw, toPixels) {
  const edges = [road.left, road.right].map(edge => edge.map(toPixels))
  draw.fillStyle = '#3a3f45'
  draw.beginPath()
  for (const edge of edges) addOutline(draw, edge)
  draw.fill('evenodd')
  draw.strokeStyle = '#d2d6da'
  for (const edge of edges) {
    draw.beginPath()
    addOutline(draw, edge)
    draw.stroke()
  }
  draw.fillStyle = '#e8710a'
  for (const cone of road.cones ?? []) {
    draw.beginPath()
    draw.arc(...toPixels(cone), 3, 0, 7)
    draw.fill()
  }
}

// Draw where the car has been.
function drawTrail(draw, toPixels) {
  draw.strokeStyle = '#4da3ff'
  draw.lineWidth = 2
  draw.beginPath()
  for (const point of trail) draw.lineTo(...toPixels(point))
  draw.stroke()
}

// Draw the car as an arrow that points where it goes.
function drawCar(draw, toPixels, pose) {
  draw.translate(...toPixels([pose.x, pose.y]))
  draw.rotate(-(pose.yaw ?? 0))
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

// Show the road and the car from above, when the car knows them.
function showMap(status) {
  const pose = status.map ?? {}
  extendTrail(pose)
  $('map-card').hidden = !road || pose.x === undefined
  if ($('map-card').hidden) return
  const canvas = $('map')
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  const draw = canvas.getContext('2d')
  canvas.width = width * devicePixelRatio
  canvas.height = height * devicePixelRatio
  draw.scale(devicePixelRatio, devicePixelRatio)
  const toPixels = mapToCanvas(width, height)
  drawRoad(draw, toPixels)
  drawTrail(draw, toPixels)
  drawCar(draw, toPixels, pose)
}

// ---- events
$('take').onclick = () => {
  centreAll()
  send({ take: !latest.you })
}
$('arm').onclick = () => press({ arm: true })
$('release').onclick = () => press({ release: true })
$('estop').onclick = emergencyStop
for (const button of $('modes').children) button.onclick = () => setMode(button.dataset.mode)
$('record').onclick = () => {
  if (isDriver()) send({ recording: !latest.status.recording })
}
$('erase').onclick = () => press({ erase: Math.max(1, Math.round(+$('erase-n').value || 1)) })
$('load').onclick = () => {
  if ($('models').value) press({ model: $('models').value })
}
$('models').onchange = render
$('limit').oninput = () => {
  limitMovedMs = performance.now()
  press({ throttle_limit: +$('limit').value })
  render()
}

// Put the joystick back to its middle.
function centreJoystick() {
  joystick.angle = 0
  joystick.throttle = 0
}

// the joystick follows the pointer that took hold of it, and springs back
$('pad').onpointerdown = event => {
  if (!isDriver()) return
  $('pad').setPointerCapture(event.pointerId)
  moveJoystick(event)
  event.preventDefault()
}
$('pad').onpointermove = event => {
  if ($('pad').hasPointerCapture(event.pointerId)) moveJoystick(event)
}
$('pad').onpointerup = centreJoystick
$('pad').onpointercancel = centreJoystick
$('pad').onlostpointercapture = centreJoystick

// Tell whether a key belongs to a field or to the browser.
function isForeignKey(event) {
  const typing = event.target.matches('input[type=number], input[type=password], select')
  return typing || event.ctrlKey || event.metaKey || event.altKey
}

// keys: Space stops, directions are held, shortcuts act once
addEventListener('keydown', event => {
  if (isForeignKey(event)) return
  if (event.code === 'Space') emergencyStop()
  else if (KEY_DIRECTIONS[event.code]) heldDirections.add(KEY_DIRECTIONS[event.code])
  else if (SHORTCUTS[event.code] && !event.repeat) SHORTCUTS[event.code]()
  else return
  event.preventDefault()
})
addEventListener('keyup', event => {
  heldDirections.delete(KEY_DIRECTIONS[event.code])
  if (event.code === 'Space') event.preventDefault()
})

// a driver who looks elsewhere asks for nothing; one who leaves gives up control
addEventListener('blur', centreAll)
addEventListener('pagehide', () => send({ take: false }))
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return
  centreAll()
  if (isDriver()) send({ take: false })
})

setInterval(tick, SEND_EVERY_MS)
connect()
