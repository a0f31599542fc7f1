/**
 * How an upstream carries datagrams, as its answers tell: a relay (UDP ASSOCIATE), else frames in TCP (hev-udp-codec.ts), else not
 * at all. One truth for all dialers, also those of other threads, and one log line for each change. What was found wanting is
 * asked for again after a while, and when the upstream was down in between.
 */
import type { UdpWay } from '../../options.ts'
import type { DialError, DialFailure } from '../dialer.ts'
import type { HealthLog } from '../proxy/proxy-health.ts'

export type UdpRung = 'associate' | 'tcp'

/** What the cells hold. */
const UNKNOWN = 0
const ASSOCIATE = 1
/** It relays nothing; whether it takes frames is not known yet. */
const NO_RELAY = 2
const TCP = 3
const NONE = 4

const STATE = 0
/** When that was found, in seconds. */
const SINCE = 1
const TOLD = 2

/** After so many seconds without a relay it is asked for anew. */
const RETRY_S = 600

/** Of failures that may have another reason, so many in a row mean that there is no such way, if it never stood. */
const STRIKES: { readonly [way in UdpRung]: number } = { associate: 3, tcp: 1 }
/** Associations in a row from which nothing came, before any from which something did. */
const DEAF = 4

/** By a reply, or because such a proxy has none. */
const REFUSALS: ReadonlySet<DialFailure> = new Set(['unsupported', 'prohibited'])
/** Of the way to the proxy, of this machine, of the user: they say nothing of UDP. */
const OTHERS: ReadonlySet<DialFailure> = new Set(['no-resources', 'authentication'])

/**
 * What the URL of a proxy says, else `mode`, the key's. The relay of a proxy inside TLS would have its datagrams in the clear:
 * `auto` is UDP in TCP there.
 */
export function udpWayOf({ udp, tls }: { readonly udp: UdpWay; readonly tls?: unknown }, mode: UdpWay): UdpWay {
  const way = udp === 'auto' ? mode : udp
  return way === 'auto' && tls !== undefined ? 'tcp' : way
}

/** Shared by all who speak with the same upstream. */
export function ladderCells(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(12))
}

export class UdpLadder {
  readonly #upstream: string
  readonly #mode: UdpWay
  readonly #log: HealthLog
  readonly #cells: Int32Array
  readonly #seconds: () => number
  /** Since it was last found to stand. */
  #strikes = 0
  #deaf = 0
  #stood: UdpRung | undefined
  #heard = false

  /**
   * @param mode `auto`: whatever way there is; `associate`, `tcp`: that one alone; `off`: none
   * @param upstream its name in the log
   * @param seconds monotonic, and the same in all threads
   */
  constructor(
    upstream: string,
    mode: UdpWay,
    log: HealthLog,
    cells = ladderCells(),
    seconds = () => process.hrtime()[0],
  ) {
    this.#upstream = upstream
    this.#mode = mode
    this.#log = log
    this.#cells = cells
    this.#seconds = seconds
  }

  /** What to ask for next; undefined: for nothing. */
  get way(): UdpRung | undefined {
    if (this.#mode === 'off') return undefined
    const state = this.#state()
    if (state === NONE) return undefined
    if (this.#mode === 'tcp') return 'tcp'
    return state === NO_RELAY || state === TCP ? 'tcp' : 'associate'
  }

  /** Why nothing is to be asked for. */
  get refusal(): DialError {
    const message = this.#mode === 'off' ? 'UDP is switched off' : 'the proxy carries no UDP'
    return { failure: 'unsupported', message }
  }

  #state(): number {
    const cells = this.#cells
    const state = Atomics.load(cells, STATE)
    if (state < NO_RELAY || this.#seconds() - Atomics.load(cells, SINCE) < RETRY_S) return state
    this.forget()
    return UNKNOWN
  }

  stands(way: UdpRung): void {
    this.#stood = way
    this.#strikes = 0
    const state = way === 'associate' ? ASSOCIATE : TCP
    if (Atomics.load(this.#cells, STATE) !== state) this.#turnTo(state, '')
  }

  /**
   * The way did not come to stand.
   * @param isUp the proxy answers others
   * @returns what to try instead, at once
   */
  failed(way: UdpRung, { failure, message }: DialError, isUp: boolean): UdpRung | undefined {
    if (REFUSALS.has(failure)) return this.#lost(way, message)
    if (OTHERS.has(failure) || !isUp || this.#stood === way || ++this.#strikes < STRIKES[way]) return undefined
    return this.#lost(way, message)
  }

  /** Something came from the relay. */
  heard(): void {
    this.#heard = true
  }

  /**
   * A relay was sent datagrams, and nothing came from it as long as its association lived. Who has asked for a relay alone is
   * believed: clients that want no answers are so, too.
   */
  deaf(): void {
    if (this.#heard || this.#mode !== 'auto' || ++this.#deaf < DEAF) return
    if (this.way === 'associate') this.#lost('associate', `nothing came from its last ${DEAF} relays`)
  }

  #lost(way: UdpRung, reason: string): UdpRung | undefined {
    this.#strikes = 0
    this.#deaf = 0
    this.#stood = undefined
    this.#turnTo(way === 'associate' && this.#mode === 'auto' ? NO_RELAY : NONE, reason)
    return way === this.way ? undefined : this.way
  }

  /** What is known holds no longer: the upstream was down, and may be another when it comes back. */
  forget(): void {
    this.#strikes = 0
    this.#deaf = 0
    this.#stood = undefined
    this.#heard = false
    Atomics.store(this.#cells, STATE, UNKNOWN)
  }

  #turnTo(state: number, reason: string): void {
    const cells = this.#cells
    Atomics.store(cells, SINCE, this.#seconds())
    Atomics.store(cells, STATE, state)
    if (state === NO_RELAY) return // told with what comes next
    const told = Atomics.exchange(cells, TOLD, state)
    if (told === state) return
    const fields = { upstream: this.#upstream, ...(reason === '' ? {} : { reason }) }
    if (state === NONE) this.#log.warn('the proxy carries no UDP: datagrams are answered with port unreachable', fields)
    else if (state === TCP) this.#log.info('UDP goes through the proxy in TCP', fields)
    else if (told !== UNKNOWN) this.#log.info('UDP goes through a relay of the proxy', fields)
  }
}
