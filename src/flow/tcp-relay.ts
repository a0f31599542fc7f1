/**
 * The way of the bytes of one connected TCP flow. The client's half lives in the stack, the upstream's half is a socket,
 * and bytes go from one to the other without passing through JavaScript. Flow control is two facts: the receive window is
 * credited only for what the upstream's socket took, and the upstream is read only into room that the stack has.
 */
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../io/addon.ts'
import type { Watcher } from '../io/poller.ts'
import type { Socket } from '../io/socket.ts'
import type { Stack } from '../stack/stack.ts'
import type { Connected } from '../upstream/dialer.ts'

const EAGAIN = -11
/** Reads from one upstream in a row; then others have their turn. */
const READS_A_TURN = 4

/** What a relay needs of the data plane around it. */
export interface RelayHost {
  readonly stack: Stack
  /** Milliseconds, monotonic, as of this turn. */
  readonly now: number
  /** Writes packets when their table is half full. */
  relieve(): void
  /** Calls `resume` in a later turn. */
  later(relay: TcpRelay): void
}

/** Whose bytes they are. */
export interface RelayOwner {
  /** The client's FIN has gone on to the upstream, behind its last byte. */
  onUpstreamEnded(): void
  /** Nothing can go on: both sides are to be reset. */
  onBroken(reason: string): void
}

export class TcpRelay implements Watcher {
  bytesUp = 0
  bytesDown = 0
  /** Of the last event of either side. */
  activeAt: number
  /** The client has acknowledged the SYN-ACK. */
  clientOpen = false
  clientFinished = false
  /** End of stream was read from the upstream. */
  upstreamFinished = false
  /** FIN was sent to the upstream. */
  upstreamEnded = false
  readonly #host: RelayHost
  readonly #id: number
  readonly #socket: Socket
  readonly #owner: RelayOwner
  #early: Uint8Array | undefined
  #readable: boolean
  /** The handshake may have seen the socket's last edge: it is read until it says that there is no more. */
  #unsure: boolean
  #writable = true
  #hungUp = false
  /** Waits in the host's queue for another turn. */
  #queued = false
  #closed = false
  /** Why: the upstream's connection broke before the client has acknowledged its own. */
  #brokenBy: string | undefined

  /** @param id the stack's number of the flow */
  constructor(host: RelayHost, id: number, connected: Connected, owner: RelayOwner) {
    this.#host = host
    this.#id = id
    this.#socket = connected.socket
    this.#early = connected.early
    this.#readable = connected.readable
    this.#unsure = connected.readable
    this.#owner = owner
    this.activeAt = host.now
    connected.socket.handOver(this)
  }

  // ---- client → upstream ----

