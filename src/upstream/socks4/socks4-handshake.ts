/** One request of SOCKS4 or 4a on one connection, and its reply. */

import type { Arena } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import { Handshake, type HandshakeListener } from '../proxy/handshake.ts'
import { addressFields, MALFORMED, NEED_MORE, type ReplyFields } from '../socks5/socks5-codec.ts'
import type { Manner } from '../socks5/socks5-manners.ts'
import { alien } from '../socks5/socks5-reasons.ts'
import { encodeRequest4, parseReply4, Reply4, refusedBy4, reply4Fields } from './socks4-codec.ts'

/** One for all, as the rest of a call needs it no longer. */
const fields = reply4Fields()
const NO_ADDRESS: ReplyFields = { ...addressFields(), reply: 0 }

export class Socks4Handshake extends Handshake {
  protected override readonly firstAwaited = 'reply'
  readonly #authentication: Authentication

  /** @param authentication has the user, perhaps; nobody asks for a password */
  constructor(arena: Arena, authentication: Authentication, manner: Manner, listener: HandshakeListener) {
    super(arena, manner, listener)
    this.#authentication = authentication
  }

  protected override writeFirst(): number {
    if (this.ask === undefined) return 0
    const { bytes, scratch } = this.arena
    const { destination, client } = this.ask
    return encodeRequest4(bytes, scratch, destination, this.#authentication.of(client).username)
  }

  protected override sendAsk(): void {
    this.stage = 'reply'
    this.send(this.writeFirst())
  }

  protected override take(length: number, drained: boolean): void {
    if (this.stage !== 'reply') return this.spokeUnasked()
    const { bytes, scratch } = this.arena
    const end = scratch + length
    this.partial = undefined
    const used = parseReply4(bytes, scratch, length, fields)
    if (used === MALFORMED) return this.fail('upstream-down', alien(bytes.subarray(scratch, end), 'SOCKS4'), 'alien')
    if (fields.reply >= 0 && fields.reply !== Reply4.granted) return this.#refused()
    if (used === NEED_MORE) this.partial = bytes.slice(scratch, end)
    else this.reply(NO_ADDRESS, used < length ? bytes.slice(scratch + used, end) : undefined, !drained)
  }

  /** The rest of the reply need not come. */
  #refused(): void {
    const { failure, message } = refusedBy4(fields.reply)
    this.fail(failure, message, 'refused')
  }
}
