/**
 * User and password, and whether they may be shown to the proxy now (RFC 1929). A wrong password that is shown for each
 * connection of each client locks the account, or has the gateway banned. So until it was accepted once, one dial shows
 * it and others wait for the verdict; and after a denial it is shown again only after a pause, in which dials are told
 * the truth at once.
 */
import type { ProxyOptions } from '../options.ts'
import type { DialError } from './dialer.ts'

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

export class Authentication {
  readonly username: Uint8Array
  readonly password: Uint8Array
  /** There are some. */
  readonly isSet: boolean
  /** Dials need not ask here: there is no password, or it was accepted when it was last shown. */
  isSettled: boolean
  /** The proxy has refused it, and has not accepted it since. */
  isDenied = false
  readonly #now: () => number
  #endsInARow = 0
  #pauseMs = 0
  #pausedUntil = Number.NEGATIVE_INFINITY
  /** The one that shows the password while nobody knows, or again after a pause; and since when. */
  #first: Asker | undefined
  #firstAt = 0
  readonly #waiting = new Set<Asker>()

  /** @param now milliseconds, monotonic */
  constructor({ username, password }: ProxyOptions, now = () => performance.now()) {
    this.isSet = username !== undefined
    this.isSettled = !this.isSet
    this.username = Buffer.from(username ?? '')
    this.password = Buffer.from(password ?? '')
    this.#now = now
  }

  /** Starts the dial, now or in a turn behind the verdict, or refuses it. */
  admit(asker: Asker): void {
    if (this.isSettled) return asker.start()
    const now = this.#now()
    if (this.isDenied && (now < this.#pausedUntil || this.#first !== undefined)) {
      asker.refuse(this.#refusal(now))
    } else if (this.#first !== undefined && now - this.#firstAt < PATIENCE_MS) this.#waiting.add(asker)
    else this.#startFirst(asker, now)
  }

  #startFirst(asker: Asker, now: number): void {
    this.#first = asker
    this.#firstAt = now
    asker.start()
  }

  #refusal(now: number): DialError {
    const seconds = Math.max(0, Math.ceil((this.#pausedUntil - now) / 1000))
    const again = seconds === 0 ? 'it is being asked again' : `it is asked again in ${seconds} s`
    return { failure: 'authentication', message: `the proxy has not accepted user name and password; ${again}` }
  }

  /** The dial has ended, in whatever way. Harmless for one that was never admitted. */
  left(asker: Asker): void {
    this.#waiting.delete(asker)
    if (this.#first !== asker) return
    this.#first = undefined
    this.#startAll()
  }

  /** The proxy has let a handshake pass, with the password or without. */
  accepted(): void {
    this.#endsInARow = 0
    if (this.isSettled) return
    this.isSettled = true
    this.isDenied = false
    this.#pauseMs = 0
    this.#first = undefined
    this.#startAll()
  }

  denied(): void {
    const now = this.#now()
    this.isSettled = false
    this.isDenied = true
    if (now >= this.#pausedUntil) {
      this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs))
      this.#pausedUntil = now + this.#pauseMs
    }
    const refusal = this.#refusal(now)
    for (const asker of this.#takeWaiting()) asker.later(() => asker.refuse(refusal))
  }

  /**
   * The proxy has ended the connection instead of a verdict: some do so for a wrong password, others when they are at
   * their end, as those that had accepted it before are more likely to be.
   */
  ended(): void {
    this.#endsInARow++
    if (!this.isSettled || this.#endsInARow >= ENDS_IN_A_ROW) this.denied()
  }

  /** Called now and then while somebody waits. */
  tick(): void {
    if (this.#waiting.size > 0 && this.#now() - this.#firstAt >= PATIENCE_MS) this.#startAll()
  }

  #startAll(): void {
    for (const asker of this.#takeWaiting()) asker.later(() => asker.start())
  }

  #takeWaiting(): Asker[] {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    return waiting
  }
}
