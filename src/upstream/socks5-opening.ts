/**
 * One way through the proxy, opened for a client: a stream or an association. Mostly that is one handshake. It is
 * more where a connection that was made in advance turns out to be dead, and where the proxy does not cope with a pipelined
 * handshake: then a strict one follows, or runs beside it, and the first to have its reply is taken.
 */
import type { Destination } from '../endpoint.ts'
import type { DialError } from './dialer.ts'
import type { Command, ReplyFields } from './socks5-codec.ts'
import { Handshake, type HandshakeEnd, type HandshakeListener } from './socks5-handshake.ts'
import type { Manner, Manners } from './socks5-manners.ts'

/** Why there is no socket. */
export interface NotConnected {
  readonly error: DialError
  readonly end: HandshakeEnd
}

/** What an opening needs of the dialer around it. */
export interface OpeningHost {
  readonly manners: Manners
  /** A connection made in advance. */
  takePooled(): Handshake | undefined
  /** A new connection; in the manner that is known to work when none is given. */
  connectAnew(listener: HandshakeListener, manner?: Manner): Handshake | NotConnected
  /** A connection made in advance was dead when it was taken, or has served. */
  pooledDied(): void
  pooledServed(): void
  fellBack(): void
  opened(opening: Opening): void
  failed(opening: Opening, error: DialError, end: HandshakeEnd): void
  cancelled(opening: Opening): void
}

/** Ticks without a word from the proxy after which a strict handshake is begun beside a pipelined one. */
const QUIET_TICKS = 4
/** The same while nothing is known of the proxy. */
const TRIAL_QUIET_TICKS = 1
/** An opening that is given up after so many is a sign that the proxy does not cope any more. */
const SILENT_TICKS = 16

export abstract class Opening implements HandshakeListener {
  readonly #host: OpeningHost
  readonly #command: Command
  readonly #destination: Destination
  #first: Handshake | undefined
  /** The strict one that follows the first, or runs beside it. */
  #second: Handshake | undefined
  #secondBegun = false
  /** The first is on a connection made in advance. */
  #pooled = false
  #pooledWasDead = false
  #quietTicks = 0
  #waitsFor: string | undefined
  /** `Manners.copings` when it was last looked at. */
  #copings = 0
  #over = false

  constructor(host: OpeningHost, command: Command, destination: Destination) {
    this.#host = host
    this.#command = command
    this.#destination = destination
  }

  /** The way stands; the handshake's socket is this object's now. */
  protected abstract onOpened(
    handshake: Handshake,
    fields: ReplyFields,
    early: Uint8Array | undefined,
    readable: boolean,
  ): void
  protected abstract onNotOpened(error: DialError): void

  start(): void {
    const pooled = this.#host.takePooled()
    if (pooled === undefined) return this.#startAnew()
    this.#pooled = true
    this.#first = pooled
    pooled.request(this.#command, this.#destination, this)
  }

  #startAnew(): void {
    const connected = this.#host.connectAnew(this)
    if (!(connected instanceof Handshake)) return this.#fail(connected.error, connected.end)
    this.#first = connected
    connected.request(this.#command, this.#destination, this)
  }

  /** False: no socket could be made, and nobody was told. */
  #startSecond(): boolean {
    this.#secondBegun = true
    this.#host.fellBack()
    const connected = this.#host.connectAnew(this, this.#host.manners.strict)
    if (!(connected instanceof Handshake)) return false
    this.#second = connected
    connected.request(this.#command, this.#destination, this)
    return true
  }

  onReply(handshake: Handshake, fields: ReplyFields, early: Uint8Array | undefined, readable: boolean): void {
    this.#answered(handshake)
    this.#over = true
    this.#host.opened(this)
    this.onOpened(handshake, fields, early, readable)
  }

  /** A reply came, whatever it says: it is the answer. */
  #answered(handshake: Handshake): void {
    const isFirst = handshake === this.#first
    if (isFirst) this.#second?.cancel()
    else this.#first?.cancel()
    if (isFirst && this.#pooled) this.#host.pooledServed()
    if (this.#pooledWasDead) this.#host.pooledDied() // a proxy that refuses by closing closes the next one too
    this.#host.manners.replied(handshake.proxy, handshake.manner, handshake.method, !isFirst)
  }

  onHandshakeFailed(handshake: Handshake, error: DialError, end: HandshakeEnd): void {
    if (end === 'refused') {
      this.#answered(handshake)
      return this.#fail(error, end)
    }
    if (handshake === this.#second) {
      this.#second = undefined
      if (this.#first === undefined) this.#fail(error, end)
      return
    }
    this.#first = undefined
    if (this.#second !== undefined) return
    if (this.#pooled && !handshake.heard) {
      this.#pooled = false
      this.#pooledWasDead = true
      return this.#startAnew()
    }
    const mayBeManner = handshake.manner.pipelined && this.#host.manners.learns && end !== 'unreached'
    if (mayBeManner && !this.#secondBegun && this.#startSecond()) return
    this.#fail(error, end)
  }

  #fail(error: DialError, end: HandshakeEnd): void {
    if (this.#over) return
    this.#over = true
    this.#host.failed(this, error, end)
    this.onNotOpened(error)
  }

  /**
   * Called at regular times. Silence may mean that the proxy does not cope, or that the destination is slow. Once it has
   * coped the latter is taken for granted, for a second connection would be seen there, until there is reason for doubt.
   */
  tick(): void {
    const first = this.#first
    if (first === undefined || this.#secondBegun || !first.manner.pipelined || !this.#host.manners.learns) return
    const { waitsFor } = first
    const { copings, onTrial, inDoubt } = this.#host.manners
    if (waitsFor === undefined || waitsFor !== this.#waitsFor || copings !== this.#copings) this.#quietTicks = 0
    this.#waitsFor = waitsFor
    this.#copings = copings
    this.#quietTicks++
    if (waitsFor === 'reply' && !onTrial && !inDoubt) return
    if (this.#quietTicks > (onTrial ? TRIAL_QUIET_TICKS : QUIET_TICKS)) this.#startSecond()
  }

  /**
   * Nothing is called any more, what was opened for it is reset: dials that are given up in numbers would use up the ports of this
   * machine in TIME_WAIT. Idempotent, harmless after the end.
   */
  cancel(): void {
    if (this.#over) return
    this.#over = true
    if (this.#quietTicks >= SILENT_TICKS && !this.#secondBegun) this.#host.manners.stayedSilent()
    this.#first?.cancel(true)
    this.#second?.cancel(true)
    this.#host.cancelled(this)
  }
}
