'use strict'
// The page of the twin. Ten times a second the simulator sends
// {roads: {scene: {left, right, cones}}, scenes: {scene: [car, ...]}, chosen, image}.
const $ = id => document.getElementById(id)
const KEPT = 300
const COLOURS = ['#4da3ff', '#ffb000', '#5fd38d', '#ff6f91', '#c792ea', '#7fdbca']
const roads = {}
const trails = {}
const traces = {}
let scene = null
let chosen = null
let socket = null

function connect() {
  socket = new WebSocket(location.href.replace(/^http/, 'ws').replace(/\/(\?|$)/, '/ws$1'))
  socket.onopen = () => say('connected', 'on')
  socket.onmessage = e => show(JSON.parse(e.data))
  socket.onclose = () => {
    say('the simulator is away; looking for it', 'off')
    setTimeout(connect, 1000)
  }
}

function say(text, how) {
  $('state').textContent = text
  $('state').className = how
}

function choose(id) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ car: id }))
}

function show(told) {
  Object.assign(roads, told.roads)
  const cars = Object.values(told.scenes).flat()
  if (told.chosen) {
    chosen = told.chosen
    scene = chosen.slice(0, chosen.lastIndexOf('/'))
  }
  if (!(scene in told.scenes)) scene = Object.keys(told.scenes)[0] ?? null
  const alive = new Set(cars.map(c => c.id))
  for (const kept of [trails, traces]) for (const id in kept) if (!alive.has(id)) delete kept[id]
  for (const car of cars) remember(car)
  const car = cars.find(c => c.id === chosen)
  $('whose').textContent = car ? `${car.name} sees` : 'no car yet'
  if (told.image) $('camera').src = 'data:image/jpeg;base64,' + told.image
  menu(Object.keys(told.scenes), told.scenes)
  table(told.scenes[scene] ?? [])
  map(told.scenes[scene] ?? [])
  trace('cte', car, 0.6, true)
  trace('speed', car, 3, false)
}

function remember(car) {
  const trail = (trails[car.id] ??= [])
  const trace = (traces[car.id] ??= [])
  const last = trail.at(-1)
  if (last && Math.hypot(last[0] - car.x, last[1] - car.y) > 1) trail.length = 0 // put back to the start
  trail.push([car.x, car.y])
  trace.push({ cte: car.cte, speed: car.speed })
  if (trail.length > KEPT) trail.shift()
  if (trace.length > KEPT) trace.shift()
}

function menu(names, scenes) {
  $('scenes').replaceChildren(
    ...names.map(name => {
      const b = document.createElement('button')
      b.textContent = name
      b.ariaPressed = name === scene
      b.onclick = () => choose(scenes[name][0].id)
      return b
    }),
  )
}

function table(cars) {
  $('cars').replaceChildren(
    ...cars.map((car, i) => {
      const row = document.createElement('tr')
      const dot = document.createElement('i')
      dot.style.background = COLOURS[i % COLOURS.length]
      const cells = [
        '',
        car.name + (car.out ? ' (out)' : ''),
        car.lap,
        car.last ? car.last.toFixed(2) : '',
        car.speed.toFixed(2),
        car.cte.toFixed(2),
        car.fps.toFixed(0),
      ]
      for (const text of cells) row.insertCell().textContent = text
      row.cells[0].append(dot)
      row.ariaSelected = car.id === chosen
      row.onclick = () => choose(car.id)
      return row
    }),
  )
}

function paper(id) {
  // a canvas as sharp as the screen, and its size
  const canvas = $(id)
  const k = devicePixelRatio
  const w = canvas.clientWidth
  const h = canvas.clientHeight
  canvas.width = w * k
  canvas.height = h * k
  const draw = canvas.getContext('2d')
  draw.scale(k, k)
  return [draw, w, h]
}

function path(draw, points, close) {
  draw.beginPath()
  for (const [x, y] of points) draw.lineTo(x, y)
  if (close) draw.closePath()
}

function map(cars) {
  const [draw, w, h] = paper('map')
  const road = roads[scene]
  if (!road) return
  const all = [...road.left, ...road.right]
  const xs = all.map(p => p[0])
  const ys = all.map(p => p[1])
  const x0 = Math.min(...xs)
  const x1 = Math.max(...xs)
  const y0 = Math.min(...ys)
  const y1 = Math.max(...ys)
  const k = Math.min((w - 40) / (x1 - x0), (h - 40) / (y1 - y0))
  const at = ([x, y]) => [w / 2 + (x - (x0 + x1) / 2) * k, h / 2 - (y - (y0 + y1) / 2) * k]
  const edges = [road.left, road.right].map(edge => edge.map(at))
  draw.fillStyle = '#3a3f45'
  draw.beginPath()
  for (const edge of edges) {
    edge.forEach(([x, y], i) => (i ? draw.lineTo(x, y) : draw.moveTo(x, y)))
    draw.closePath()
  }
  draw.fill('evenodd')
  draw.strokeStyle = '#d2d6da'
  for (const edge of edges) {
    path(draw, edge, true)
    draw.stroke()
  }
  draw.strokeStyle = '#fff'
  draw.lineWidth = 3
  path(
    draw,
    edges.map(e => e[0]),
  )
  draw.stroke()
  draw.fillStyle = '#e8710a'
  for (const cone of road.cones) {
    const [x, y] = at(cone)
    draw.beginPath()
    draw.arc(x, y, 3, 0, 7)
    draw.fill()
  }
  cars.forEach((car, i) => {
    const colour = COLOURS[i % COLOURS.length]
    const [x, y] = at([car.x, car.y])
    draw.strokeStyle = colour
    draw.lineWidth = 2
    path(draw, (trails[car.id] ?? []).map(at))
    draw.stroke()
    draw.save()
    draw.translate(x, y)
    draw.rotate(-car.yaw)
    draw.fillStyle = colour
    draw.strokeStyle = car.id === chosen ? '#fff' : '#000'
    path(
      draw,
      [
        [9, 0],
        [-7, -5],
        [-7, 5],
      ],
      true,
    )
    draw.fill()
    draw.stroke()
    draw.restore()
  })
}

function trace(key, car, least, signed) {
  const [draw, w, h] = paper(key)
  const values = car ? traces[car.id].map(t => t[key]) : []
  const most = Math.max(least, ...values.map(Math.abs))
  const zero = signed ? h / 2 : h - 6
  const y = v => zero - (v / most) * (signed ? h / 2 - 6 : h - 12)
  draw.strokeStyle = '#33383e'
  path(draw, [
    [0, zero],
    [w, zero],
  ])
  draw.stroke()
  draw.strokeStyle = '#4da3ff'
  draw.lineWidth = 1.5
  path(
    draw,
    values.map((v, i) => [w - ((values.length - 1 - i) * w) / KEPT, y(v)]),
  )
  draw.stroke()
  $(key + '-now').textContent = values.length ? values.at(-1).toFixed(2) : ''
}

connect()
