/**
 * One TCP flow: the client's half lives in the stack, the upstream's half is a socket, and bytes go from one to the
 * other without passing through JavaScript. Flow control is two facts: the receive window is credited only for what the
 * upstream's socket took, and the upstream is read only into room that the stack has.
 */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../io/addon.ts'
import type { Watcher } from '../io/poller.ts'
import type { Socket } from '../io/socket.ts'
import type { FlowView } from '../options.ts'
import type { Stack } from '../stack/stack.ts'
import type { Connected, Dial, DialError, Dialer, DialListener } from '../upstream/dialer.ts'
import { tcpAnswer } from './answer.ts'

const EAGAIN = -11
/** Reads from one upstream in a row; then others have their turn. */
const READS_A_TURN = 4

/** What a flow needs of the data plane around it. */
export interface TcpHost {
  readonly stack: Stack
  /** Milliseconds, monotonic, as of this turn. */
  readonly now: number
  /** Writes packets when their table is half full. */
  relieve(): void
  /** Calls `resume` in a later turn. */
  later(flow: TcpFlow): void
  /** A dial for a client of this address has ended, in whatever way. */
  dialEnded(client: Uint8Array): void
  /** A client was told, or left, without a connection. */
  refused(): void
  /** The flow is over: its number is free. */
  ended(flow: TcpFlow, reason: string): void
}

export interface TcpTimeouts {
  readonly connectTimeoutMs: number
  readonly halfCloseTimeoutMs: number
  readonly idleTimeoutMs: number
}

export class TcpFlow implements Watcher, DialListener {
  readonly id: number
  readonly startedAt: number
  readonly client: IpEndpoint
  readonly destination: IpEndpoint
  bytesUp = 0
  bytesDown = 0
  readonly #host: TcpHost
  #dialing = false
  #dial: Dial | undefined
  #socket: Socket | undefined
  #early: Uint8Array | undefined
  #activeAt: number
  #clientOpen = false
  #clientFinished = false
  /** Nothing is left of the client's side but bytes that the upstream has not taken yet. */
  #clientGone = false
  #upstreamFinished = false
  /** FIN was sent to the upstream. */
  #upstreamEnded = false
  #readable = true
  #writable = true
  #hungUp = false
  /** Waits in the host's queue for another turn. */
  #queued = false
  #over = false
  /** Why, when it was we who ended it. */
  #reason = ''

  constructor(host: TcpHost, id: number) {
    this.#host = host
    this.id = id
    this.startedAt = host.now
    this.#activeAt = host.now
    const { abi, words } = host.stack
    const row = abi.flows + id * abi.flowBytes
    const length = words[(row + abi.flowFamily) / 4] === 6 ? 16 : 4
    this.client = this.#endpoint(row + abi.flowClient, length, words[(row + abi.flowClientPort) / 4]!)
    this.destination = this.#endpoint(row + abi.flowDest, length, words[(row + abi.flowDestPort) / 4]!)
  }

  #endpoint(at: number, length: number, port: number): IpEndpoint {
    return { address: this.#host.stack.bytes.slice(at, at + length), port }
  }

  /** Dials; the host has counted it. */
  dial(dialer: Dialer): void {
    this.#dialing = true
    const dial = dialer.connect(this.destination, this)
    if (this.#dialing) this.#dial = dial // it may have failed at once
  }

  #dialEnded(): void {
    this.#dialing = false
    this.#dial = undefined
    this.#host.dialEnded(this.client.address)
  }

  // ---- the upstream's answer ----

  onConnected(connected: Connected): void {
    this.#dialEnded()
    this.#socket = connected.socket
    this.#early = connected.early
    this.#readable = connected.readable
    connected.socket.handOver(this)
    this.#activeAt = this.#host.now
    this.#host.stack.exports.tg_tcp_accept(this.id)
  }

