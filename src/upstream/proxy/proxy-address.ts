/**
 * Where the proxy is: a name is looked up, its addresses are tried in turn, the one that was good last first, and looked up
 * again when all have failed.
 */
import { lookup } from 'node:dns/promises'

import { formatEndpoint, type IpEndpoint, parseAddress, sameAddress } from '../../endpoint.ts'
import { interleaved } from '../transport/race.ts'

/** Looking up again is tried at most this often. */
const LOOKUP_INTERVAL_MS = 2_000

export class ProxyAddress {
  readonly #host: string
  readonly #port: number
  readonly #onNoAddress: (reason: string) => void
  readonly #resolve: typeof lookupAll
  #endpoints: readonly IpEndpoint[]
  #current = 0
  /** Addresses, without an answer between them. */
  #failedInARow = 0
  #answers = 0
  #lookedUpAt = Number.NEGATIVE_INFINITY
  #lookingUp: Promise<void> | undefined

  /**
   * @param onNoAddress hears of each look-up that fails
   * @param resolve for tests
   */
  constructor(host: string, port: number, onNoAddress: (reason: string) => void, resolve = lookupAll) {
    this.#resolve = resolve
    this.#host = host
    this.#port = port
    this.#onNoAddress = onNoAddress
    const literal = parseAddress(host)
    this.#endpoints = literal === undefined ? [] : [{ address: literal, port }]
  }

  /** The address to dial now; undefined while the name has none. */
  get endpoint(): IpEndpoint | undefined {
    if (this.#endpoints.length === 0) void this.lookUp()
    return this.#endpoints[this.#current]
  }

  get count(): number {
    return this.#endpoints.length
  }

  /** All of them, the one to dial first. */
  inTurn(): readonly IpEndpoint[] {
    return [...this.#endpoints.slice(this.#current), ...this.#endpoints.slice(0, this.#current)]
  }

  /** A connection to it stood, before those to the others did. */
  use(endpoint: IpEndpoint): void {
    const at = this.#endpoints.indexOf(endpoint)
    if (at >= 0) this.#current = at
  }

  /** To none of them a connection could be made. */
  allFailed(): void {
    void this.lookUp()
  }

  has(endpoint: IpEndpoint): boolean {
    return endpoint.port === this.#port && this.#endpoints.some(known => sameAddress(known.address, endpoint.address))
  }

  /** Resolves always. An address needs no look-up. */
  lookUp(): Promise<void> {
    if (this.#lookingUp !== undefined || parseAddress(this.#host) !== undefined) {
      return this.#lookingUp ?? Promise.resolve()
    }
    const now = performance.now()
    if (now - this.#lookedUpAt < LOOKUP_INTERVAL_MS) return Promise.resolve()
    this.#lookedUpAt = now
    this.#lookingUp = this.#resolve(this.#host)
      .then(found => {
        const addresses = found.map(parseAddress).filter(address => address !== undefined)
        this.#endpoints = interleaved(addresses.map(address => ({ address, port: this.#port })))
        this.#current = 0
      })
      .catch((error: unknown) =>
        this.#onNoAddress(`the name of the proxy cannot be looked up (${(error as { code?: string }).code})`),
      )
      .finally(() => {
        this.#lookingUp = undefined
      })
    return this.#lookingUp
  }

  /**
   * Nothing is to be had at `endpoint`: the next address is tried with the next dial. Those that failed together count once.
   * @param answers that there were so far, at any address
   */
  failed(endpoint: IpEndpoint | undefined, answers: number): void {
    if (endpoint === undefined || endpoint !== this.#endpoints[this.#current]) return
    if (answers !== this.#answers) this.#failedInARow = 0
    this.#answers = answers
    this.#current = (this.#current + 1) % this.#endpoints.length
    this.#failedInARow++
    if (this.#failedInARow >= this.#endpoints.length) void this.lookUp()
  }
}

async function lookupAll(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address)
}

export function proxyText(host: string, port: number): string {
  const literal = parseAddress(host)
  return formatEndpoint(literal === undefined ? { name: host, port } : { address: literal, port })
}
