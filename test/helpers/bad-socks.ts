/**
 * A server that misbehaves as told: a script of steps, one for each message that a client sends, played anew for each
 * connection. It shares no line with the product, so that both cannot agree on a mistake. socks-faults.ts has the scripts
 * of the usual faults, by name.
 */
import { createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { listenOn } from '../../src/demo/listening.ts'

export type Step =
  /** Waits until this many more bytes have come from the client. */
  | { readonly expect: number }
  /** Waits for a message of the client, whole (RFC 1928 §3, §4, RFC 1929 §2), however it was sent. */
  | Message
  /** Sends bytes; with `piece` so many at a time, each as a segment of its own, every `everyMs`. */
  | { readonly send: readonly number[] | Uint8Array; readonly piece?: number; readonly everyMs?: number }
  | { readonly waitMs: number }
  /** What has come beyond what was waited for is thrown away: more must come. */
  | 'forget'
  /** FIN, and what comes is still read. */
  | 'end'
  | 'reset'
  /** Says nothing more and keeps the connection. */
  | 'silence'
  /** Anything else. */
  | ((connection: Connection) => void | Promise<void>)

export type Message = 'greeting' | 'auth' | 'request'

export interface Connection {
  readonly socket: Socket
  /** The address that the server listens on. */
  readonly host: string
  /** Bytes of the last message that was waited for. */
  readonly message: Buffer
  /** Ports of outgoing UDP sockets are put here. */
  readonly outgoingPorts: number[]
}

export interface BadSocks {
  readonly port: number
  /** Everything that each connection sent, in the order of the connections. */
  readonly received: readonly Uint8Array[]
  /** Of relays: what peers see, and may send to unasked, in the order of the associations. */
  readonly outgoingPorts: readonly number[]
  /** Connections that are open now. */
  live(): number
  /** Connections whose client has ended or reset them. */
  left(): number
  /** Nobody listens any more; the connections stay. */
  stopListening(): void
  close(): Promise<void>
}

/** More is not kept of what a connection sends. */
const MAX_RECEIVED = 1 << 20

/** `script` may depend on the number of the connection, from 0. */
export async function startBadSocks(
  script: readonly Step[] | ((connection: number) => readonly Step[]),
  host = '127.0.0.1',
  wantedPort = 0,
): Promise<BadSocks> {
  const received: Uint8Array[] = []
  const outgoingPorts: number[] = []
  const open = new Set<Socket>()
  const left = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    const index = received.push(new Uint8Array(0)) - 1
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    for (const event of ['end', 'error', 'close']) socket.on(event, () => left.add(socket))
    socket.on('error', () => socket.destroy())
    socket.on('data', chunk => {
      const known = received[index]!
      if (known.length < MAX_RECEIVED) received[index] = Buffer.concat([known, chunk])
    })
    const steps = typeof script === 'function' ? script(index) : script
    const connection = { socket, host, message: Buffer.alloc(0), outgoingPorts }
    play(connection, steps, () => received[index]!).catch(() => socket.destroy())
  })
  const port = await listenOn(server, host, wantedPort)
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => resolve())
      for (const socket of open) socket.destroy()
    })
  const stopListening = () => void server.close()
  return { port, received, outgoingPorts, live: () => open.size, left: () => left.size, stopListening, close }
}

async function play(
  connection: { -readonly [key in keyof Connection]: Connection[key] },
  steps: readonly Step[],
  received: () => Uint8Array,
): Promise<void> {
  const { socket } = connection
  let wanted = 0
  const have = async (more: () => number | undefined) => {
    for (;;) {
      const end = more()
      if (end !== undefined && received().length >= wanted + end) {
        connection.message = Buffer.from(received().subarray(wanted, wanted + end))
        wanted += end
        return
      }
      if (socket.destroyed) return
      await delay(1)
    }
  }
  for (const step of steps) {
    if (socket.destroyed || step === 'silence') return
    if (step === 'end') socket.end()
    else if (step === 'forget') wanted = received().length
    else if (step === 'reset') socket.resetAndDestroy()
    else if (typeof step === 'string') await have(() => lengthOf(step, received().subarray(wanted)))
    else if (typeof step === 'function') await step(connection)
    else if ('waitMs' in step) await delay(step.waitMs)
    else if ('expect' in step) await have(() => step.expect)
    else await sendPieces(socket, Uint8Array.from(step.send), step.piece ?? Number.POSITIVE_INFINITY, step.everyMs ?? 2)
  }
}

/** Of the message that begins `bytes`; undefined as long as it cannot be known. */
function lengthOf(message: Message, bytes: Uint8Array): number | undefined {
  if (message === 'greeting') return bytes.length < 2 ? undefined : 2 + bytes[1]!
  if (message === 'auth') {
    const password = 2 + (bytes[1] ?? 0)
    return bytes.length <= password ? undefined : password + 1 + bytes[password]!
  }
  if (bytes.length < 5) return undefined
  const address = bytes[3] === 1 ? 4 : bytes[3] === 4 ? 16 : 1 + bytes[4]!
  return 4 + address + 2
}

async function sendPieces(socket: Socket, bytes: Uint8Array, piece: number, everyMs: number): Promise<void> {
  for (let at = 0; at < bytes.length && !socket.destroyed; at += piece) {
    socket.write(bytes.subarray(at, Math.min(bytes.length, at + piece)))
    // Gives the reader a turn, so that it sees the pieces one by one.
    if (at + piece < bytes.length) await delay(everyMs)
  }
}
