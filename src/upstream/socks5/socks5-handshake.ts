/**
 * The client's side of a SOCKS5 handshake on one connection: method, perhaps user and password, request, reply (RFC 1928
 * §3–6, RFC 1929). The same for a stream (CONNECT) and for the control connection of an association. One that is not
 * pipelined may be begun before there is a request.
 */

import type { Arena } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import { Handshake, type HandshakeListener } from '../proxy/handshake.ts'
import type { Awaited } from '../transport/transport-reasons.ts'
import {
  addressFields,
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
import { alien, malformed, objection, refusedBy } from './socks5-reasons.ts'

/** One for all: it is read before the next handshake can write it. */
const fields: ReplyFields = { ...addressFields(), reply: 0 }
const choice = { method: 0, status: 0 }

export class Socks5Handshake extends Handshake {
  protected override readonly firstAwaited = 'method'
  readonly #authentication: Authentication

  /** @param authentication has a password when the manner offers one */
  constructor(arena: Arena, authentication: Authentication, manner: Manner, listener: HandshakeListener) {
    super(arena, manner, listener)
    this.#authentication = authentication
  }

  /** The greeting, and all that goes with it. */
  protected override writeFirst(): number {
    const { manner } = this
    const { bytes, scratch } = this.arena
    let length = encodeGreeting(bytes, scratch, manner.offersNone, manner.offersPassword)
    if (manner.pipelined) {
      if (manner.offersPassword) length += this.#writeAuth(scratch + length)
      length += encodeRequest(bytes, scratch + length, this.ask!.command, this.ask!.destination)
    }
    return length
  }

  #writeAuth(at: number): number {
    const { username, password } = this.#authentication.of(this.ask?.client)
    return encodeAuth(this.arena.bytes, at, username, password)
  }

  /** Takes the messages in the first `length` bytes of the scratch: one, or when pipelined all that have come. */
  protected override take(length: number, drained: boolean): void {
    const { bytes, scratch } = this.arena
    const end = scratch + length
    this.partial = undefined
    for (let at = scratch; at < end && this.stage !== 'done'; ) {
      const used = this.#parse(at, end - at)
      if (this.stage === 'reply' && fields.reply > 0) return this.#refused() // the rest need not come, or be right
      if (used === MALFORMED) return this.#malformed(bytes.subarray(at, end))
      if (used === NEED_MORE) {
        this.partial = bytes.slice(at, end)
        return
      }
      at += used
      if (this.stage === 'reply') this.reply(fields, at < end ? bytes.slice(at, end) : undefined, !drained)
      else if (at < end && !this.manner.pipelined) this.spokeUnasked()
      else if (this.stage === 'method') this.#chosen()
      else this.#authenticated()
    }
  }

  #parse(at: number, length: number): number {
    const { bytes } = this.arena
    fields.reply = 0
    switch (this.stage) {
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
      if (this.#authentication.isSet) this.#authentication.of(this.ask?.client).accepted()
      return this.#greeted()
    }
    if (method === Method.password && manner.offersPassword) {
      this.stage = 'auth'
      if (manner.pipelined) return
      return this.send(this.#writeAuth(this.arena.scratch))
    }
    this.fail('authentication', objection(method, this.#authentication.isSet), 'denied')
  }

  #authenticated(): void {
    if (choice.status === 0) {
      if (this.#authentication.isSet) this.#authentication.of(this.ask?.client).accepted()
      return this.#greeted()
    }
    this.#authentication.of(this.ask?.client).denied()
    const message = 'the proxy refused the user name or the password: check both in the configuration'
    this.fail('authentication', message, 'denied')
  }

  #greeted(): void {
    this.stage = this.ask === undefined ? 'ready' : 'reply'
    if (this.ask !== undefined && !this.manner.pipelined) this.sendAsk()
  }

  protected override sendAsk(): void {
    this.stage = 'reply'
    const { bytes, scratch } = this.arena
    this.send(encodeRequest(bytes, scratch, this.ask!.command, this.ask!.destination))
  }

  #refused(): void {
    const { failure, message } = refusedBy(fields.reply)
    this.fail(failure, message, 'refused')
  }

  protected override onBroken(awaited: Awaited): boolean {
    if (awaited === 'auth') this.#authentication.of(this.ask?.client).ended()
    return false
  }

  #malformed(bytes: Uint8Array): void {
    if (this.stage === 'method') this.fail('upstream-down', alien(bytes), 'alien')
    else this.fail('upstream-down', malformed(bytes), 'unanswered')
  }
}
