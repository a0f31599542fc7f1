/**
 * One way through the proxy, opened for a client: a stream or an association. Mostly that is one handshake. It is
 * more where a connection that was made in advance turns out to be dead, and where the proxy does not cope with a pipelined
 * handshake: then a strict one follows, or runs beside it, and the first to have its reply is taken.
 */
import type { Destination, IpEndpoint } from '../../endpoint.ts'
import type { Poller } from '../../io/poller.ts'
import type { DialError } from '../dialer.ts'
import type { Attempt } from '../http/http-authentication.ts'
import type { Command, ReplyFields } from '../socks5/socks5-codec.ts'
import type { Manner, Manners } from '../socks5/socks5-manners.ts'
import type { Asker } from './authentication.ts'
import { type Ask, Handshake, type HandshakeEnd, type HandshakeListener } from './handshake.ts'
import type { ProxyHealth } from './proxy-health.ts'

/** Why there is no socket. */
export interface NotConnected {
  readonly error: DialError
  readonly end: HandshakeEnd
  readonly proxy: IpEndpoint | undefined
}

/** What an opening needs of the dialer around it. */
export interface OpeningHost {
  readonly poller: Pick<Poller, 'turn' | 'later'>
  readonly manners: Manners
  readonly health: Pick<ProxyHealth, 'answers' | 'isUp'>
  /** A connection made in advance. */
  takePooled(): Handshake | undefined
  /** A new connection; in the manner that is known to work when none is given. */
  connectAnew(listener: HandshakeListener, client: IpEndpoint, manner?: Manner): Handshake | NotConnected
  /** A connection made in advance was dead when it was taken, or has served. */
  pooledDied(): void
  pooledServed(): void
  fellBack(): void
  opened(opening: Opening): void
  failed(opening: Opening, error: DialError, end: HandshakeEnd, proxy?: IpEndpoint): void
  cancelled(opening: Opening): void
  /** The time of an opening was over before the proxy had said a word to anybody. */
  stayedMute(reason: string, proxy: IpEndpoint | undefined): void
}

/** Ticks without a word from the proxy after which a strict handshake is begun beside a pipelined one. */
const QUIET_TICKS = 4
/** The same while nothing is known of the proxy. */
const TRIAL_QUIET_TICKS = 1
/** Ticks after which a connection that does not stand yet waits in vain; and the same where the proxy is known to be down. */
const LOST_TICKS = 4
const LOST_TICKS_DOWN = 1
/** An opening that is given up after so many is a sign that the proxy does not cope any more. */
const SILENT_TICKS = 16

export abstract class Opening implements Ask, HandshakeListener, Asker {
  readonly command: Command
  readonly destination: Destination
  readonly client: IpEndpoint
  attempt: Attempt | undefined
  readonly #host: OpeningHost
  readonly #answersBefore: number
  #first: Handshake | undefined
  /** The strict one that follows the first, or runs beside it. */
  #second: Handshake | undefined
  #secondBegun = false
  /** The first is on a connection made in advance. */
  #pooled = false
  #pooledWasDead = false
  #quietTicks = 0
  #connectTicks = 0
  #waitsFor: string | undefined
  /** `Manners.copings` when it was last looked at. */
  #copings = 0
  #over = false

  constructor(host: OpeningHost, command: Command, destination: Destination, client: IpEndpoint) {
    this.#host = host
    this.command = command
    this.destination = destination
    this.client = client
    this.#answersBefore = host.health.answers
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
    if (this.#over) return
    const pooled = this.#host.takePooled()
    if (pooled === undefined) return this.#startAnew()
    this.#pooled = true
    this.#first = pooled
    pooled.request(this, this)
  }

  #startAnew(): void {
    const connected = this.#host.connectAnew(this, this.client)
    if (!(connected instanceof Handshake)) return this.#fail(connected.error, connected.end, connected.proxy)
    this.#first = connected
    connected.request(this, this)
  }

  /** False: no socket could be made, and nobody was told. */
  #startSecond(): boolean {
    this.#secondBegun = true
    this.#host.fellBack()
    const connected = this.#host.connectAnew(this, this.client, this.#host.manners.strict)
    if (!(connected instanceof Handshake)) return false
    this.#second = connected
    connected.request(this, this)
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
      return this.#fail(error, end, handshake.proxy)
    }
    if (handshake === this.#second) {
      this.#second = undefined
      if (this.#first === undefined) this.#fail(error, end, handshake.proxy)
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
    this.#fail(error, end, handshake.proxy)
  }

  onAskAgain(): void {
    this.#first = undefined
    this.#pooled = false
    this.#startAnew()
  }

  later(work: () => void): void {
    this.#host.poller.later(work)
  }

  /** Nobody asks the proxy now. */
  refuse(error: DialError): void {
    this.#fail(error, 'local')
  }

  #fail(error: DialError, end: HandshakeEnd, proxy?: IpEndpoint): void {
    if (this.#over) return
    this.#over = true
    this.#host.failed(this, error, end, proxy)
    this.onNotOpened(error)
  }

  /**
   * Called at regular times. Silence may mean that the proxy does not cope, or that the destination is slow. Once it has
   * coped the latter is taken for granted, for a second connection would be seen there, until there is reason for doubt.
   */
  tick(): void {
    const first = this.#first
    if (first?.waitsFor === 'connect') {
      this.#connectTicks++
      return
    }
    if (first === undefined || first.waitsFor === 'way') return
    if (this.#secondBegun || !first.manner.pipelined || !this.#host.manners.learns) return
    const { waitsFor } = first
    const { copings, onTrial, inDoubt } = this.#host.manners
    if (waitsFor === undefined || waitsFor !== this.#waitsFor || copings !== this.#copings) this.#quietTicks = 0
    this.#waitsFor = waitsFor
    this.#copings = copings
    this.#quietTicks++
    if (waitsFor === 'reply' && !onTrial && !inDoubt) return
    if (this.#quietTicks > (onTrial ? TRIAL_QUIET_TICKS : QUIET_TICKS)) this.#startSecond()
  }

  /** Its connection should stand by now: what it has sent was lost, perhaps. */
  get waitsInVain(): boolean {
    const lost = this.#host.health.isUp ? LOST_TICKS : LOST_TICKS_DOWN
    return this.#connectTicks >= lost && this.#first?.waitsFor === 'connect'
  }

  /** The proxy can be reached again: not at the kernel's next retransmission, but now. */
  reconnect(): void {
    this.#connectTicks = 0
    this.#first?.cancel()
    this.#first = undefined
    this.#pooled = false
    this.#startAnew()
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

  /** As cancel, because its time is over; why it had no answer so far. */
  expire(): DialError {
    const waiting = this.#first?.waitsFor === undefined ? this.#second : this.#first
    const awaited = waiting?.waitsFor
    const message = awaited === undefined ? 'the proxy was not asked yet' : waiting!.expire()
    const error: DialError = { failure: 'timeout', message }
    const { answers } = this.#host.health
    // one that answers others meanwhile, or has only its reply to give, is not to blame
    const isMute = awaited !== undefined && awaited !== 'reply' && answers === this.#answersBefore
    this.cancel()
    if (isMute) this.#host.stayedMute(message, waiting!.proxy)
    return error
  }
}
