/**
 * The client's side of a SOCKS5 handshake on one socket: connect, method, perhaps user and password, request, reply
 * (RFC 1928 §3–6, RFC 1929). The same for a stream (CONNECT) and for the control connection of an association.
 */
import type { Destination } from '../endpoint.ts'
import { addon, ERROR, HANGUP, READ_HANGUP, WRITABLE } from '../io/addon.ts'
import type { Watcher } from '../io/poller.ts'
import type { Socket } from '../io/socket.ts'
import type { Arena, DialError, DialFailure } from './dialer.ts'
import {
  addressFields,
  type Command,
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

export interface Credentials {
  readonly username: Uint8Array
  readonly password: Uint8Array
}

export interface HandshakeListener {
  /** The reply is `fields` (offsets into the arena, good during the call). The socket is the listener's now. */
  onReply(fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void
  /** The socket is closed. `proxyAnswered`: the proxy itself spoke SOCKS. */
  onHandshakeFailed(error: DialError, proxyAnswered: boolean): void
}

type Stage = 'connect' | 'method' | 'auth' | 'reply' | 'done'

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

/** One for all: it is read before the next handshake can write it. */
const fields: ReplyFields = { ...addressFields(), reply: 0 }
const choice = { method: 0, status: 0 }

export class Handshake implements Watcher {
  #socket: Socket | undefined
  readonly #arena: Arena
  readonly #credentials: Credentials | undefined
  readonly #command: Command
  readonly #destination: Destination
  readonly #listener: HandshakeListener
  #stage: Stage = 'connect'
  /** What came of a message that is not complete. */
  #partial: Uint8Array | undefined
  #hungUp = false

  constructor(
    arena: Arena,
    credentials: Credentials | undefined,
    command: Command,
    destination: Destination,
    listener: HandshakeListener,
  ) {
    this.#arena = arena
    this.#credentials = credentials
    this.#command = command
    this.#destination = destination
    this.#listener = listener
  }

  /** The socket on which connect() has been started with this handshake as its watcher. */
  start(socket: Socket): void {
    this.#socket = socket
  }

  onReady(events: number): void {
    if (this.#stage === 'done') return
    if ((events & (READ_HANGUP | HANGUP | ERROR)) !== 0) this.#hungUp = true
    if (this.#stage === 'connect') {
      if ((events & (WRITABLE | ERROR | HANGUP)) === 0) return
      const error = this.#socket!.takeError()
      if (error !== 0) {
        this.#fail('upstream-down', `the proxy cannot be reached: ${addon.errnoName(error)}`, false)
        return
      }
      this.#stage = 'method'
      const { bytes, scratch } = this.#arena
      if (!this.#send(encodeGreeting(bytes, scratch, this.#credentials !== undefined))) return
      if (!this.#hungUp) return
    }
    this.#read()
  }

  /** Sends `length` bytes from the scratch; they always fit a socket that has sent nothing yet. */
  #send(length: number): boolean {
    const { words, scratch, scratchBytes } = this.#arena
    const row = (scratch + scratchBytes - 16) / 4
    words[row] = scratch
    words[row + 1] = length
    const sent = this.#socket!.poller.io.writev(this.#socket!.fd, row * 4, 1)
    if (sent === length) return true
    this.#fail('upstream-down', `the proxy broke off: ${sent < 0 ? addon.errnoName(sent) : 'short write'}`, false)
    return false
  }

  #read(): void {
    const { bytes, words, scratch, scratchBytes } = this.#arena
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
      const got = this.#socket!.poller.io.readv(this.#socket!.fd, row * 4, 1)
      if (got === 0) return this.#fail('upstream-down', 'the proxy closed the connection in the handshake', false)
      if (got < 0) {
        const name = addon.errnoName(got)
        if (name !== 'EAGAIN') this.#fail('upstream-down', `the proxy broke off in the handshake: ${name}`, false)
        return
      }
      const drained = got < room && !this.#hungUp
      this.#parse(have + got, drained)
      if (drained) return
    }
  }

  /** Takes the messages in the first `length` bytes of the scratch. */
  #parse(length: number, drained: boolean): void {
    const { bytes, scratch } = this.#arena
    let used: number
    if (this.#stage === 'method') used = parseMethod(bytes, scratch, length, choice)
    else if (this.#stage === 'auth') used = parseAuthReply(bytes, scratch, length, choice)
    else used = parseReply(bytes, scratch, length, fields)

    if (this.#stage === 'reply' && fields.reply > 0) return this.#refused() // the rest of it need not come, or be right
    if (used === MALFORMED) return this.#fail('upstream-down', 'the proxy does not speak SOCKS5', false)
    if (used === NEED_MORE) {
      this.#partial = bytes.slice(scratch, scratch + length)
      return
    }
    this.#partial = undefined
    const rest = length - used
    if (this.#stage === 'reply') {
      this.#stage = 'done'
      const early = rest > 0 ? bytes.slice(scratch + used, scratch + length) : undefined
      this.#listener.onReply(fields, early, !drained)
      return
    }
    if (rest > 0) return this.#fail('upstream-down', 'the proxy spoke before it was asked', false)
    if (this.#stage === 'method') this.#chosen(choice.method)
    else if (choice.status === 0) this.#request()
    else this.#fail('authentication', 'the proxy refused the user name or the password', true)
  }

  #chosen(method: number): void {
    if (method === Method.none) return this.#request()
    if (method === Method.password && this.#credentials !== undefined) {
      this.#stage = 'auth'
      const { bytes, scratch } = this.#arena
      this.#send(encodeAuth(bytes, scratch, this.#credentials.username, this.#credentials.password))
      return
    }
    const asked = this.#credentials === undefined ? 'wants a user name and a password' : 'accepts none of our methods'
    this.#fail('authentication', `the proxy ${asked}`, true)
  }

  #request(): void {
    this.#stage = 'reply'
    const { bytes, scratch } = this.#arena
    this.#send(encodeRequest(bytes, scratch, this.#command, this.#destination))
  }

  #refused(): void {
    const [failure, text] = FAILURES[fields.reply] ?? ['general', 'an unknown reason']
    this.#fail(failure, `the proxy answered ${fields.reply} (${text})`, true)
  }

  #fail(failure: DialFailure, message: string, proxyAnswered: boolean): void {
    this.cancel()
    this.#listener.onHandshakeFailed({ failure, message }, proxyAnswered)
  }

  /** Closes the socket; the listener hears nothing more. Idempotent, harmless when the reply has come. */
  cancel(): void {
    if (this.#stage === 'done') return
    this.#stage = 'done'
    this.#socket?.close()
  }
}
