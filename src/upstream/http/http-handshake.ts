/**
 * CONNECT on one connection (RFC 9110 §9.3.6). A challenge (407) is answered on the same one, if the proxy keeps it and what it
 * has to say about it has an end that is known; else what was asked is asked again on a new one.
 */

import type { Arena, DialFailure } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import { Handshake, type HandshakeListener } from '../proxy/handshake.ts'
import { addressFields, MALFORMED, NEED_MORE, type ReplyFields } from '../socks5/socks5-codec.ts'
import type { Manner } from '../socks5/socks5-manners.ts'
import { DENIED, type HttpAuthentication } from './http-authentication.ts'
import { parseChallenges } from './http-challenge.ts'
import {
  connectAuthority,
  encodeConnect,
  fieldTexts,
  MAX_HEAD_BYTES,
  parseResponse,
  type ResponseFields,
  responseFields,
} from './http-codec.ts'
import { alienToHttp, refusedByHttp } from './http-reasons.ts'

/** A page behind a 407 that is longer is not waited for: a new connection is quicker. */
const MAX_CONTENT_BYTES = 65_536

const HEAD_TOO_LONG = `the head of the proxy's answer has more than ${MAX_HEAD_BYTES / 1024} KB`

/** One for all, as the rest of a call needs it no longer. */
const fields: ResponseFields = responseFields()
const NO_ADDRESS: ReplyFields = { ...addressFields(), reply: 0 }

export class HttpHandshake extends Handshake {
  protected override readonly firstAwaited = 'reply'
  readonly #credentials: HttpAuthentication
  readonly #authentication: Authentication
  /** What has come of an answer's head: it may be longer than the scratch. */
  #head: Uint8Array | undefined
  /** Bytes of a refusal's page that are still to come; undefined: a head is to come. */
  #content: number | undefined
  /** A challenge was answered on this connection, and nothing was heard since. */
  #isAnswering = false

  /**
   * @param credentials answers challenges
   * @param authentication whether they may be shown
   */
  constructor(
    arena: Arena,
    credentials: HttpAuthentication,
    authentication: Authentication,
    manner: Manner,
    listener: HandshakeListener,
  ) {
    super(arena, manner, listener)
    this.#credentials = credentials
    this.#authentication = authentication
  }

  protected override writeFirst(): number {
    if (this.ask === undefined) return 0
    const { bytes, scratch, scratchBytes } = this.arena
    const authority = connectAuthority(this.ask.destination)
    this.ask.attempt ??= this.#credentials.first(authority, this.#authentication.of(this.ask.client).name)
    const room = bytes.subarray(0, scratch + scratchBytes)
    return encodeConnect(room, scratch, authority, this.ask.attempt.authorization)
  }

  protected override sendAsk(): void {
    this.stage = 'reply'
    this.send(this.writeFirst())
  }

  protected override take(length: number, drained: boolean): void {
    if (this.stage !== 'reply') return this.spokeUnasked()
    if (this.#content !== undefined) return this.#skip(length)
    this.#isAnswering = false
    const { scratch } = this.arena
    const came = this.arena.bytes.subarray(scratch, scratch + length)
    const head = this.#head === undefined ? came : Buffer.concat([this.#head, came])
    const used = parseResponse(head, 0, head.length, fields)
    if (used === NEED_MORE) this.#head = Uint8Array.from(head)
    else if (used === MALFORMED) this.#malformed(head)
    else this.#answered(head, used, drained)
  }

  override get isWithin(): boolean {
    return this.#head !== undefined || this.#content !== undefined
  }

  #answered(bytes: Uint8Array, used: number, drained: boolean): void {
    const attempt = this.ask!.attempt!
    if (fields.status === 407) return this.#challenged(bytes, bytes.length - used)
    this.#credentials.passed(attempt)
    // what tinyproxy says of a wrong password
    if (fields.status === 401 && attempt.authorization !== '') return this.#denied('authentication', DENIED)
    const isConnected = fields.status >= 200 && fields.status <= 299
    if (isConnected || attempt.authorization !== '') this.#authentication.of(this.ask!.client).accepted()
    if (isConnected)
      return this.reply(NO_ADDRESS, used < bytes.length ? Uint8Array.from(bytes.subarray(used)) : undefined, !drained)
    const { failure, message } = refusedByHttp(bytes, fields)
    this.fail(failure, message, 'refused')
  }

  /** `behind`: bytes that have come behind the head. */
  #challenged(bytes: Uint8Array, behind: number): void {
    const ask = this.ask!
    const challenges = parseChallenges(fieldTexts(bytes, fields, 'proxy-authenticate'))
    const next = this.#credentials.challenged(ask.attempt!, challenges, connectAuthority(ask.destination))
    if ('failure' in next) return this.#denied(next.failure, next.message)
    ask.attempt = next
    if (fields.closes || fields.contentLength < 0 || fields.contentLength > MAX_CONTENT_BYTES) return this.askAgain()
    this.#head = undefined
    this.#content = fields.contentLength
    this.#skip(behind)
  }

  #denied(failure: DialFailure, message: string): void {
    this.#authentication.of(this.ask!.client).denied()
    this.fail(failure, message, 'denied')
  }

  /** `length` bytes of the page have come. More than that is no answer to anything. */
  #skip(length: number): void {
    const left = this.#content! - length
    if (left < 0) return this.askAgain()
    this.#content = left
    if (left > 0) return
    this.#content = undefined
    this.#isAnswering = true
    this.sendAsk()
  }

  /** It said that it keeps the connection, and did not. */
  protected override onBroken(): boolean {
    if (!this.#isAnswering && this.#content === undefined) return false
    this.askAgain()
    return true
  }

  #malformed(bytes: Uint8Array): void {
    const isTooLong = bytes.length >= MAX_HEAD_BYTES && bytes[0] === 0x48
    this.fail('upstream-down', isTooLong ? HEAD_TOO_LONG : alienToHttp(bytes), 'alien')
  }
}
