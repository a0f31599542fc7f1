/**
 * What is said to a proxy on one connection, from its first byte to its answer to a request: what all protocols have in common.
 * It may be begun before there is a request, so that a connection stands ready.
 */
import type { Destination, IpEndpoint } from '../../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../../io/addon.ts'
import type { Socket } from '../../io/socket.ts'
import type { Arena, DialError, DialFailure } from '../dialer.ts'
import type { Attempt } from '../http/http-authentication.ts'
import type { Command, ReplyFields } from '../socks5/socks5-codec.ts'
import type { Manner } from '../socks5/socks5-manners.ts'
import type { Connecting, TransportUser } from '../transport/transport.ts'
import { type Awaited, broken, silent, spokeUnasked, unreachable } from '../transport/transport-reasons.ts'
import type { ProxyFailure } from './proxy-health.ts'

/** How far the proxy was when it ended. */
export type HandshakeEnd =
  | 'local' // this machine could not, or it was not tried
  | ProxyFailure
  | 'refused' // by a reply

/** What the proxy is asked for, on one connection or on several after each other. */
export interface Ask {
  readonly command: Command
  readonly destination: Destination
  /** For whom. */
  readonly client: IpEndpoint
  /** Of HTTP: what it has been told of how to answer the proxy's challenge. */
  attempt: Attempt | undefined
}

export interface HandshakeListener {
  /** The reply is `fields` (offsets into the arena, good during the call). The socket is the listener's now. */
  onReply(handshake: Handshake, fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void
  /** The socket is closed. */
  onHandshakeFailed(handshake: Handshake, error: DialError, end: HandshakeEnd): void
  /** The same, and what was asked is to be asked again, on a new connection. */
  onAskAgain(handshake: Handshake): void
}

/** `ready`: it could be asked, and there is no request yet. */
export type Stage = Awaited | 'ready' | 'done'

const EAGAIN = -11
/** What a write says of a connection that stood. */
const ENDED = new Set(['EPIPE', 'ECONNRESET'])
const GONE = READ_HANGUP | HANGUP | ERROR

export abstract class Handshake implements TransportUser {
  readonly manner: Manner
  /** Whom it speaks with; undefined when that is told by no address, or not yet. */
  proxy: IpEndpoint | undefined
  /** The proxy's choice, of SOCKS5; undefined until it is known. */
  method: number | undefined
  /** Bytes have come behind the request. */
  heard = false
  /** Until it is attached. */
  connecting: Connecting | undefined
  protected readonly arena: Arena
  protected ask: Ask | undefined
  protected stage: Stage = 'connect'
  /** What came of a message that is not complete: the next bytes are read behind it. */
  protected partial: Uint8Array | undefined
  #listener: HandshakeListener
  #socket: Socket | undefined
  /** There is something to say as soon as there is a socket. */
  #begun = false
  #hungUp = false

  constructor(arena: Arena, manner: Manner, listener: HandshakeListener) {
    this.arena = arena
    this.manner = manner
    this.#listener = listener
  }

  // ---- what a protocol says ----

  /** Writes what is said first into the scratch, and the request if it goes with it; 0: nothing before there is a request. */
  protected abstract writeFirst(): number
  /** What is waited for when that has been sent. */
  protected abstract readonly firstAwaited: Awaited
  /** Sends the request, on a connection that is `ready`. */
  protected abstract sendAsk(): void
  /**
   * The first `length` bytes of the scratch have come.
   * @param drained there is no more at the moment
   */
  protected abstract take(length: number, drained: boolean): void
  /** The connection ended, or broke, instead of this. True: that is dealt with. */
  protected onBroken(_awaited: Awaited): boolean {
    return false
  }

  // ---- its life ----

  get socket(): Socket {
    return this.#socket!
  }

  /** The proxy has been asked something and has not answered it yet: what it was asked last. */
  get waitsFor(): Awaited | undefined {
    const { stage } = this
    if (stage === 'connect' && this.connecting?.stands === true) return 'way'
    return stage === 'ready' || stage === 'done' ? undefined : stage
  }

