/**
 * The client's side of a SOCKS5 handshake on one socket: connect, method, perhaps user and password, request, reply
 * (RFC 1928 §3–6, RFC 1929). The same for a stream (CONNECT) and for the control connection of an association. One that
 * is not pipelined may be begun before there is a request.
 */
import type { Destination, IpEndpoint } from '../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../io/addon.ts'
import type { Socket } from '../io/socket.ts'
import type { Arena, DialError, DialFailure } from './dialer.ts'
import type { ProxyFailure } from './proxy-health.ts'
import type { Authentication } from './socks5-authentication.ts'
import {
  addressFields,
  Command,
  encodeAuth,
  encodeGreeting,
  encodeRequest,
  MALFORMED,
  Method,
  NEED_MORE,
  parseAuthReply,
  parseMethod,
  parseReply,
  type ReplyFields,
} from './socks5-codec.ts'
import type { Manner } from './socks5-manners.ts'
import { type Awaited, alien, broken, malformed, objection, refusedBy, silent, unreachable } from './socks5-reasons.ts'
import type { Connecting, TransportUser } from './transport.ts'

/** How far the proxy was when it ended. */
export type HandshakeEnd =
  | 'local' // this machine could not, or it was not tried
  | ProxyFailure
  | 'refused' // by a reply

export interface HandshakeListener {
  /** The reply is `fields` (offsets into the arena, good during the call). The socket is the listener's now. */
  onReply(handshake: Handshake, fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void
  /** The socket is closed. */
  onHandshakeFailed(handshake: Handshake, error: DialError, end: HandshakeEnd): void
}

/** `ready`: greeted, and no request yet. */
type Stage = Awaited | 'ready' | 'done'

const EAGAIN = -11
/** What a write says of a connection that stood. */
const ENDED = new Set(['EPIPE', 'ECONNRESET'])
const GONE = READ_HANGUP | HANGUP | ERROR

/** One for all: it is read before the next handshake can write it. */
const fields: ReplyFields = { ...addressFields(), reply: 0 }
const choice = { method: 0, status: 0 }

export class Handshake implements TransportUser {
  readonly manner: Manner
  /** Whom it speaks with; undefined when that is told by no address, or not yet. */
  proxy: IpEndpoint | undefined
  /** The proxy's choice; undefined until it is known. */
  method: number | undefined
  /** Bytes have come behind the request. */
  heard = false
  readonly #arena: Arena
  readonly #authentication: Authentication
  #listener: HandshakeListener
  /** Until it is attached. */
  connecting: Connecting | undefined
  #socket: Socket | undefined
  /** There is something to say as soon as there is a socket. */
  #begun = false
  #command: Command = Command.connect
  #destination: Destination | undefined
  #stage: Stage = 'connect'
  /** What came of a message that is not complete. */
  #partial: Uint8Array | undefined
  #hungUp = false

  /** @param authentication has a password when the manner offers one */
  constructor(arena: Arena, authentication: Authentication, manner: Manner, listener: HandshakeListener) {
    this.#arena = arena
    this.#authentication = authentication
    this.manner = manner
    this.#listener = listener
  }

  get socket(): Socket {
    return this.#socket!
  }

  /** The proxy has been asked something and has not answered it yet: what it was asked last. */
  get waitsFor(): Awaited | undefined {
    const stage = this.#stage
    if (stage === 'connect' && this.connecting?.stands === true) return 'way'
    return stage === 'ready' || stage === 'done' ? undefined : stage
  }

