// Ask Python, over whatever carries a message: the kernel of a notebook, or the socket of a page.
// A question is {id, ask, ...}; its answer has the same id, and perhaps an error and buffers.
export class Link {
  constructor(model) {
    this.model = model
    this.waiting = new Map() // id -> [resolve, reject]
    this.listeners = new Map() // what Python says unasked -> function
    this.next = Math.floor(Math.random() * 2 ** 40) // two views of one widget hear the same answers
    this.receive = (message, buffers) => this.settle(message, buffers ?? [])
    model.on('msg:custom', this.receive)
  }

  // Ask, and promise the answer with its buffers.
  ask(what, fields = {}) {
    const id = this.next++
    return new Promise((resolve, reject) => {
      this.waiting.set(id, [resolve, reject])
      this.model.send({ ...fields, id, ask: what })
    })
  }

  // Call a function with whatever Python says of its own accord under a name.
  hear(name, listener) {
    this.listeners.set(name, listener)
  }

  // Give an answer to who asked.
  settle(message, buffers) {
    if ('say' in message) return this.listeners.get(message.say)?.(message, buffers)
    const [resolve, reject] = this.waiting.get(message.id) ?? []
    if (!resolve) return
    this.waiting.delete(message.id)
    if ('error' in message) reject(new Error(message.error))
    else resolve({ ...message, buffers })
  }

  close() {
    this.model.off('msg:custom', this.receive)
  }
}

// Return a typed array of what a buffer holds; it is copied when it does not begin at a whole number.
export function typed(Kind, view) {
  const whole = view.byteOffset % Kind.BYTES_PER_ELEMENT === 0
  const buffer = whole ? view.buffer : view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)
  return new Kind(buffer, whole ? view.byteOffset : 0, view.byteLength / Kind.BYTES_PER_ELEMENT)
}
