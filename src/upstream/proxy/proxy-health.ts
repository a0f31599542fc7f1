/**
 * Whether the proxy is up, as its answers tell: one truth for all dialers, also those of other threads, and one log line
 * for each change.
 */
import { Changes } from '../../log-limits.ts'

export interface HealthLog {
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
}

/** In what way it failed a dial. */
export type ProxyFailure =
  | 'unreached' // connect() failed, or was not answered
  | 'closed' // it ended the connection before it had said a word
  | 'alien' // what it said is no SOCKS5
  | 'denied' // by its choice of method, or for the user and the password
  | 'unanswered' // it speaks SOCKS5, and ended the connection instead of answering

/** What the cells hold: 0 is "unknown". Of another kind of failure a user must be told again, though it was down before. */
const UP = 1
const KINDS: { readonly [failure in ProxyFailure]: number } = {
  unreached: 2,
  closed: 2,
  unanswered: 2,
  alien: 3,
  denied: 4,
}
const STATE = 0
const TOLD = 1
const WARNED = 2

/**
 * So many in a row, without an answer between them, before a proxy that was up counts as down: one that is full closes
 * some connections, and there are those that close where they should say that a destination refuses.
 */
const PATIENCE: { readonly [failure in ProxyFailure]: number } = {
  unreached: 1,
  closed: 3,
  alien: 1,
  denied: 1,
  unanswered: 16,
}

/** More changes than this within a minute are summed up in one line. */
const CHANGES_A_MINUTE = 4

/** Shared by all who speak with the same proxy. */
export function healthCells(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(12))
}

export class ProxyHealth {
  /** Answers of the proxy, of whatever content, that were seen here. */
  answers = 0
  readonly #upstream: string
  readonly #log: HealthLog
  readonly #cells: Int32Array
  readonly #now: () => number
  #failuresInARow = 0
  readonly #changes = new Changes(CHANGES_A_MINUTE)

  /**
   * @param upstream the proxy's name in the log
   * @param now milliseconds, monotonic
   */
  constructor(upstream: string, log: HealthLog, cells = healthCells(), now = () => performance.now()) {
    this.#upstream = upstream
    this.#log = log
    this.#cells = cells
    this.#now = now
  }

  /** It answered when it was last asked. */
  get isUp(): boolean {
    return this.#cells[STATE] === UP
  }

  answered(): void {
    this.answers++
    this.#failuresInARow = 0
    const cells = this.#cells
    if (cells[STATE] === UP && cells[TOLD] === UP) return
    Atomics.store(cells, STATE, UP)
    if (this.#turnsTo(UP)) this.#log.info('upstream up', { upstream: this.#upstream })
  }

  /** Told once, by one of all threads; of one proxy there is no second such line. */
  warnOnce(message: string): void {
    if (Atomics.exchange(this.#cells, WARNED, 1) === 0) this.#log.warn(message, { upstream: this.#upstream })
  }

  /** True: it counts as down. */
  failed(failure: ProxyFailure, reason: string): boolean {
    this.#failuresInARow++
    const cells = this.#cells
    if (cells[STATE] === UP && this.#failuresInARow < PATIENCE[failure]) return false
    const kind = KINDS[failure]
    Atomics.store(cells, STATE, kind)
    if (this.#turnsTo(kind)) this.#log.warn('upstream down', { upstream: this.#upstream, reason })
    return true
  }

  /** This change is to be told, by this thread. */
  #turnsTo(state: number): boolean {
    if (Atomics.load(this.#cells, TOLD) === state || !this.#mayTell()) return false
    return Atomics.exchange(this.#cells, TOLD, state) !== state
  }

  #mayTell(): boolean {
    const next = this.#changes.next(this.#now())
    if (next !== 'last') return next === 'tell'
    const reason = 'it answers and fails in turn: is it overloaded? its next changes are told in a minute'
    this.#log.warn('upstream unsteady', { upstream: this.#upstream, reason })
    return false
  }
}
