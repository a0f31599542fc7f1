/**
 * A server that misbehaves as told: a script of steps, one for each message that a client sends, played anew for each
 * connection. It knows nothing of SOCKS.
 */
import { createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { listenOn } from '../../src/demo/listening.ts'

export type Step =
  /** Waits until this many more bytes have come from the client. */
  | { readonly expect: number }
  /** Sends bytes; with `piece` so many at a time, each as a segment of its own. */
  | { readonly send: readonly number[] | Uint8Array; readonly piece?: number }
  | { readonly waitMs: number }
  /** What has come beyond what was waited for is thrown away: more must come. */
  | 'forget'
  /** FIN, and what comes is still read. */
  | 'end'
  | 'reset'
  /** Says nothing more and keeps the connection. */
  | 'silence'

export interface BadSocks {
  readonly port: number
  /** Everything that each connection sent, in the order of the connections. */
  readonly received: readonly Uint8Array[]
  /** Connections that are open now. */
  live(): number
  /** Connections whose client has ended or reset them. */
  left(): number
  close(): Promise<void>
}

/** `script` may depend on the number of the connection, from 0. */
export async function startBadSocks(
  script: readonly Step[] | ((connection: number) => readonly Step[]),
  host = '127.0.0.1',
): Promise<BadSocks> {
  const received: Uint8Array[] = []
  const open = new Set<Socket>()
  const left = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    const index = received.push(new Uint8Array(0)) - 1
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    for (const event of ['end', 'error', 'close']) socket.on(event, () => left.add(socket))
    socket.on('error', () => socket.destroy())
    socket.on('data', chunk => {
      received[index] = Buffer.concat([received[index]!, chunk])
    })
    const steps = typeof script === 'function' ? script(index) : script
    play(socket, steps, () => received[index]!.length).catch(() => socket.destroy())
  })
  const port = await listenOn(server, host, 0)
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => resolve())
      for (const socket of open) socket.destroy()
    })
  return { port, received, live: () => open.size, left: () => left.size, close }
}

async function play(socket: Socket, steps: readonly Step[], count: () => number): Promise<void> {
  let wanted = 0
  for (const step of steps) {
    if (socket.destroyed) return
    if (step === 'silence') return
    if (step === 'end') socket.end()
    else if (step === 'forget') wanted = count()
    else if (step === 'reset') socket.resetAndDestroy()
    else if ('waitMs' in step) await delay(step.waitMs)
    else if ('expect' in step) {
      wanted += step.expect
      while (count() < wanted && !socket.destroyed) await delay(1)
    } else await sendPieces(socket, Uint8Array.from(step.send), step.piece ?? Number.POSITIVE_INFINITY)
  }
}

async function sendPieces(socket: Socket, bytes: Uint8Array, piece: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += piece) {
    socket.write(bytes.subarray(at, Math.min(bytes.length, at + piece)))
    // Gives the reader a turn, so that it sees the pieces one by one.
    if (at + piece < bytes.length) await delay(2)
  }
}
