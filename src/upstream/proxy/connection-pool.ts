/**
 * Connections to the proxy made and greeted in advance, so that a dial need only ask. Filled by demand: while dials come, as
 * many are kept ready as the last second needed, and none when nobody dials. Nothing is filled while the proxy is down,
 * nor for a time when it closes what waits.
 */
import type { IpEndpoint } from '../../endpoint.ts'
import type { Poller } from '../../io/poller.ts'
import type { Handshake, HandshakeListener } from './handshake.ts'

/** Milliseconds between two calls of `tick`. */
export const TICK_MS = 250
/** Demand is looked at over so many ticks. */
const DEMAND_TICKS = 4
/** A connection that nobody has taken is closed: proxies wait 10 s and more for a handshake to go on. */
const MAX_AGE_TICKS = 12
/** Made in one turn; the rest in the next ones, so that others have theirs in between. */
const BATCH = 8
/** The longest time for which a proxy that closes what waits is left alone: 16 s. */
const MAX_PAUSE_TICKS = 64

export interface PoolHost {
  readonly poller: Pick<Poller, 'turn'>
  /** Not for a proxy that has not answered yet or is down, and not while many dials wait for their own. */
  mayFill(): boolean
  /** A new connection that waits for its request; undefined when none can be made. */
  connectAhead(listener: HandshakeListener): Handshake | undefined
}

export class ConnectionPool implements HandshakeListener {
  readonly #host: PoolHost
  /** Connections that wait at most. */
  readonly size: number
  /** The oldest first: it is taken, the youngest are closed last. */
  readonly #waiting: Handshake[] = []
  readonly #bornAt: number[] = []
  /** Dials in each of the last ticks. */
  readonly #demand = new Array<number>(DEMAND_TICKS).fill(0)
  #now = 0
  #pausedUntil = 0
  #pauseTicks = 0
  #refill: NodeJS.Immediate | undefined
  #hits = 0
  #misses = 0
  #discarded = 0

  /** @param size 0: none is ever made */
  constructor(host: PoolHost, size: number) {
    this.#host = host
    this.size = size
  }

  /** For a dial to `proxy`; not when there is no room for any. */
  take(proxy: IpEndpoint | undefined): Handshake | undefined {
    this.#demand[this.#now % DEMAND_TICKS]!++
    let taken = this.#shift()
    for (; taken?.proxy !== undefined && taken.proxy !== proxy; taken = this.#shift()) this.#discard(taken)
    if (taken === undefined) this.#misses++
    else this.#hits++
    if (this.#waiting.length <= this.#target() >> 1) this.#refillLater()
    return taken
  }

  #shift(): Handshake | undefined {
    this.#bornAt.shift()
    return this.#waiting.shift()
  }

  #target(): number {
    let demand = 0
    for (const count of this.#demand) demand += count
    return Math.min(demand, this.size)
  }

  /** Behind what this turn has to send. */
  #refillLater(): void {
    if (this.#refill !== undefined) return
    this.#refill = setImmediate(() => this.#host.poller.turn(() => this.#fill()))
  }

  #fill(): void {
    this.#refill = undefined
    if (!this.#host.mayFill()) return
    const target = this.#target()
    for (let made = 0; this.#waiting.length < target && this.#now >= this.#pausedUntil; made++) {
      if (made === BATCH) return this.#refillLater()
      const handshake = this.#host.connectAhead(this)
      if (handshake === undefined) return this.#pause()
      this.#waiting.push(handshake)
      this.#bornAt.push(this.#now)
      handshake.begin()
    }
  }

  /** Several that are closed together pause it once. */
  #pause(): void {
    if (this.#now < this.#pausedUntil) return
    this.#pauseTicks = Math.min(MAX_PAUSE_TICKS, Math.max(1, 2 * this.#pauseTicks))
    this.#pausedUntil = this.#now + this.#pauseTicks
  }

  /** One that was taken was dead. */
  died(): void {
    this.#discarded++
    this.#pause()
  }

  /** One that was taken has served. */
  served(): void {
    this.#pauseTicks = 0
  }

  onReply(): void {}
  onAskAgain(): void {}

  /** The proxy has closed one that waits. */
  onHandshakeFailed(handshake: Handshake): void {
    const at = this.#waiting.indexOf(handshake)
    this.#waiting.splice(at, 1)
    this.#bornAt.splice(at, 1)
    this.#discarded++
    this.#pause()
  }

  #discard(handshake: Handshake): void {
    this.#discarded++
    handshake.cancel()
  }

  /** Closes what has waited for too long. False: nothing waits and nobody dials, so no tick is needed. */
  tick(): boolean {
    this.#now++
    this.#demand[this.#now % DEMAND_TICKS] = 0
    while (this.#bornAt.length > 0 && this.#now - this.#bornAt[0]! >= MAX_AGE_TICKS) this.#discard(this.#shift()!)
    const target = this.#target()
    if (this.#waiting.length < target) this.#refillLater()
    return this.#waiting.length > 0 || target > 0
  }

  counters(): Record<string, number> {
    return {
      pool_hits: this.#hits,
      pool_misses: this.#misses,
      pool_discarded: this.#discarded,
      pool_ready: this.#waiting.length,
    }
  }

  close(): void {
    clearImmediate(this.#refill)
    for (const handshake of this.#waiting.splice(0)) handshake.cancel()
    this.#bornAt.length = 0
  }
}
