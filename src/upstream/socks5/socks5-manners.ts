/**
 * How the proxy is spoken to: message by message, as RFC 1928 draws it, or greeting, user and password, and request in one
 * write, which saves one or two round trips and most proxies understand. What they do is learned from what they answer.
 */
import { type IpEndpoint, sameAddress } from '../../endpoint.ts'
import { Method } from './socks5-codec.ts'

export interface Manner {
  /** Everything goes in one write: one method is offered, and taken for granted. */
  readonly pipelined: boolean
  readonly offersNone: boolean
  readonly offersPassword: boolean
}

/** A proxy that did not cope is not tried again for so long. */
const STRICT_MS = 10 * 60_000
/** A proxy that has coped before must fail so many times in a row. */
const STRIKES = 3

/** So long a proxy is not tried a second time while the first trial may be under way: only one client waits for it. */
const TRIAL_MS = 2_000

const PIPELINED_NONE: Manner = { pipelined: true, offersNone: true, offersPassword: false }
const PIPELINED_PASSWORD: Manner = { pipelined: true, offersNone: false, offersPassword: true }

export class Manners {
  /** One message after another, every method that we have: what each proxy understands. */
  readonly strict: Manner
  /** For connections that are greeted before there is a request. */
  readonly ahead: Manner
  /** A pipelined handshake that fails is followed by a strict one. */
  readonly learns: boolean
  /** Pipelined handshakes that had their reply. */
  copings = 0
  readonly #now: () => number
  #current: Manner
  #proxy: IpEndpoint | undefined
  #triedAt = Number.NEGATIVE_INFINITY
  #coped = false
  #strikes = 0
  #strictUntil = Number.NEGATIVE_INFINITY

  /** @param now milliseconds, monotonic */
  constructor(handshake: 'auto' | 'strict' | 'pipelined', withPassword: boolean, now = () => performance.now()) {
    this.#now = now
    this.strict = { pipelined: false, offersNone: true, offersPassword: withPassword }
    this.learns = handshake === 'auto'
    const configured = withPassword ? PIPELINED_PASSWORD : PIPELINED_NONE
    this.#current = handshake === 'pipelined' ? configured : this.strict
    this.ahead = { ...this.#current, pipelined: false }
  }

  /** For the next handshake with the proxy at this address: another address is another proxy. */
  towards(proxy: IpEndpoint | undefined): Manner {
    if (this.learns && proxy !== this.#proxy) {
      const known = this.#proxy
      this.#proxy = proxy
      if (known !== undefined && proxy !== undefined && !sameAddress(known.address, proxy.address)) this.#forget()
    }
    return this.onTrial && !this.#mayTry() ? this.strict : this.#current
  }

  /** Nothing is known yet of how the proxy takes a pipelined handshake. */
  get onTrial(): boolean {
    return this.learns && this.#current.pipelined && !this.#coped
  }

  /** It coped once, and did not lately. */
  get inDoubt(): boolean {
    return this.#strikes > 0
  }

  #mayTry(): boolean {
    const now = this.#now()
    if (now - this.#triedAt < TRIAL_MS) return false
    this.#triedAt = now
    return true
  }

  #forget(): void {
    this.#current = this.strict
    this.#triedAt = Number.NEGATIVE_INFINITY
    this.#coped = false
    this.#strikes = 0
    this.#strictUntil = Number.NEGATIVE_INFINITY
  }

  /**
   * A handshake with `proxy` had its reply, whatever it says. `instead`: it was a strict one, after a pipelined one had failed or
   * while one waited in vain.
   */
  replied(proxy: IpEndpoint | undefined, manner: Manner, method: number | undefined, instead: boolean): void {
    if (!this.learns || this.#isAnother(proxy)) return
    if (manner.pipelined) {
      this.copings++
      this.#coped = true
      this.#strikes = 0
      return
    }
    const next = method === Method.password ? PIPELINED_PASSWORD : PIPELINED_NONE
    if (instead && next === this.#current) this.#strike()
    else if (next !== this.#current && this.#now() >= this.#strictUntil) {
      this.#forget()
      this.#current = next
    }
  }

  #isAnother(proxy: IpEndpoint | undefined): boolean {
    const known = this.#proxy
    return known !== undefined && proxy !== undefined && !sameAddress(known.address, proxy.address)
  }

  /** A pipelined handshake was given up after some seconds without a word. */
  stayedSilent(): void {
    if (this.learns) this.#strike()
  }

  #strike(): void {
    this.#strikes++
    if (this.#coped && this.#strikes < STRIKES) return
    this.#forget()
    this.#strictUntil = this.#now() + STRICT_MS
  }
}
