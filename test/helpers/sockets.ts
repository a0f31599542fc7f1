/** Small TCP and UDP ends for tests, on loopback, closed with the test. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { listenOn } from '../../src/demo/listening.ts'

/** What tests need of ava's context. */
interface Teardown {
  teardown(fn: () => unknown): void
}

/** A TCP server that gives each connection (half-open allowed) to `serve`; its port. */
export async function tcpServer(t: Teardown, serve: (socket: Socket) => void, host = '127.0.0.1'): Promise<number> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    open.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => open.delete(socket))
    serve(socket)
  })
  const port = await listenOn(server, host, 0)
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return port
}

export async function tcpConnect(t: Teardown, port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, allowHalfOpen: true, noDelay: true })
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  return socket
}

/** A port of loopback on which nothing listens. */
export async function closedPort(host = '127.0.0.1'): Promise<number> {
  const server = createServer()
  const port = await listenOn(server, host, 0)
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Everything until the other side ends. Rejects with the socket's error. */
export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** Reads exactly `length` bytes; the socket stays open and paused. Rejects when it ends before. */
export function readBytes(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (bytes: Buffer | null, error?: Error) => {
      socket.off('readable', tryRead).off('end', onEnd).off('close', onEnd).off('error', onError)
      if (bytes?.length === length) resolve(bytes)
      else reject(error ?? new Error(`ended before ${length} bytes`))
    }
    const tryRead = () => {
      const bytes = socket.read(length) as Buffer | null
      if (bytes) settle(bytes)
    }
    const onEnd = () => settle(null)
    const onError = (error: Error) => settle(null, error)
    socket.on('readable', tryRead).on('end', onEnd).on('close', onEnd).on('error', onError)
    tryRead()
  })
}

export interface UdpEnd {
  readonly socket: UdpSocket
  readonly port: number
  /** The next datagram; rejects after `timeoutMs` (2000). */
  next(timeoutMs?: number): Promise<{ message: Buffer; peer: RemoteInfo }>
  send(message: Uint8Array, port: number, host?: string): void
}

export async function udpEnd(t: Teardown, host = '127.0.0.1'): Promise<UdpEnd> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const arrived: { message: Buffer; peer: RemoteInfo }[] = []
  socket.on('message', (message, peer) => arrived.push({ message, peer }))
  t.teardown(() => socket.close())
  socket.bind(0, host)
  await once(socket, 'listening')
  const next = async (timeoutMs = 2000) => {
    await until(() => arrived.length > 0, 'a datagram', timeoutMs)
    return arrived.shift()!
  }
  return { socket, port: socket.address().port, next, send: (bytes, to, at = host) => socket.send(bytes, to, at) }
}

/** Polls a state; rejects when it has not come within `timeoutMs`. */
export async function until(state: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !state(); await delay(2))
    if (Date.now() > deadline) throw new Error(`${what} did not come within ${timeoutMs} ms`)
}
