/**
 * TCP ends of a namespace, played by a process inside (agent.ts): clients and servers are the same functions.
 * Sockets have numbers; arguments and results are plain JSON. Tests poll `view`.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { listenOn } from '../../src/demo/listening.ts'
import { type Connection, startBadSocks } from '../helpers/bad-socks.ts'
import { scriptOf } from '../helpers/socks-faults.ts'
import { keepListening } from './server-ends.ts'

export interface View {
  readonly bytes: number
  readonly sha256: string
  /** The first 4096 bytes, latin1. */
  readonly text: string
  readonly ended: boolean
  readonly closed: boolean
  readonly error: string
}

class End {
  readonly socket: Socket
  bytes = 0
  text = ''
  ended = false
  error = ''
  readonly hash = createHash('sha256')

  constructor(socket: Socket, answer: (end: End) => void = () => undefined) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('data', chunk => {
      this.bytes += chunk.length
      this.hash.update(chunk)
      if (this.text.length < 4096) this.text += chunk.toString('latin1')
    })
    socket.on('end', () => {
      this.ended = true
      answer(this)
    })
    socket.on('error', error => {
      this.error = (error as NodeJS.ErrnoException).code ?? error.message
    })
  }
}

const tcpEnds: End[] = []
const accepted: number[] = []

