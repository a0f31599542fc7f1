/**
 * User and password, and whether they may be shown to the proxy now (RFC 1929). A wrong password that is shown for each
 * connection of each client locks the account, or has the gateway banned. So until it was accepted once, one dial shows
 * it and others wait for the verdict; and after a denial it is shown again only after a pause, in which dials are told
 * the truth at once. One truth for all threads.
 */
import { formatAddress, type IpEndpoint } from '../../endpoint.ts'
import type { DialError } from '../dialer.ts'
import { type User, userFor } from './user.ts'

/** A dial that wants to speak with the proxy. */
export interface Asker {
  start(): void
  refuse(error: DialError): void
  /** Calls `work` in a later turn: the dial that ends the wait of others is in the midst of its handshake. */
  later(work: () => void): void
}

/** The first pause; each further one is twice as long. */
const FIRST_PAUSE_MS = 1_000
/** A password that is right again is found so by then. */
const LONGEST_PAUSE_MS = 30_000
/** Others do not wait longer for the first: it may have met a proxy that says nothing. */
const PATIENCE_MS = 1_000
/** One that was accepted, and met so many ends in a row instead of a verdict, is wrong by now. */
const ENDS_IN_A_ROW = 16

/** What the cells hold: the last verdict, 0 for none yet; */
const VERDICT = 0
const ACCEPTED = 1
const DENIED = 2
/** since when one shows the password while nobody knows, or again after a pause, 0 for nobody; */
const SHOWN_AT = 1
/** and the pause. Times are milliseconds modulo 2^32. */
const DENIED_AT = 2
const PAUSE_MS = 3
const CELLS = 4

/** Verdicts on users of clients that are remembered; dials that are under way are beside it. */
const MAX_CLIENTS = 4_096

/** Shared by all who show the same password to the same proxy. */
export function authenticationCells(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * CELLS))
}

export class Authentication {
  readonly username: Uint8Array
  readonly password: Uint8Array
  /** There is a user with a password. If not, nobody needs to ask here. */
  readonly isSet: boolean
  /** Each client has a user, and a verdict, of its own. */
  readonly isPerSource: boolean
  readonly #user: User
  /** By client, the one that was asked for least lately first. */
  readonly #ofClients = new Map<string, Authentication>()
  readonly #cells: Int32Array
  readonly #now: () => number
  #endsInARow = 0
  /** The one of this thread that shows the password, and what it has written as SHOWN_AT. */
  #first: Asker | undefined
  #shownAt = 0
  readonly #waiting = new Set<Asker>()

  /** @param now milliseconds, monotonic, the same in all threads */
  constructor(user: User, cells = authenticationCells(), now = monotonicMs) {
    this.isSet = user.username !== undefined && user.password !== undefined
    this.isPerSource = user.isPerSource
    this.#user = user
    this.username = Buffer.from(user.username ?? '')
    this.password = Buffer.from(user.password ?? '')
    this.#cells = cells
    this.#now = now
  }

  /** As text. */
  get name(): string | undefined {
    return this.#user.username
  }

  /** What holds for this client; of this thread alone, where each has its own. `client` may be missing where it is the same for all. */
  of(client: IpEndpoint | undefined): Authentication {
    if (!this.isPerSource || client === undefined) return this
    const source = formatAddress(client.address)
    const known = this.#ofClients.get(source)
    this.#ofClients.delete(source)
    const own = known ?? this.#newOf(source)
    this.#ofClients.set(source, own)
    return own
  }

