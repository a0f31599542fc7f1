/**
 * The client's side of a SOCKS5 handshake on one socket: connect, method, perhaps user and password, request, reply
 * (RFC 1928 §3–6, RFC 1929). The same for a stream (CONNECT) and for the control connection of an association. One that
 * is not pipelined may be begun before there is a request.
 */
import type { Destination, IpEndpoint } from '../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, READABLE, WRITABLE } from '../io/addon.ts'
import type { Watcher } from '../io/poller.ts'
import type { Socket } from '../io/socket.ts'
import type { Arena, DialError, DialFailure } from './dialer.ts'
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
  Reply,
  type ReplyFields,
} from './socks5-codec.ts'
import type { Manner } from './socks5-manners.ts'

export interface Credentials {
  readonly username: Uint8Array
  readonly password: Uint8Array
}

/** How far the proxy was when it ended. */
export type HandshakeEnd =
  | 'local' // no socket could be made
  | 'unreached'
  | 'broken' // closed, reset, or no SOCKS5
  | 'denied' // by its choice of method, or for the user and the password
  | 'refused' // by a reply

export interface HandshakeListener {
  /** The reply is `fields` (offsets into the arena, good during the call). The socket is the listener's now. */
  onReply(handshake: Handshake, fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void
  /** The socket is closed. */
  onHandshakeFailed(handshake: Handshake, error: DialError, end: HandshakeEnd): void
}

/** `ready`: greeted, and no request yet. */
type Stage = 'connect' | 'method' | 'auth' | 'ready' | 'reply' | 'done'

const FAILURES: { readonly [reply: number]: readonly [DialFailure, string] } = {
  [Reply.generalFailure]: ['general', 'general failure'],
  [Reply.prohibited]: ['prohibited', 'not allowed by its rules'],
  [Reply.netUnreachable]: ['net-unreachable', 'network unreachable'],
  [Reply.hostUnreachable]: ['host-unreachable', 'host unreachable'],
  [Reply.refused]: ['refused', 'connection refused'],
  [Reply.ttlExpired]: ['ttl-expired', 'TTL expired'],
  [Reply.commandUnsupported]: ['unsupported', 'command not supported'],
  [Reply.addressUnsupported]: ['unsupported', 'address type not supported'],
}

const EAGAIN = -11
const GONE = READ_HANGUP | HANGUP | ERROR

/** One for all: it is read before the next handshake can write it. */
const fields: ReplyFields = { ...addressFields(), reply: 0 }
const choice = { method: 0, status: 0 }

export class Handshake implements Watcher {
  readonly manner: Manner
  /** Whom it speaks with. */
  readonly proxy: IpEndpoint
  /** The proxy's choice; undefined until it is known. */
  method: number | undefined
  /** Bytes have come behind the request. */
  heard = false
  readonly #arena: Arena
  readonly #credentials: Credentials | undefined
  #listener: HandshakeListener
  #socket: Socket | undefined
  #command: Command = Command.connect
  #destination: Destination | undefined
  #stage: Stage = 'connect'
  /** What came of a message that is not complete. */
  #partial: Uint8Array | undefined
  #hungUp = false

  /** @param credentials must be there when the manner offers a password */
  constructor(
    arena: Arena,
    credentials: Credentials | undefined,
    manner: Manner,
    proxy: IpEndpoint,
    listener: HandshakeListener,
  ) {
    this.#arena = arena
    this.#credentials = credentials
    this.manner = manner
    this.proxy = proxy
    this.#listener = listener
  }

  get socket(): Socket {
    return this.#socket!
  }

  /** The proxy has been asked something and has not answered it yet: what it was asked last. */
  get waitsFor(): 'method' | 'auth' | 'reply' | undefined {
    const stage = this.#stage
    return stage === 'method' || stage === 'auth' || stage === 'reply' ? stage : undefined
  }

  /** The socket on which connect() has been started with this handshake as its watcher. */
  attach(socket: Socket): void {
    this.#socket = socket
  }

  /** Begins ahead of a request; what fails at once is told at once. */
  begin(): void {
    this.#greet()
  }

  /** Gives the request, also to a handshake that was begun ahead; what fails at once is told at once. */
  request(command: Command, destination: Destination, listener: HandshakeListener): void {
    this.#listener = listener
    this.#command = command
    this.#destination = destination
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
        const { username, password } = this.#credentials!
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
    this.#fail('upstream-down', `the proxy cannot be reached: ${reason}`, 'unreached')
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
    if (sent === length) return
    this.#fail('upstream-down', `the proxy broke off: ${sent < 0 ? addon.errnoName(sent) : 'short write'}`, 'broken')
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
      if (got === 0) return this.#fail('upstream-down', 'the proxy closed the connection in the handshake', 'broken')
      if (got < 0) {
        if (got === EAGAIN) return
        const reason = addon.errnoName(got)
        return this.#fail('upstream-down', `the proxy broke off in the handshake: ${reason}`, 'broken')
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
      if (used === MALFORMED) return this.#fail('upstream-down', 'the proxy does not speak SOCKS5', 'broken')
      if (used === NEED_MORE) {
        this.#partial = bytes.slice(at, end)
        return
      }
      at += used
      if (this.#stage === 'reply') {
        this.#stage = 'done'
        this.#listener.onReply(this, fields, at < end ? bytes.slice(at, end) : undefined, !drained)
      } else if (at < end && !this.manner.pipelined) this.#fail('upstream-down', SPOKE_UNASKED, 'broken')
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
    if (method === Method.none && manner.offersNone) return this.#sendRequest()
    if (method === Method.password && manner.offersPassword) {
      this.#stage = 'auth'
      if (manner.pipelined) return
      const { bytes, scratch } = this.#arena
      return this.#send(encodeAuth(bytes, scratch, this.#credentials!.username, this.#credentials!.password))
    }
    const asked = this.#credentials === undefined ? 'wants a user name and a password' : 'accepts none of our methods'
    this.#fail('authentication', `the proxy ${asked}`, 'denied')
  }

  #authenticated(): void {
    if (choice.status === 0) this.#sendRequest()
    else this.#fail('authentication', 'the proxy refused the user name or the password', 'denied')
  }

  #sendRequest(): void {
    this.#stage = this.#destination === undefined ? 'ready' : 'reply'
    if (this.manner.pipelined || this.#destination === undefined) return
    const { bytes, scratch } = this.#arena
    this.#send(encodeRequest(bytes, scratch, this.#command, this.#destination))
  }

  #refused(): void {
    const [failure, text] = FAILURES[fields.reply] ?? ['general', 'an unknown reason']
    this.#fail(failure, `the proxy answered ${fields.reply} (${text})`, 'refused')
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
    this.#socket?.close(reset)
  }
}

const SPOKE_UNASKED = 'the proxy spoke before it was asked'