  attach(socket: Socket, peer: IpEndpoint | undefined, readable: boolean): void {
    this.connecting = undefined
    this.#socket = socket
    this.proxy = peer
    if (this.#begun && this.#start(false) && readable) this.#read()
  }

  onUnconnected({ failure, message }: DialError, end: HandshakeEnd): void {
    this.fail(failure, message, end)
  }

  /** Begins ahead of a request; what fails at once is told at once. */
  begin(): void {
    this.#begun = true
    if (this.#socket !== undefined) this.#start(false)
  }

  /** Gives the request, also to a handshake that was begun ahead; what fails at once is told at once. */
  request(ask: Ask, listener: HandshakeListener): void {
    this.#listener = listener
    this.ask = ask
    this.#begun = true
    if (this.#socket === undefined) return
    if (this.stage === 'connect') this.#start(false)
    else if (this.stage === 'ready') this.sendAsk()
  }

  onReady(events: number): void {
    if (this.stage === 'done') return
    if ((events & GONE) !== 0) this.#hungUp = true
    if (this.stage === 'connect') {
      if ((events & (WRITABLE | ERROR | HANGUP)) === 0 || !this.#start(true)) return
    }
    if (this.#hungUp || (events & READABLE) !== 0) this.#read()
  }

  /** The first write. False: it could not be sent (yet). `stands`: connect() is over. */
  #start(stands: boolean): boolean {
    const length = this.writeFirst()
    if (length === 0) {
      if (stands) this.stage = 'ready'
      return stands
    }
    const sent = this.#write(length)
    if (sent === length) {
      this.stage = this.firstAwaited
      return true
    }
    if (sent === EAGAIN) return false // connect() is still under way
    const reason = sent < 0 ? addon.errnoName(sent) : 'short write'
    if (ENDED.has(reason)) {
      this.stage = this.firstAwaited // it had accepted the connection
      this.#broken(reason === 'EPIPE' ? '' : reason)
      return false
    }
    this.fail('upstream-down', unreachable(reason), 'unreached')
    return false
  }

  /** Bytes that were sent of the first `length` in the scratch, or a negative errno. */
  #write(length: number): number {
    const { words, scratch, scratchBytes } = this.arena
    const row = (scratch + scratchBytes - 16) / 4
    words[row] = scratch
    words[row + 1] = length
    const { poller, fd } = this.#socket!
    return poller.io.writev(fd, row * 4, 1)
  }

  /** Sends `length` bytes from the scratch; they always fit a socket that has sent so little. */
  protected send(length: number): void {
    const sent = this.#write(length)
    if (sent !== length) this.#broken(sent < 0 ? addon.errnoName(sent) : 'short write')
  }

  #read(): void {
    const { bytes, words, scratch, scratchBytes } = this.arena
    const { poller, fd } = this.#socket!
    while (this.stage !== 'done') {
      let have = 0
      if (this.partial !== undefined) {
        bytes.set(this.partial, scratch)
        have = this.partial.length
      }
      const row = (scratch + scratchBytes - 16) / 4
      const room = scratchBytes - 16 - have
      words[row] = scratch + have
      words[row + 1] = room
      const got = poller.io.readv(fd, row * 4, 1)
      if (got === 0) return this.#broken('')
      if (got < 0) {
        if (got !== EAGAIN) this.#broken(addon.errnoName(got))
        return
      }
      if (this.stage === 'reply') this.heard = true
      const drained = got < room && !this.#hungUp
      this.take(have + got, drained)
      if (drained) return
    }
  }

  // ---- its ends ----

  /** The way stands. */
  protected reply(fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void {
    this.stage = 'done'
    this.#listener.onReply(this, fields, early, readable)
  }

  protected askAgain(): void {
    this.cancel()
    this.#listener.onAskAgain(this)
  }

  protected fail(failure: DialFailure, message: string, end: HandshakeEnd): void {
    this.cancel()
    this.#listener.onHandshakeFailed(this, { failure, message }, end)
  }

  protected spokeUnasked(): void {
    const { failure, message } = spokeUnasked()
    this.fail(failure, message, 'alien')
  }

  /** `errno`: '' for an end in order. */
  #broken(errno: string): void {
    const awaited = this.waitsFor
    if (awaited === undefined) this.fail('upstream-down', 'the proxy closed a connection that waited', 'closed')
    else if (awaited === 'connect') this.fail('upstream-down', unreachable(errno || 'closed'), 'unreached')
    else if (!this.onBroken(awaited)) {
      const message = this.socket.fault ?? broken(awaited, this.isWithin, errno)
      this.fail('upstream-down', message, awaited === 'method' ? 'closed' : 'unanswered')
    }
  }

  /** Some bytes of what is waited for have come. */
  protected get isWithin(): boolean {
    return this.partial !== undefined
  }

  /**
   * Closes the socket, or resets it; the listener hears nothing more. Idempotent, harmless when the reply has come.
   */
  cancel(reset = false): void {
    if (this.stage === 'done') return
    this.stage = 'done'
    this.connecting?.cancel()
    this.#socket?.close(reset)
  }

  /** As cancel, because its time is over; why it has no answer so far. */
  expire(): string {
    const awaited = this.waitsFor ?? 'reply'
    const message = this.connecting?.expire() ?? silent(awaited)
    this.cancel(true)
    return message
  }
}
