// A page that shows one view: it stands for the kernel of a notebook, with a socket.
// A message to Python is JSON. One from Python is the length of its head in four bytes, the head in JSON with
// the sizes of its buffers, then the buffers.
import view from './view.js'

const RECONNECT_MS = 1000
const token = new URLSearchParams(location.search).get('token')
// the token is in a cookie now, and need not stand in the address
if (token) history.replaceState(null, '', location.pathname)

// What a view needs of a widget's model: to send, and to hear.
class SocketModel {
  constructor(socket) {
    this.socket = socket
    this.listeners = []
    socket.onmessage = event => this.receive(event.data)
  }

  receive(data) {
    const length = new DataView(data).getUint32(0, true)
    const { sizes, ...message } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)))
    let at = 4 + length
    const buffers = sizes.map(size => new DataView(data, (at += size) - size, size))
    for (const listener of this.listeners) listener(message, buffers)
  }

  on(name, listener) {
    if (name === 'msg:custom') this.listeners.push(listener)
  }

  off(name, listener) {
    this.listeners = this.listeners.filter(kept => kept !== listener)
  }

  send(message) {
    this.socket.send(JSON.stringify(message))
  }
}

// Show the view while the socket is open; when it closes, say so, and show it anew once Python is back.
function connect() {
  const query = token ? `?token=${encodeURIComponent(token)}` : ''
  const socket = new WebSocket(new URL('ws', location.href).href.replace(/^http/, 'ws') + query)
  let close = null
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => {
    document.getElementById('away')?.remove()
    document.getElementById('view').replaceChildren()
    close = view.render({ model: new SocketModel(socket), el: document.getElementById('view') })
    document.querySelector('.edgecar-widget').focus()
  }
  socket.onclose = () => {
    close?.()
    showAway()
    setTimeout(connect, RECONNECT_MS)
  }
}

function showAway() {
  if (document.getElementById('away')) return
  const banner = Object.assign(document.createElement('div'), { id: 'away', role: 'alert' })
  banner.textContent = 'the program that serves this page is away; looking for it'
  document.body.append(banner)
}

connect()
