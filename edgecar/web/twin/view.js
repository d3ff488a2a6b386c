'use strict'
// The page of the twin. Ten times a second the simulator sends
// {roads: {scene: {left, right, cones}}, scenes: {scene: [car, ...]}, chosen, image}.
const RECONNECT_MS = 1000
const HISTORY_LENGTH = 300 // states that are kept of each car
const COLOURS = ['#4da3ff', '#ffb000', '#5fd38d', '#ff6f91', '#c792ea', '#7fdbca']

const roads = {} // scene -> {left, right, cones}, each a list of [x, y] in m
const trails = {} // car -> [x, y] in m
const histories = {} // car -> {cte, speed}
let scene = null // the name of the scene that is shown
let chosen = null // the car whose picture is shown: its scene, a slash and its number
let socket = null

// Find an element by its id.
const $ = id => document.getElementById(id)

// Give the cars of a scene different colours.
const colourOf = number => COLOURS[number % COLOURS.length]

// ---- connection
const token = new URLSearchParams(location.search).get('token')
// the token is in a cookie now, and need not stand in the address
if (token) history.replaceState(null, '', location.pathname)

// Open the socket; open it again whenever it closes.
function connect() {
  const query = token ? `?token=${encodeURIComponent(token)}` : ''
  socket = new WebSocket(new URL('ws', location.href).href.replace(/^http/, 'ws') + query)
  socket.onopen = () => showConnection('connected', 'on')
  socket.onmessage = event => receive(JSON.parse(event.data))
  socket.onclose = () => {
    showConnection('the simulator is away; looking for it', 'off')
    setTimeout(connect, RECONNECT_MS)
  }
}

// Ask for the picture of another car.
function choose(id) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ car: id }))
}

// Keep a message of the simulator, and show it.
function receive(message) {
  const cars = Object.values(message.scenes).flat()
  Object.assign(roads, message.roads)
  selectScene(message)
  forgetAllBut(new Set(cars.map(car => car.id)))
  for (const car of cars) remember(car)
  render(message, cars)
}

// Select the scene of the chosen car, or the first one when its scene has ended.
function selectScene(message) {
  if (message.chosen) {
    chosen = message.chosen
    scene = chosen.slice(0, chosen.lastIndexOf('/'))
  }
  if (!(scene in message.scenes)) scene = Object.keys(message.scenes)[0] ?? null
}

// Drop what is kept of cars that have left.
function forgetAllBut(ids) {
  for (const kept of [trails, histories]) {
    for (const id in kept) {
      if (!ids.has(id)) delete kept[id]
    }
  }
}

// Keep where a car is and how it does. A car put back to the start begins a new trail.
function remember(car) {
  const trail = (trails[car.id] ??= [])
  const history = (histories[car.id] ??= [])
  const last = trail.at(-1)
  if (last && Math.hypot(last[0] - car.x, last[1] - car.y) > 1) trail.length = 0
  trail.push([car.x, car.y])
  history.push({ cte: car.cte, speed: car.speed })
  if (trail.length > HISTORY_LENGTH) trail.shift()
  if (history.length > HISTORY_LENGTH) history.shift()
}

// ---- parts of the page
// Show whether the simulator is there.
function showConnection(text, className) {
  $('state').textContent = text
  $('state').className = className
}

// Show the chosen car, and all cars of its scene.
function render(message, cars) {
  const car = cars.find(car => car.id === chosen)
  const carsOfScene = message.scenes[scene] ?? []
  $('whose').textContent = car ? `${car.name} sees` : 'no car yet'
  if (message.image) $('camera').src = 'data:image/jpeg;base64,' + message.image
  showScenes(message.scenes)
  showCars(carsOfScene)
  showMap(carsOfScene)
  showHistory('cte', car, 0.6, true)
  showHistory('speed', car, 3, false)
}

// Show a button for each scene; it chooses the first car there.
function showScenes(scenes) {
  const buttons = Object.entries(scenes).map(([name, cars]) => {
    const button = document.createElement('button')
    button.textContent = name
    button.ariaPressed = name === scene
    button.onclick = () => choose(cars[0].id)
    return button
  })
  $('scenes').replaceChildren(...buttons)
}

// Show a row for each car.
function showCars(cars) {
  $('cars').replaceChildren(...cars.map(makeRow))
}

// Make the row of a car; a click on it chooses the car.
function makeRow(car, number) {
  const row = document.createElement('tr')
  const dot = document.createElement('i')
  const texts = [
    '',
    car.name + (car.out ? ' (out)' : ''),
    car.lap,
    car.last ? car.last.toFixed(2) : '',
    car.speed.toFixed(2),
    car.cte.toFixed(2),
    car.fps.toFixed(0),
  ]
  for (const text of texts) row.insertCell().textContent = text
  dot.style.background = colourOf(number)
  row.cells[0].append(dot)
  row.ariaSelected = car.id === chosen
  row.onclick = () => choose(car.id)
  return row
}