  /** The client has sent bytes, or the upstream takes bytes again. */
  pumpUp(): void {
    const { abi, words, exports } = this.#host.stack
    const waiting = (abi.flows + this.#id * abi.flowBytes + abi.flowRxBytes) / 4
    while (this.#writable && !this.#closed && words[waiting]! > 0) {
      const pieces = exports.tg_tcp_peek(this.#id)
      if (pieces === 0) break
      const taken = this.#socket.poller.io.writev(this.#socket.fd, abi.iovecs, pieces)
      if (taken < 0) {
        this.#writable = false
        if (taken !== EAGAIN) return this.#broken(brokenBy(taken))
        break
      }
      this.bytesUp += taken
      exports.tg_tcp_consume(this.#id, taken)
    }
    if (words[waiting]! > 0) exports.tg_tcp_consume(this.#id, 0)
    this.#endUpstream()
  }

  finishClient(): void {
    this.clientFinished = true
    this.#endUpstream()
  }

  /** The client's FIN goes on when all before it has gone on. */
  #endUpstream(): void {
    const { abi, words } = this.#host.stack
    if (!this.clientFinished || this.upstreamEnded || this.#closed) return
    if (words[(abi.flows + this.#id * abi.flowBytes + abi.flowRxBytes) / 4]! > 0) return
    this.upstreamEnded = true
    this.#socket.end()
    this.#closeWhenDone()
    this.#owner.onUpstreamEnded()
  }

  // ---- upstream → client ----

  openClient(): void {
    this.clientOpen = true
    if (this.#brokenBy !== undefined) this.#broken(this.#brokenBy)
    else this.pumpDown()
  }

  /** The upstream has sent bytes, or the client has room again. */
  pumpDown(): void {
    if (!this.clientOpen || !this.#deliverEarly()) return
    for (let reads = 0; this.#readable && !this.upstreamFinished && !this.#closed; reads++) {
      if (reads === READS_A_TURN) {
        if (!this.#queued) this.#host.later(this)
        this.#queued = true
        return
      }
      this.#host.relieve()
      if (!this.#read()) return
    }
  }

  /** One read, straight into the stack. false: the client must acknowledge first, a room event follows. */
  #read(): boolean {
    const { abi, words, exports } = this.#host.stack
    const pieces = exports.tg_tcp_reserve(this.#id)
    if (pieces === 0) return false
    let room = 0
    for (let piece = 0; piece < pieces; piece++) room += words[abi.iovecs / 4 + 2 * piece + 1]!
    const got = this.#readInto(pieces)
    if (got > 0) {
      if (got < room && !this.#hungUp && !this.#unsure) this.#readable = false
      return true
    }
    this.#readable = false
    this.#unsure = false
    if (got === 0) this.#finishUpstream()
    else if (got !== EAGAIN) this.#broken(brokenBy(got))
    return true
  }

  /** Reads into the `pieces` that were reserved: bytes, 0 at end of stream, or a negative errno. */
  #readInto(pieces: number): number {
    const { abi, exports } = this.#host.stack
    const got = this.#socket.poller.io.readv(this.#socket.fd, abi.iovecs, pieces)
    exports.tg_tcp_commit(this.#id, Math.max(got, 0))
    this.bytesDown += Math.max(got, 0)
    return got
  }

  #finishUpstream(): void {
    const { fault } = this.#socket
    if (fault !== undefined) return this.#owner.onBroken(fault)
    this.upstreamFinished = true
    this.#host.stack.exports.tg_tcp_finish(this.#id)
    this.#closeWhenDone()
  }

  /** Bytes that came with the handshake's last message go first. false: the client must acknowledge first. */
  #deliverEarly(): boolean {
    while (this.#early !== undefined && !this.#closed) {
      const { abi, words, bytes, exports } = this.#host.stack
      const pieces = exports.tg_tcp_reserve(this.#id)
      if (pieces === 0) return false
      let rest = this.#early
      for (let piece = 0; piece < pieces && rest.length > 0; piece++) {
        const row = abi.iovecs / 4 + 2 * piece
        const part = rest.subarray(0, words[row + 1]!)
        bytes.set(part, words[row]!)
        rest = rest.subarray(part.length)
      }
      const done = this.#early.length - rest.length
      this.#early = rest.length > 0 ? rest : undefined
      exports.tg_tcp_commit(this.#id, done)
      this.bytesDown += done
    }
    return true
  }

  // ---- the socket ----

  onReady(events: number): void {
    if (this.#closed) return
    this.activeAt = this.#host.now
    if (events & (READABLE | READ_HANGUP)) this.#readable = true
    if (events & (READ_HANGUP | HANGUP | ERROR)) this.#hungUp = true
    if (events & WRITABLE && !this.#writable) {
      this.#writable = true
      this.pumpUp()
    }
    if (events & ERROR && !this.#closed) {
      const error = this.#socket.takeError()
      if (error !== 0) return this.#broken(brokenBy(error))
    }
    if (this.#hungUp && this.upstreamFinished && !this.#closed) {
      const { fault } = this.#socket
      if (fault !== undefined) return this.#broken(fault)
    }
    this.pumpDown()
  }

  /** Another turn for a flow that had more to read. */
  resume(): void {
    this.#queued = false
    if (!this.#closed) this.pumpDown()
  }

  /** Both FINs are on their way: the socket has nothing to do any more. */
  #closeWhenDone(): void {
    if (this.upstreamEnded && this.upstreamFinished) this.close(false)
  }

  /** The upstream's connection broke. What it had sent before reaches the client before the reset does. */
  #broken(reason: string): void {
    if (this.#closed) return
    this.#hungUp = true
    if (!this.clientOpen) {
      this.#brokenBy = reason
      return
    }
    this.#drainBroken()
    this.#owner.onBroken(this.#socket.fault ?? reason)
  }

  #drainBroken(): void {
    if (!this.#deliverEarly()) return
    while (!this.upstreamFinished) {
      const pieces = this.#host.stack.exports.tg_tcp_reserve(this.#id)
      if (pieces === 0 || this.#readInto(pieces) <= 0) return
    }
  }

  /** `reset`: the upstream gets RST. Idempotent. */
  close(reset: boolean): void {
    this.#closed = true
    this.#socket.close(reset)
  }
}

function brokenBy(errno: number): string {
  return `the upstream's connection broke: ${addon.errnoName(errno)}`
}
