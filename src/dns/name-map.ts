/**
 * Names that stand behind virtual addresses: a client is told an address of ours, and what it then sends there goes to the
 * proxy by name.
 *
 * At most as many names as there are addresses, or fewer. A new name takes the address that has been out of use for longest:
 * never one with live flows, and none whose answer a client may still hold. Everything is O(1), and stands in arrays of
 * numbers but for the names. Times are milliseconds of one clock that never goes back.
 */
import { NO_INDEX, type VirtualAddresses } from './virtual-addresses.ts'

export const NAME_MAP_DEFAULTS = { names: 131_072, ttlSeconds: 10, holdSeconds: 20 } as const

export interface NameMapLimits {
  /** At most; no more than there are addresses. */
  readonly names: number
  /**
   * Of the answers: small, so that clients soon forget addresses that mean nothing without us, and large enough that a page with
   * its dozens of connections asks once.
   */
  readonly ttlSeconds: number
  /** How long an address keeps its name after it was last told: the TTL, and as long again for who counts it late. */
  readonly holdSeconds: number
}

/** In the file of names, and back. */
export interface SavedNames {
  /** Index and name, first the one that gives way first. */
  readonly names: Iterable<readonly [index: number, name: string]>
  /** The index that the next new name would have taken; counted round when there are fewer now. */
  readonly next: number
}

/**
 * So many of the addresses next in line may have been given away between the last save and a crash. After a start they come
 * last, without a name, so that none means something else to a client than what it was told.
 */
const UNSAVED = 4_096

export class NameMap {
  readonly addresses: VirtualAddresses
  readonly ttlSeconds: number
  /** Names that got no address: all had live flows, or were told a moment ago. Their clients get SERVFAIL. */
  exhausted = 0
  /** Names that gave way to others. */
  evicted = 0
  /** Grows with each name that comes: whether there is something to save. */
  revision = 0
  readonly #size: number
  readonly #holdSeconds: number
  readonly #indexes = new Map<string, number>()
  readonly #names: (string | undefined)[]
  readonly #flows: Uint32Array
  readonly #toldAt: Float64Array
  /** The line of addresses without live flows, a ring: behind `#size` stands the one that gives way first, before it the last. */
  readonly #after: Int32Array
  readonly #before: Int32Array
  #live = 0

  constructor(addresses: VirtualAddresses, limits: NameMapLimits = NAME_MAP_DEFAULTS) {
    this.addresses = addresses
    this.ttlSeconds = limits.ttlSeconds
    this.#holdSeconds = limits.holdSeconds
    this.#size = Math.min(limits.names, addresses.count)
    this.#names = new Array(this.#size).fill(undefined)
    this.#flows = new Uint32Array(this.#size)
    this.#toldAt = new Float64Array(this.#size)
    this.#after = new Int32Array(this.#size + 1)
    this.#before = new Int32Array(this.#size + 1)
    for (let index = 0; index <= this.#size; index++) {
      this.#after[index] = index === this.#size ? 0 : index + 1
      this.#before[index] = index === 0 ? this.#size : index - 1
    }
  }

  /** Names that have an address. */
  get size(): number {
    return this.#indexes.size
  }

  /** Addresses with live flows. */
  get live(): number {
    return this.#live
  }