// ---- drawings
// Clear a canvas, make it as sharp as the screen, and return what draws on it, its width and its height.
function openCanvas(id) {
  const canvas = $(id)
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  const draw = canvas.getContext('2d')
  canvas.width = width * devicePixelRatio
  canvas.height = height * devicePixelRatio
  draw.scale(devicePixelRatio, devicePixelRatio)
  return [draw, width, height]
}

// Begin a path along points.
function tracePath(draw, points, closed = false) {
  draw.beginPath()
  for (const [x, y] of points) draw.lineTo(x, y)
  if (closed) draw.closePath()
}

// Draw a line along points.
function strokePath(draw, points, closed = false) {
  tracePath(draw, points, closed)
  draw.stroke()
}

// Return a function from metres to pixels, so that a road fills the canvas.
function mapToCanvas(road, width, height) {
  const edges = [...road.left, ...road.right]
  const xs = edges.map(point => point[0])
  const ys = edges.map(point => point[1])
  const x0 = Math.min(...xs)
  const x1 = Math.max(...xs)
  const y0 = Math.min(...ys)
  const y1 = Math.max(...ys)
  const scale = Math.min((width - 40) / (x1 - x0), (height - 40) / (y1 - y0))
  return ([x, y]) => [
    width / 2 + (x - (x0 + x1) / 2) * scale,
    height / 2 - (y - (y0 + y1) / 2) * scale,
  ]
}

// Show the road of the scene and its cars from above.
function showMap(cars) {
  const [draw, width, height] = openCanvas('map')
  const road = roads[scene]
  if (!road) return
  const toPixels = mapToCanvas(road, width, height)
  const edges = [road.left, road.right].map(edge => edge.map(toPixels))
  drawRoad(draw, edges)
  drawCones(draw, road.cones.map(toPixels))
  cars.forEach((car, number) => drawCar(draw, toPixels, car, colourOf(number)))
}

// Draw the surface of a road, its edges and its start line.
function drawRoad(draw, edges) {
  draw.fillStyle = '#3a3f45'
  draw.beginPath()
  for (const edge of edges) {
    edge.forEach(([x, y], i) => (i ? draw.lineTo(x, y) : draw.moveTo(x, y)))
    draw.closePath()
  }
  draw.fill('evenodd')
  draw.strokeStyle = '#d2d6da'
  for (const edge of edges) strokePath(draw, edge, true)
  const startLine = edges.map(edge => edge[0])
  draw.strokeStyle = '#fff'
  draw.lineWidth = 3
  strokePath(draw, startLine)
}

// Draw each cone as a dot.
function drawCones(draw, cones) {
  draw.fillStyle = '#e8710a'
  for (const [x, y] of cones) {
    draw.beginPath()
    draw.arc(x, y, 3, 0, 7)
    draw.fill()
  }
}

// Draw the trail of a car, and the car as an arrow that points where it goes.
function drawCar(draw, toPixels, car, colour) {
  const arrow = [
    [9, 0],
    [-7, -5],
    [-7, 5],
  ]
  draw.strokeStyle = colour
  draw.lineWidth = 2
  strokePath(draw, (trails[car.id] ?? []).map(toPixels))
  draw.save()
  draw.translate(...toPixels([car.x, car.y]))
  draw.rotate(-car.yaw)
  draw.fillStyle = colour
  draw.strokeStyle = car.id === chosen ? '#fff' : '#000'
  tracePath(draw, arrow, true)
  draw.fill()
  draw.stroke()
  draw.restore()
}

// Plot one quantity of a car over time, the newest at the right. The scale reaches at least `reach`.
function showHistory(quantity, car, reach, signed) {
  const [draw, width, height] = openCanvas(quantity)
  const values = car ? histories[car.id].map(state => state[quantity]) : []
  const largest = Math.max(reach, ...values.map(Math.abs))
  const zero = signed ? height / 2 : height - 6
  const span = signed ? height / 2 - 6 : height - 12
  const x = i => width - ((values.length - 1 - i) * width) / HISTORY_LENGTH
  const y = value => zero - (value / largest) * span
  draw.strokeStyle = '#33383e'
  strokePath(draw, [
    [0, zero],
    [width, zero],
  ])
  draw.strokeStyle = '#4da3ff'
  draw.lineWidth = 1.5
  strokePath(
    draw,
    values.map((value, i) => [x(i), y(value)]),
  )
  $(quantity + '-now').textContent = values.length ? values.at(-1).toFixed(2) : ''
}

connect()