  attach(socket: Socket, peer: IpEndpoint | undefined, readable: boolean): void {
    this.connecting = undefined
    this.#socket = socket
    this.proxy = peer
    if (this.#begun && this.#greet() && readable) this.#read()
  }

  onUnconnected({ failure, message }: DialError, end: HandshakeEnd): void {
    this.#fail(failure, message, end)
  }

  /** Begins ahead of a request; what fails at once is told at once. */
  begin(): void {
    this.#begun = true
    if (this.#socket !== undefined) this.#greet()
  }

  /** Gives the request, also to a handshake that was begun ahead; what fails at once is told at once. */
  request(command: Command, destination: Destination, listener: HandshakeListener): void {
    this.#listener = listener
    this.#command = command
    this.#destination = destination
    this.#begun = true
    if (this.#socket === undefined) return
    if (this.#stage === 'connect') this.#greet()
    else if (this.#stage === 'ready') this.#sendRequest()
  }

  onReady(events: number): void {
    if (this.#stage === 'done') return
    if ((events & GONE) !== 0) this.#hungUp = true
    if (this.#stage === 'connect') {
      if ((events & (WRITABLE | ERROR | HANGUP)) === 0 || !this.#greet()) return
    }
    if (this.#hungUp || (events & READABLE) !== 0) this.#read()
  }

  /** The first write: the greeting, and all that goes with it. False: it could not be sent (yet). */
  #greet(): boolean {
    const { manner } = this
    const { bytes, scratch } = this.#arena
    let length = encodeGreeting(bytes, scratch, manner.offersNone, manner.offersPassword)
    if (manner.pipelined) {
      if (manner.offersPassword) {
        const { username, password } = this.#authentication
        length += encodeAuth(bytes, scratch + length, username, password)
      }
      length += encodeRequest(bytes, scratch + length, this.#command, this.#destination!)
    }
    const sent = this.#write(length)
    if (sent === length) {
      this.#stage = 'method'
      return true
    }
    if (sent === EAGAIN) return false // connect() is still under way
    const reason = sent < 0 ? addon.errnoName(sent) : 'short write'
    if (ENDED.has(reason)) {
      this.#stage = 'method' // it had accepted the connection
      this.#broken(reason === 'EPIPE' ? '' : reason)
      return false
    }
    this.#fail('upstream-down', unreachable(reason), 'unreached')
    return false
  }

  /** Bytes that were sent of the first `length` in the scratch, or a negative errno. */
  #write(length: number): number {
    const { words, scratch, scratchBytes } = this.#arena
    const row = (scratch + scratchBytes - 16) / 4
    words[row] = scratch
    words[row + 1] = length
    const { poller, fd } = this.#socket!
    return poller.io.writev(fd, row * 4, 1)
  }

  /** Sends `length` bytes from the scratch; they always fit a socket that has sent so little. */
  #send(length: number): void {
    const sent = this.#write(length)
    if (sent !== length) this.#broken(sent < 0 ? addon.errnoName(sent) : 'short write')
  }

  #read(): void {
    const { bytes, words, scratch, scratchBytes } = this.#arena
    const { poller, fd } = this.#socket!
    while (this.#stage !== 'done') {
      let have = 0
      if (this.#partial !== undefined) {
        bytes.set(this.#partial, scratch)
        have = this.#partial.length
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
      if (this.#stage === 'reply') this.heard = true
      const drained = got < room && !this.#hungUp
      this.#take(have + got, drained)
      if (drained) return
    }
  }

  /** Takes the messages in the first `length` bytes of the scratch: one, or when pipelined all that have come. */
  #take(length: number, drained: boolean): void {
    const { bytes, scratch } = this.#arena
    const end = scratch + length
    this.#partial = undefined
    for (let at = scratch; at < end && this.#stage !== 'done'; ) {
      const used = this.#parse(at, end - at)
      if (this.#stage === 'reply' && fields.reply > 0) return this.#refused() // the rest need not come, or be right
      if (used === MALFORMED) return this.#malformed(bytes.subarray(at, end))
      if (used === NEED_MORE) {
        this.#partial = bytes.slice(at, end)
        return
      }
      at += used
      if (this.#stage === 'reply') {
        this.#stage = 'done'
        this.#listener.onReply(this, fields, at < end ? bytes.slice(at, end) : undefined, !drained)
      } else if (at < end && !this.manner.pipelined) this.#fail('upstream-down', SPOKE_UNASKED, 'alien')
      else if (this.#stage === 'method') this.#chosen()
      else this.#authenticated()
    }
  }

  #parse(at: number, length: number): number {
    const { bytes } = this.#arena
    fields.reply = 0
    switch (this.#stage) {
      case 'method':
        return parseMethod(bytes, at, length, choice)
      case 'auth':
        return parseAuthReply(bytes, at, length, choice)
      case 'reply':
        return parseReply(bytes, at, length, fields)
      default:
        return MALFORMED // it was asked nothing
    }
  }

  #chosen(): void {
    const { manner } = this
    const { method } = choice
    this.method = method
    if (method === Method.none && manner.offersNone) {
      if (this.#authentication.isSet) this.#authentication.accepted()
      return this.#sendRequest()
    }
    if (method === Method.password && manner.offersPassword) {
      this.#stage = 'auth'
      if (manner.pipelined) return
      const { bytes, scratch } = this.#arena
      return this.#send(encodeAuth(bytes, scratch, this.#authentication.username, this.#authentication.password))
    }
    this.#fail('authentication', objection(method, this.#authentication.isSet), 'denied')
  }

  #authenticated(): void {
    if (choice.status === 0) {
      if (this.#authentication.isSet) this.#authentication.accepted()
      return this.#sendRequest()
    }
    this.#authentication.denied()
    const message = 'the proxy refused the user name or the password: check both in the configuration'
    this.#fail('authentication', message, 'denied')
  }

  #sendRequest(): void {
    this.#stage = this.#destination === undefined ? 'ready' : 'reply'
    if (this.manner.pipelined || this.#destination === undefined) return
    const { bytes, scratch } = this.#arena
    this.#send(encodeRequest(bytes, scratch, this.#command, this.#destination))
  }

  #refused(): void {
    const { failure, message } = refusedBy(fields.reply)
    this.#fail(failure, message, 'refused')
  }

  /** `errno`: '' for an end in order. */
  #broken(errno: string): void {
    const awaited = this.waitsFor
    if (awaited === undefined) this.#fail('upstream-down', 'the proxy closed a connection that waited', 'closed')
    else if (awaited === 'connect') this.#fail('upstream-down', unreachable(errno || 'closed'), 'unreached')
    else {
      if (awaited === 'auth') this.#authentication.ended()
      const message = broken(awaited, this.#partial !== undefined, errno)
      this.#fail('upstream-down', message, awaited === 'method' ? 'closed' : 'unanswered')
    }
  }

  #malformed(bytes: Uint8Array): void {
    if (this.#stage === 'method') this.#fail('upstream-down', alien(bytes), 'alien')
    else this.#fail('upstream-down', malformed(bytes), 'unanswered')
  }

  #fail(failure: DialFailure, message: string, end: HandshakeEnd): void {
    this.cancel()
    this.#listener.onHandshakeFailed(this, { failure, message }, end)
  }

  /**
   * Closes the socket, or resets it; the listener hears nothing more. Idempotent, harmless when the reply has come.
   */
  cancel(reset = false): void {
    if (this.#stage === 'done') return
    this.#stage = 'done'
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

const SPOKE_UNASKED = 'the proxy spoke before it was asked'