  onFailed(error: DialError): void {
    this.#dialEnded()
    this.refuse(tcpAnswer(this.#host.stack.abi, error.failure), error.message)
  }

  /** Tells a client that still waits; `answer` is one of the stack's answer constants. */
  refuse(answer: number, reason: string): void {
    this.#reason = reason
    this.#host.refused()
    this.#host.stack.exports.tg_tcp_refuse(this.id, answer)
  }

  // ---- the client ----

  /** `bits` of the stack's events, in the order in which they must be looked at. */
  onEvents(bits: number): void {
    const { abi } = this.#host.stack
    this.#activeAt = this.#host.now
    if (bits & abi.eventOpen) {
      this.#clientOpen = true
      this.#deliverEarly()
      this.#pumpDown()
    }
    if (bits & abi.eventData) this.#pumpUp()
    if (bits & abi.eventFin) {
      this.#clientFinished = true
      this.#endUpstream()
    }
    if (bits & abi.eventRoom) this.#pumpDown()
    if (bits & abi.eventGone) this.#gone()
  }

  #gone(): void {
    if (this.#over) return
    const { abi, words } = this.#host.stack
    const error = words[(abi.flows + this.id * abi.flowBytes + abi.flowError) / 4]!
    if (error === abi.errorNone && !this.#upstreamEnded) {
      this.#clientGone = true // its last bytes are still on their way to the upstream
      return
    }
    this.#socket?.close(error !== abi.errorNone)
    this.#finish(this.#reason || this.#describe(error))
  }

  #describe(error: number): string {
    const { abi } = this.#host.stack
    if (error === abi.errorNone) return 'closed'
    if (error === abi.errorReset) return 'reset by the client'
    if (error === abi.errorTimeout) return 'the client does not answer any more'
    return error === abi.errorMemory ? 'out of memory' : 'aborted'
  }

  // ---- the upstream's socket ----

  onReady(events: number): void {
    if (this.#over) return
    this.#activeAt = this.#host.now
    if (events & (READABLE | READ_HANGUP)) this.#readable = true
    if (events & (READ_HANGUP | HANGUP | ERROR)) this.#hungUp = true
    if (events & WRITABLE && !this.#writable) {
      this.#writable = true
      this.#pumpUp()
    }
    if (events & ERROR) {
      const error = this.#socket!.takeError()
      if (error !== 0) return this.#upstreamFailed(error)
    }
    if (this.#readable) this.#pumpDown()
  }

  /** Another turn for a flow that had more to read. */
  resume(): void {
    this.#queued = false
    if (!this.#over) this.#pumpDown()
  }

  /** Client → upstream. */
  #pumpUp(): void {
    const { abi, words, exports } = this.#host.stack
    const waiting = (abi.flows + this.id * abi.flowBytes + abi.flowRxBytes) / 4
    while (this.#writable && !this.#over && words[waiting]! > 0) {
      const pieces = exports.tg_tcp_peek(this.id)
      const taken = this.#socket!.poller.io.writev(this.#socket!.fd, abi.iovecs, pieces)
      if (taken < 0) {
        this.#writable = false
        if (taken !== EAGAIN) return this.#upstreamFailed(taken)
        break
      }
      this.bytesUp += taken
      exports.tg_tcp_consume(this.id, taken)
    }
    if (words[waiting]! > 0) exports.tg_tcp_consume(this.id, 0)
    this.#endUpstream()
  }

  /** The client's FIN goes on when all before it has gone on. */
  #endUpstream(): void {
    const { abi, words } = this.#host.stack
    if (!this.#clientFinished || this.#upstreamEnded || this.#over) return
    if (words[(abi.flows + this.id * abi.flowBytes + abi.flowRxBytes) / 4]! > 0) return
    this.#upstreamEnded = true
    this.#socket!.end()
    this.#closeWhenDone()
    if (this.#clientGone) this.#gone()
  }

  /** Upstream → client. */
  #pumpDown(): void {
    if (!this.#clientOpen) return
    const { abi, words, exports } = this.#host.stack
    const socket = this.#socket!
    for (let reads = 0; this.#readable && !this.#upstreamFinished && !this.#over; reads++) {
      if (reads === READS_A_TURN) {
        if (!this.#queued) this.#host.later(this)
        this.#queued = true
        return
      }
      this.#host.relieve()
      const pieces = exports.tg_tcp_reserve(this.id)
      if (pieces === 0) return // a room event follows
      const got = socket.poller.io.readv(socket.fd, abi.iovecs, pieces)
      let room = 0
      for (let piece = 0; piece < pieces; piece++) room += words[abi.iovecs / 4 + 2 * piece + 1]!
      exports.tg_tcp_commit(this.id, Math.max(got, 0))
      if (got > 0) {
        this.bytesDown += got
        if (got < room && !this.#hungUp) this.#readable = false
      } else if (got === 0) this.#upstreamFinish()
      else {
        this.#readable = false
        if (got !== EAGAIN) this.#upstreamFailed(got)
      }
    }
  }

  #upstreamFinish(): void {
    this.#readable = false
    this.#upstreamFinished = true
    this.#host.stack.exports.tg_tcp_finish(this.id)
    this.#closeWhenDone()
  }

  /** Both FINs are on their way: the upstream's socket has nothing to do any more. */
  #closeWhenDone(): void {
    if (this.#upstreamEnded && this.#upstreamFinished) this.#socket!.close()
  }

  /** The upstream's connection broke. What it had sent before reaches the client before the reset does. */
  #upstreamFailed(errno: number): void {
    if (this.#over || (this.#upstreamEnded && this.#upstreamFinished)) return
    this.#readable = true
    if (errno < 0 && !this.#reason) this.#reason = `the upstream's connection broke: ${addon.errnoName(errno)}`
    this.#drainBroken()
    this.abort(this.#reason || 'reset by the upstream')
  }

  #drainBroken(): void {
    const { abi, exports } = this.#host.stack
    const socket = this.#socket!
    while (this.#clientOpen && !this.#upstreamFinished) {
      const pieces = exports.tg_tcp_reserve(this.id)
      if (pieces === 0) return
      const got = socket.poller.io.readv(socket.fd, abi.iovecs, pieces)
      exports.tg_tcp_commit(this.id, Math.max(got, 0))
      if (got <= 0) return
      this.bytesDown += got
    }
  }

  /** Bytes that came with the handshake's last message. */
  #deliverEarly(): void {
    let rest = this.#early
    this.#early = undefined
    if (rest === undefined) return
    const { abi, words, bytes, exports } = this.#host.stack
    const pieces = exports.tg_tcp_reserve(this.id)
    let done = 0
    for (let piece = 0; piece < pieces && rest.length > 0; piece++) {
      const row = abi.iovecs / 4 + 2 * piece
      const part = rest.subarray(0, words[row + 1]!)
      bytes.set(part, words[row]!)
      rest = rest.subarray(part.length)
      done += part.length
    }
    exports.tg_tcp_commit(this.id, done)
    this.bytesDown += done
    if (rest.length > 0) this.abort('out of memory')
  }

  // ---- the end ----

  /** RST to both sides, or silence to a client that still waits. Idempotent. */
  abort(reason: string): void {
    if (this.#over) return
    if (this.#dial !== undefined) this.refuse(this.#host.stack.abi.answerReset, reason)
    this.#socket?.close(true)
    this.#host.stack.exports.tg_tcp_abort(this.id)
    this.#finish(reason)
  }

  /** Lets go of the upstream without a word to the stack, which stopped. */
  discard(): void {
    this.#over = true
    this.#dial?.cancel()
    this.#socket?.close(true)
  }

  #cancelDial(): void {
    if (this.#dial === undefined) return
    this.#dial.cancel()
    this.#dialEnded()
  }

  #finish(reason: string): void {
    this.#over = true
    this.#cancelDial()
    this.#host.stack.exports.tg_tcp_release(this.id)
    this.#host.ended(this, reason)
  }

  /** Called now and then: ends the flow when its time is over. */
  sweep(timeouts: TcpTimeouts): void {
    const { now } = this.#host
    if (this.#dial !== undefined) {
      if (now - this.startedAt < timeouts.connectTimeoutMs) return
      this.#cancelDial()
      this.refuse(this.#host.stack.abi.answerSilence, 'the dial took too long')
      return
    }
    const half = this.#clientFinished || this.#upstreamFinished
    const limit = half ? timeouts.halfCloseTimeoutMs : timeouts.idleTimeoutMs
    if (now - this.#activeAt >= limit) this.abort(half ? 'half-closed and idle for too long' : 'idle for too long')
  }

  get state(): string {
    if (this.#socket === undefined) return 'dialing'
    if (!this.#clientOpen) return 'opening'
    if (this.#clientFinished && this.#upstreamFinished) return 'closing'
    return this.#clientFinished || this.#upstreamFinished ? 'half-closed' : 'open'
  }

  view(): FlowView {
    return {
      id: this.id,
      protocol: 'tcp',
      client: formatEndpoint(this.client),
      destination: formatEndpoint(this.destination),
      state: this.state,
      ageMs: Math.round(this.#host.now - this.startedAt),
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
    }
  }
}
