/**
 * Where the proxy is: a name is looked up, its addresses are used in turn when one does not answer, and looked up again
 * when all have failed. Also keeps the one truth about whether the upstream is up, for one log line a change.
 */
import { lookup } from 'node:dns/promises'

import { formatEndpoint, type IpEndpoint, parseAddress, sameAddress } from '../endpoint.ts'

export interface HealthLog {
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
}

/** Looking up again is tried at most this often. */
const LOOKUP_INTERVAL_MS = 2_000

export class ProxyAddress {
  readonly #host: string
  readonly #port: number
  readonly #log: HealthLog
  #endpoints: readonly IpEndpoint[]
  #current = 0
  #failedInARow = 0
  #state: 'unknown' | 'up' | 'down' = 'unknown'
  #lookedUpAt = Number.NEGATIVE_INFINITY
  #lookingUp: Promise<void> | undefined

  constructor(host: string, port: number, log: HealthLog) {
    this.#host = host
    this.#port = port
    this.#log = log
    const literal = parseAddress(host)
    this.#endpoints = literal === undefined ? [] : [{ address: literal, port }]
  }

  /** The address to dial now; undefined while the name has none. */
  get endpoint(): IpEndpoint | undefined {
    if (this.#endpoints.length === 0) void this.lookUp()
    return this.#endpoints[this.#current]
  }

  /** It answered when it was last asked. */
  get isUp(): boolean {
    return this.#state === 'up'
  }

  has(endpoint: IpEndpoint): boolean {
    return endpoint.port === this.#port && this.#endpoints.some(known => sameAddress(known.address, endpoint.address))
  }

  /** Resolves always; what went wrong is logged. An address needs no look-up. */
  lookUp(): Promise<void> {
    if (this.#lookingUp !== undefined || parseAddress(this.#host) !== undefined) {
      return this.#lookingUp ?? Promise.resolve()
    }
    const now = performance.now()
    if (now - this.#lookedUpAt < LOOKUP_INTERVAL_MS) return Promise.resolve()
    this.#lookedUpAt = now
    this.#lookingUp = lookup(this.#host, { all: true })
      .then(found => {
        const addresses = found.map(({ address }) => parseAddress(address)).filter(address => address !== undefined)
        this.#endpoints = addresses.map(address => ({ address, port: this.#port }))
        this.#current = 0
      })
      .catch((error: unknown) => this.failed(`the name cannot be looked up (${(error as { code?: string }).code})`))
      .finally(() => {
        this.#lookingUp = undefined
      })
    return this.#lookingUp
  }

  /** The proxy answered. */
  answered(): void {
    this.#failedInARow = 0
    if (this.#state === 'up') return
    this.#state = 'up'
    this.#log.info('upstream up', { upstream: this.text() })
  }

  /** The proxy could not be reached: the next address is tried with the next dial. */
  failed(reason: string): void {
    this.#failedInARow++
    if (this.#endpoints.length > 0) this.#current = (this.#current + 1) % this.#endpoints.length
    if (this.#failedInARow >= this.#endpoints.length) void this.lookUp()
    if (this.#state === 'down') return
    this.#state = 'down'
    this.#log.warn('upstream down', { upstream: this.text(), reason })
  }

  text(): string {
    const literal = parseAddress(this.#host)
    return formatEndpoint(
      literal === undefined ? { name: this.#host, port: this.#port } : { address: literal, port: this.#port },
    )
  }
}
