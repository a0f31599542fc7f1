/**
 * Where the gateway's own datagrams go: the relays of live associations, of all threads. What a wrong route leads back into
 * the tun is recognised by it, whichever worker's queue it comes to.
 */
import { type IpEndpoint, sameAddress } from '../../endpoint.ts'

/** A relay has one of so many places, from that of its hash on: with half of all in use one is free. */
const PLACES = 16
/** Words of a place: port and family, 0 when it is free; the address, or what stands for it. */
const WORDS = 2
/** While its owner writes the address: no port and family. */
const TAKEN = -1
const IPV6 = 1 << 16

/** Shared by all who speak with the same proxy. `associations`: of all together, at most. */
export function relayCells(associations: number): Int32Array {
  const places = 2 ** Math.ceil(Math.log2(2 * associations + PLACES))
  return new Int32Array(new SharedArrayBuffer(4 * WORDS * places))
}

interface Known {
  readonly relay: IpEndpoint
  /** In the cells; undefined when none was free: then other threads do not know of it. */
  readonly place: number | undefined
  associations: number
}

export class Relays {
  readonly #cells: Int32Array | undefined
  /** Of this thread, by port. */
  readonly #known = new Map<number, Known[]>()

  /** @param cells for several threads */
  constructor(cells?: Int32Array) {
    this.#cells = cells
  }

  /** For each association that has it. */
  add(relay: IpEndpoint): void {
    const others = this.#known.get(relay.port)
    const known = others && find(others, relay)
    if (known !== undefined) {
      known.associations++
      return
    }
    const place = this.#cells === undefined ? undefined : take(this.#cells, relay)
    const added = { relay, place, associations: 1 }
    if (others === undefined) this.#known.set(relay.port, [added])
    else others.push(added)
  }

  remove(relay: IpEndpoint): void {
    const others = this.#known.get(relay.port)
    const known = others && find(others, relay)
    if (others === undefined || known === undefined || --known.associations > 0) return
    if (known.place !== undefined) Atomics.store(this.#cells!, known.place, 0)
    if (others.length === 1) this.#known.delete(relay.port)
    else others.splice(others.indexOf(known), 1)
  }

  has(endpoint: IpEndpoint): boolean {
    const others = this.#known.get(endpoint.port)
    if (others !== undefined && find(others, endpoint) !== undefined) return true
    return this.#cells !== undefined && holds(this.#cells, endpoint)
  }
}

function find(all: readonly Known[], { address }: IpEndpoint): Known | undefined {
  for (const known of all)
    if (known.relay.address === address || sameAddress(known.relay.address, address)) return known
  return undefined
}

/** The place that it has now; undefined when none was free. */
function take(cells: Int32Array, relay: IpEndpoint): number | undefined {
  const name = nameOf(relay)
  const address = addressWord(relay)
  for (let at = 0, place = firstPlace(cells, name, address); at < PLACES; at++, place = nextPlace(cells, place)) {
    if (Atomics.compareExchange(cells, place, 0, TAKEN) !== 0) continue
    Atomics.store(cells, place + 1, address)
    Atomics.store(cells, place, name)
    return place
  }
  return undefined
}

function holds(cells: Int32Array, endpoint: IpEndpoint): boolean {
  const name = nameOf(endpoint)
  const address = addressWord(endpoint)
  for (let at = 0, place = firstPlace(cells, name, address); at < PLACES; at++, place = nextPlace(cells, place))
    if (Atomics.load(cells, place) === name && Atomics.load(cells, place + 1) === address) return true
  return false
}

function firstPlace(cells: Int32Array, name: number, address: number): number {
  const hash = Math.imul(name ^ Math.imul(address, 0x9e37_79b1), 0x85eb_ca6b)
  return WORDS * ((hash ^ (hash >>> 15)) & (cells.length / WORDS - 1))
}

function nextPlace(cells: Int32Array, place: number): number {
  return (place + WORDS) % cells.length
}

function nameOf({ address, port }: IpEndpoint): number {
  return address.length === 4 ? port : port | IPV6
}

/** An IPv4 address whole, an IPv6 address by a hash of 32 bits (FNV-1a). */
function addressWord({ address }: IpEndpoint): number {
  let word = 0
  if (address.length === 4) for (const byte of address) word = (word << 8) | byte
  else for (const byte of address) word = Math.imul((word === 0 ? 0x811c_9dc5 : word) ^ byte, 0x0100_0193)
  return word
}