  #newOf(source: string): Authentication {
    if (this.#ofClients.size >= MAX_CLIENTS)
      for (const [name, { isIdle }] of this.#ofClients) {
        if (!isIdle) continue
        this.#ofClients.delete(name)
        break
      }
    const { username, password } = this.#user
    const user = { username: userFor(this.#user, source) ?? username, password, isPerSource: false }
    return new Authentication(user as User, new Int32Array(CELLS), this.#now)
  }

  get isIdle(): boolean {
    return this.#first === undefined && this.#waiting.size === 0
  }

  /** There is no password, or it was accepted when it was last shown. */
  get isSettled(): boolean {
    return !this.isSet || this.#cells[VERDICT] === ACCEPTED
  }

  /** The proxy has refused it, and has not accepted it since. */
  get isDenied(): boolean {
    return this.#cells[VERDICT] === DENIED
  }

  /** Starts the dial, now or in a turn behind the verdict, or refuses it. */
  admit(asker: Asker): void {
    if (this.isSettled) return asker.start()
    const now = this.#now()
    const shownAt = Atomics.load(this.#cells, SHOWN_AT)
    if (this.isDenied && (shownAt !== 0 || this.#pauseLeft(now) > 0)) asker.refuse(this.#refusal(now))
    else if (shownAt !== 0 && ((now - shownAt) | 0) < PATIENCE_MS) this.#waiting.add(asker)
    else if (this.#mayShow(shownAt, now)) {
      this.#first = asker
      asker.start()
    } else this.admit(asker) // another thread was quicker
  }

  #mayShow(shownAt: number, now: number): boolean {
    const claim = now | 0 || 1
    if (Atomics.compareExchange(this.#cells, SHOWN_AT, shownAt, claim) !== shownAt) return false
    this.#shownAt = claim
    return true
  }

  /** Milliseconds. */
  #pauseLeft(now: number): number {
    const pause = Atomics.load(this.#cells, PAUSE_MS)
    const ms = (now - Atomics.load(this.#cells, DENIED_AT)) | 0
    // long ago looks like the future, after weeks; another thread's clock may have been read a moment later
    return ms > -PATIENCE_MS && ms < pause ? pause - Math.max(0, ms) : 0
  }

  #refusal(now: number): DialError {
    const seconds = Math.ceil(this.#pauseLeft(now) / 1000)
    const again = seconds === 0 ? 'it is being asked again' : `it is asked again in ${seconds} s`
    return { failure: 'authentication', message: `the proxy has not accepted user name and password; ${again}` }
  }

  /** The dial has ended, in whatever way. Harmless for one that was never admitted. */
  left(asker: Asker): void {
    this.#waiting.delete(asker)
    if (this.#first !== asker) return
    this.#first = undefined
    Atomics.compareExchange(this.#cells, SHOWN_AT, this.#shownAt, 0)
    this.#letGo()
  }

  /** The proxy has let a handshake pass, with the password or without. */
  accepted(): void {
    this.#endsInARow = 0
    if (this.isSettled) return
    const cells = this.#cells
    Atomics.store(cells, PAUSE_MS, 0)
    Atomics.store(cells, SHOWN_AT, 0)
    Atomics.store(cells, VERDICT, ACCEPTED)
    this.#first = undefined
    this.#letGo()
  }

  denied(): void {
    if (!this.isSet) return
    const now = this.#now()
    const cells = this.#cells
    Atomics.store(cells, VERDICT, DENIED)
    const deniedAt = Atomics.load(cells, DENIED_AT)
    // of several that are denied at once, in whatever thread, one begins the pause
    if (this.#pauseLeft(now) === 0 && Atomics.compareExchange(cells, DENIED_AT, deniedAt, now | 0) === deniedAt) {
      const last = Atomics.load(cells, PAUSE_MS)
      Atomics.store(cells, PAUSE_MS, Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * last)))
    }
    this.#letGo()
  }

  /**
   * The proxy has ended the connection instead of a verdict: some do so for a wrong password, others when they are at
   * their end, as those that had accepted it before are more likely to be.
   */
  ended(): void {
    this.#endsInARow++
    if (!this.isSettled || this.#endsInARow >= ENDS_IN_A_ROW) this.denied()
  }

  /** Called now and then while somebody waits: the verdict may have come to another thread. */
  tick(): void {
    for (const own of this.#ofClients.values()) own.tick()
    if (this.#waiting.size === 0) return
    const shownAt = Atomics.load(this.#cells, SHOWN_AT)
    const isKnown = this.isSettled || this.isDenied
    if (isKnown || shownAt === 0 || ((this.#now() - shownAt) | 0) >= PATIENCE_MS) this.#letGo()
  }

  #letGo(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const asker of waiting) asker.later(() => this.#decide(asker))
  }

  #decide(asker: Asker): void {
    if (this.isDenied) asker.refuse(this.#refusal(this.#now()))
    else asker.start()
  }
}

/** Unlike performance.now() it has one beginning for all threads. */
function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1000 + nanoseconds / 1e6
}
