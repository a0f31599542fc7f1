/** UDP ends of a namespace, as tcp-ends.ts. Tests poll `viewUdp`. */
import { createHash } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'

export interface Message {
  readonly from: string
  readonly port: number
  readonly bytes: number
  readonly sha256: string
}

const udpEnds: { socket: Socket; got: Message[]; error: string }[] = []

export async function openUdp(host: string, port = 0): Promise<{ id: number; port: number }> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const one = { socket, got: [] as Message[], error: '' }
  socket.on('message', (message, peer) => {
    const sha256 = createHash('sha256').update(message).digest('hex')
    one.got.push({ from: peer.address, port: peer.port, bytes: message.length, sha256 })
  })
  socket.on('error', error => {
    one.error = (error as NodeJS.ErrnoException).code ?? error.message
  })
  const id = udpEnds.push(one) - 1
  socket.bind(port, host)
  await once(socket, 'listening')
  return { id, port: socket.address().port }
}

export async function connectUdp(id: number, host: string, port: number): Promise<void> {
  const { socket } = udpEnds[id]!
  socket.connect(port, host)
  await once(socket, 'connect')
}

export function datagramOf(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, (_, at) => (at * 7 + (at >> 8)) & 255))
}

/** Sends `bytes` bytes of a pattern; its SHA-256. Without a host: to the connected peer. */
export async function sendUdp(id: number, bytes: number, port?: number, host?: string): Promise<string> {
  const message = datagramOf(bytes)
  const { socket } = udpEnds[id]!
  await new Promise<void>((resolve, reject) => {
    const done = (error: Error | null) => (error ? reject(error) : resolve())
    if (port === undefined) socket.send(message, done)
    else socket.send(message, port, host, done)
  })
  return createHash('sha256').update(message).digest('hex')
}

/** One datagram each from the ports `from` … `from + count - 1`, at a steady rate; how many could be sent. */
export async function sendFromPorts(from: number, count: number, ms: number, port: number, host: string) {
  let sent = 0
  const start = performance.now()
  for (let at = 0; at < count; ) {
    const due = Math.min(count, ((performance.now() - start) / ms) * count)
    for (; at < due; at++) {
      const socket = createSocket('udp4')
      socket.on('error', () => undefined)
      socket.bind(from + at, () =>
        socket.send('x', port, host, error => {
          if (error === null) sent++
          socket.close()
        }),
      )
    }
    await delay(2)
  }
  await delay(50)
  return sent
}

/** A datagram from each of the ports `from` … `from + count - 1`, `atOnce` at a time, each second again; how many were answered within 5 s. */
export async function askFromPorts(from: number, count: number, atOnce: number, port: number, host: string) {
  let [next, answered] = [from, 0]
  const askNext = async () => {
    for (let own = next++; own < from + count; own = next++) {
      const socket = createSocket('udp4')
      const heard = new Promise<boolean>(resolve => {
        socket.on('message', () => resolve(true)).on('error', () => resolve(false))
        setTimeout(resolve, 5_000, false).unref()
      })
      const ask = () => socket.send('x', port, host)
      socket.bind(own, ask)
      const again = setInterval(ask, 1_000)
      if (await heard) answered++
      clearInterval(again)
      socket.close()
    }
  }
  await Promise.all(Array.from({ length: atOnce }, askNext))
  return answered
}

export async function viewUdp(id: number): Promise<{ got: Message[]; error: string }> {
  return { got: udpEnds[id]!.got, error: udpEnds[id]!.error }
}

export async function closeUdp(id: number): Promise<void> {
  udpEnds[id]!.socket.close()
}