/** connect(): the socket's number, or the code of the error, and how long it took. */
export async function dial(host: string, port: number, timeoutMs = 10_000, localAddress?: string) {
  const socket = new Socket({ allowHalfOpen: true })
  const id = tcpEnds.push(new End(socket)) - 1
  const start = performance.now()
  socket.connect({ host, port, ...(localAddress === undefined ? {} : { localAddress }) })
  const timer = setTimeout(
    () => socket.destroy(Object.assign(new Error('late'), { code: 'STILL_CONNECTING' })),
    timeoutMs,
  )
  const code = await new Promise<string>(resolve => {
    socket.once('connect', () => resolve(''))
    socket.once('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
  })
  clearTimeout(timer)
  return { id, code, ms: performance.now() - start }
}

/** Many connections, each with an echo of a few bytes and an orderly end; how many went well. */
export async function shortConnections(host: string, port: number, count: number, atOnce: number): Promise<number> {
  let next = 0
  let good = 0
  const worker = async () => {
    while (next < count) {
      const word = `word ${next++}`
      const socket = new Socket()
      socket.on('error', () => undefined)
      socket.connect({ host, port })
      socket.end(word)
      let text = ''
      socket.on('data', chunk => {
        text += chunk
      })
      await once(socket, 'close')
      if (text === word) good++
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return good
}

/** One HTTP/1.0 request from `localPort`; the server ends the connection. What came, or the code of an error. */
async function requestFrom(localPort: number, host: string, port: number): Promise<string> {
  const socket = new Socket()
  let text = ''
  socket.on('data', chunk => {
    text += chunk.toString('latin1')
  })
  const failed = new Promise<string>(resolve =>
    socket.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message)),
  )
  socket.connect({ host, port, localPort })
  socket.write('GET /bytes/100 HTTP/1.0\r\n\r\n')
  return await Promise.race([failed, once(socket, 'close').then(() => text)])
}

/** `each` of them from each of `ports`, one after the other. A port is taken until our last FIN is acknowledged: that time counts. */
export async function requestsFromPorts(host: string, port: number, ports: number[], each: number) {
  const found = { good: 0, slowestMs: 0, errors: [] as string[] }
  const worker = async (localPort: number) => {
    for (let at = 0; at < each; at++) {
      const start = performance.now()
      let got = await requestFrom(localPort, host, port)
      while (got === 'EADDRNOTAVAIL' && performance.now() - start < 2_000)
        got = await requestFrom(localPort, host, port)
      if (/^HTTP\/1\.[01] 200 /.test(got) && got.split('\r\n\r\n')[1]?.length === 100) found.good++
      else found.errors.push(`${localPort}: ${got}`)
      found.slowestMs = Math.max(found.slowestMs, performance.now() - start)
    }
  }
  await Promise.all(ports.map(worker))
  return found
}

/** Many connections that fail, by what connect() said; a connection that stands counts as ''. */
export async function outcomes(host: string, port: number, count: number, atOnce: number) {
  const codes: Record<string, number> = {}
  let left = count
  const worker = async () => {
    while (left-- > 0) {
      const { id, code } = await dial(host, port)
      tcpEnds[id]!.socket.destroy()
      codes[code] = (codes[code] ?? 0) + 1
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return codes
}

/** Tries again and again until one stands; when that was (Date.now()), and what the others said. */
export async function dialUntil(host: string, port: number, timeoutMs: number, patienceMs = 200) {
  const codes: Record<string, number> = {}
  for (const end = Date.now() + timeoutMs; Date.now() < end; ) {
    const { id, code } = await dial(host, port, patienceMs)
    const at = Date.now()
    tcpEnds[id]!.socket.destroy()
    if (code === '') return { at, codes }
    codes[code] = (codes[code] ?? 0) + 1
  }
  throw new Error(`none within ${timeoutMs} ms: ${JSON.stringify(codes)}`)
}

/** Connections that `knock` has under way. */
const KNOCKING = 8_000

/** Connections begun at a steady rate, none waited for: the oldest give way, and all end at the end. How many there were. */
export async function knock(host: string, port: number, perSecond: number, ms: number): Promise<number> {
  const sockets: Socket[] = []
  const start = performance.now()
  for (let past = 0; past < ms; past = performance.now() - start) {
    while (sockets.length < (past / 1000) * perSecond) {
      const socket = new Socket()
      socket.on('error', () => undefined)
      sockets.push(socket.connect({ host, port }))
      if (sockets.length > KNOCKING) sockets[sockets.length - KNOCKING - 1]!.destroy()
    }
    await delay(5)
  }
  for (const socket of sockets) socket.destroy()
  return sockets.length
}

/** What came of connections that were begun at a steady rate, each for an echo of a word. */
export interface Callers {
  begun: number
  good: number
  /** What connect() said of those that were never answered. */
  codes: Record<string, number>
  /** Answered, and broken before the echo was there. */
  broken: number
  /** The slowest connect(). */
  slowestMs: number
}

export async function callSteadily(host: string, port: number, perSecond: number, ms: number): Promise<Callers> {
  const found: Callers = { begun: 0, good: 0, codes: {}, broken: 0, slowestMs: 0 }
  const call = async () => {
    const { id, code, ms: took } = await dial(host, port)
    const one = tcpEnds[id]!
    found.slowestMs = Math.max(found.slowestMs, took)
    if (code !== '') found.codes[code] = (found.codes[code] ?? 0) + 1
    else {
      // not ended before the echo is there: some proxies close both ways then
      one.socket.write('word')
      await new Promise<void>(resolve => {
        one.socket.on('data', () => one.bytes === 4 && resolve())
        // a proxy that is killed ends, or resets, what it had answered
        one.socket.once('end', resolve)
        one.socket.once('close', resolve)
        if (one.ended || one.socket.destroyed) resolve()
      })
      if (one.text === 'word') found.good++
      else found.broken++
    }
    one.socket.destroy()
  }
  const calls: Promise<void>[] = []
  const start = performance.now()
  for (let past = 0; past < ms; past = performance.now() - start) {
    while (found.begun < (past / 1000) * perSecond) {
      found.begun++
      calls.push(call())
    }
    await delay(5)
  }
  await Promise.all(calls)
  return found
}

export async function dialMany(host: string, port: number, count: number): Promise<number[]> {
  const ids: number[] = []
  const worker = async () => {
    while (ids.length < count) {
      const slot = ids.push(-1) - 1
      const { id, code } = await dial(host, port, 20_000)
      if (code !== '') throw new Error(`connection ${slot}: ${code}`)
      ids[slot] = id
    }
  }
  await Promise.all(Array.from({ length: 32 }, worker))
  return ids
}

export async function view(id: number): Promise<View> {
  const { bytes, text, ended, error, hash, socket } = tcpEnds[id]!
  return { bytes, text: text.slice(0, 4096), ended, error, closed: socket.destroyed, sha256: hash.copy().digest('hex') }
}

export async function write(id: number, text: string, times = 1): Promise<void> {
  const piece = Buffer.from(text.repeat(Math.min(times, 65_536)))
  for (let left = times; left > 0; left -= 65_536)
    tcpEnds[id]!.socket.write(left >= 65_536 ? piece : Buffer.from(text.repeat(left)))
}

export async function end(id: number): Promise<void> {
  tcpEnds[id]!.socket.end()
}

export async function reset(id: number): Promise<void> {
  tcpEnds[id]!.socket.resetAndDestroy()
}

export async function destroy(ids: number[]): Promise<void> {
  for (const id of ids) tcpEnds[id]!.socket.destroy()
}

export async function pause(id: number): Promise<void> {
  tcpEnds[id]!.socket.pause()
}

export async function resume(id: number): Promise<void> {
  tcpEnds[id]!.socket.resume()
}

/** `hold`: says nothing; `echo`; `answer`: tells at the end of the client how many bytes came. */
export async function listen(
  name: string,
  host: string,
  port: number,
  kind: 'hold' | 'echo' | 'answer',
): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, socket => {
    const answer = (one: End) => {
      if (kind === 'answer') one.socket.end(`${one.bytes} bytes`)
      if (kind === 'echo') one.socket.end()
    }
    accepted.push(tcpEnds.push(new End(socket, answer)) - 1)
    if (kind === 'echo') socket.pipe(socket, { end: false })
  })
  await keep(name, server, host, port)
}

/**
 * A proxy without a destination behind it: its own connection is what the client gets. It takes IPv4 and IPv6 requests
 * without authentication.
 */
export async function listenAsProxy(name: string, host: string, port: number): Promise<void> {
  const take = ({ socket }: Connection) => void accepted.push(tcpEnds.push(new End(socket)) - 1)
  const [reply, ...before] = scriptOf(['sound']).toReversed()
  const proxy = await startBadSocks([...before.toReversed(), take, reply!], host, port)
  keepListening(name, proxy)
}

async function keep(name: string, server: Server, host: string, port: number): Promise<void> {
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await listenOn(server, host, port)
  keepListening(name, {
    close: async () => {
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  })
}

/** Numbers of the connections that came since the last call. */
export async function takeAccepted(): Promise<number[]> {
  return accepted.splice(0)
}

/** How many there are. */
export async function acceptedCount(): Promise<number> {
  return accepted.length
}