  /** The index of the address to tell a client for `name` (lower case, no dot at its end), or `NO_INDEX`: none is to be had. */
  assign(name: string, nowMs: number): number {
    const now = nowMs / 1_000
    const known = this.#indexes.get(name)
    if (known !== undefined) {
      this.#toldAt[known] = now
      if (this.#flows[known] === 0) this.#moveLast(known)
      return known
    }
    const index = this.#after[this.#size]!
    const former = this.#names[index]
    if (index === this.#size || (former !== undefined && now - this.#toldAt[index]! < this.#holdSeconds)) {
      this.exhausted++
      return NO_INDEX
    }
    if (former !== undefined) this.evicted++
    this.#takeName(index)
    this.#give(index, name, now)
    this.revision++
    return index
  }

  /** The name behind an address of 4 or 16 bytes. */
  nameOf(address: Uint8Array): string | undefined {
    const index = this.addresses.indexOf(address)
    return index === NO_INDEX || index >= this.#size ? undefined : this.#names[index]
  }

  /** The same for a flow that begins: the address keeps its name until each `acquire` that gave one has had its `release`. */
  acquire(address: Uint8Array): string | undefined {
    const name = this.nameOf(address)
    if (name === undefined) return undefined
    const index = this.addresses.indexOf(address)
    if (this.#flows[index]!++ === 0) {
      this.#unlink(index)
      this.#live++
    }
    return name
  }

  /** False, and nothing done, when the address has no live flows. */
  release(address: Uint8Array): boolean {
    const index = this.addresses.indexOf(address)
    if (index === NO_INDEX || index >= this.#size || this.#flows[index] === 0) return false
    if (--this.#flows[index]! === 0) {
      this.#linkLast(index)
      this.#live--
    }
    return true
  }

  /** What is to be saved. The names may be taken in pieces with work in between: each pair is right when it is taken. */
  save(): SavedNames {
    const order = new Int32Array(this.#indexes.size)
    let count = 0
    for (let index = this.#after[this.#size]!; index !== this.#size; index = this.#after[index]!)
      if (this.#names[index] !== undefined) order[count++] = index
    for (let index = 0; index < this.#size; index++) if (this.#flows[index]! > 0) order[count++] = index
    return { names: this.#pairs(order), next: this.#after[this.#size]! % this.#size }
  }

  *#pairs(order: Int32Array): Generator<[number, string]> {
    for (const index of order) yield [index, this.#names[index]!]
  }

  /**
   * Takes in what was saved, into a map that has no names yet. Pairs that do not fit are left out, and so are the oldest where
   * fewer than a quarter of the addresses would be without a name: nobody knows when those with a name were told last, so
   * none of them is given away for `holdSeconds`.
   */
  restore(saved: SavedNames, nowMs: number): void {
    const now = nowMs / 1_000
    if (saved.next % this.#size > 0) this.#startLineAt(saved.next % this.#size)
    for (const [index, name] of saved.names) {
      if (index < 0 || index >= this.#size || this.#names[index] !== undefined || this.#indexes.has(name)) continue
      this.#give(index, name, now)
    }
    const quarter = this.#size >> 2
    const unsaved = Math.min(UNSAVED, quarter)
    for (let left = unsaved; left > 0; left--) {
      const index = this.#after[this.#size]!
      this.#takeName(index)
      this.#moveLast(index)
    }
    const atMost = this.#size - quarter - unsaved
    for (let index = this.#after[this.#size]!; this.#indexes.size > atMost; index = this.#after[index]!)
      this.#takeName(index)
  }

  #takeName(index: number): void {
    const name = this.#names[index]
    if (name !== undefined) this.#indexes.delete(name)
    this.#names[index] = undefined
  }

  /** Turns the ring, in which no name and no flow is yet. */
  #startLineAt(first: number): void {
    this.#unlink(this.#size)
    this.#before[this.#size] = this.#before[first]!
    this.#after[this.#size] = first
    this.#after[this.#before[first]!] = this.#size
    this.#before[first] = this.#size
  }

  #give(index: number, name: string, now: number): void {
    this.#names[index] = name
    this.#indexes.set(name, index)
    this.#toldAt[index] = now
    this.#moveLast(index)
  }

  #moveLast(index: number): void {
    this.#unlink(index)
    this.#linkLast(index)
  }

  #linkLast(index: number): void {
    const last = this.#before[this.#size]!
    this.#after[last] = index
    this.#before[index] = last
    this.#after[index] = this.#size
    this.#before[this.#size] = index
  }

  #unlink(index: number): void {
    this.#after[this.#before[index]!] = this.#after[index]!
    this.#before[this.#after[index]!] = this.#before[index]!
  }
}
