/**
 * Names that stand behind virtual addresses: a client is told an address of ours, and what it then sends there goes to the
 * proxy by name.
 *
 * At most as many names as there are addresses, or fewer. A new name takes the address that has been out of use for longest:
 * never one with live flows, and none whose answer a client may still hold. Everything is O(1).
 *
 * All of it is in one memory, which the threads of a gateway share: what one has told a client is at once true for the flow that
 * another gets. Times are milliseconds of one clock for all threads, which never goes back.
 */
import { randomInt } from 'node:crypto'
import { Lock } from './lock.ts'
import { NameTable, NO_ENTRY } from './name-table.ts'
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

/** Words of the memory's head. */
const Head = { lock: 0, isMade: 1, live: 2, exhausted: 3, evicted: 4, revision: 5, words: 8 } as const

export class NameMap {
  readonly addresses: VirtualAddresses
  readonly ttlSeconds: number
  readonly #size: number
  readonly #holdSeconds: number
  readonly #head: Int32Array
  readonly #lock: Lock
  readonly #table: NameTable
  readonly #flows: Uint32Array
  readonly #toldAt: Float64Array
  /** The line of addresses without live flows, a ring: behind `#size` stands the one that gives way first, before it the last. */
  readonly #after: Int32Array
  readonly #before: Int32Array

  /** Zeros, for the maps of several threads. */
  static memoryFor(addresses: VirtualAddresses, limits: NameMapLimits = NAME_MAP_DEFAULTS): SharedArrayBuffer {
    return new SharedArrayBuffer(bytesFor(Math.min(limits.names, addresses.count)))
  }

  /** @param memory of `memoryFor`, with the same arguments; without it the map is this thread's alone */
  constructor(addresses: VirtualAddresses, limits: NameMapLimits = NAME_MAP_DEFAULTS, memory?: SharedArrayBuffer) {
    this.addresses = addresses
    this.ttlSeconds = limits.ttlSeconds
    this.#holdSeconds = limits.holdSeconds
    const size = Math.min(limits.names, addresses.count)
    this.#size = size
    const all: ArrayBufferLike = memory ?? new ArrayBuffer(bytesFor(size))
    const even = 2 * Math.ceil((size + 1) / 2)
    this.#head = new Int32Array(all, 0, Head.words)
    this.#lock = new Lock(this.#head.subarray(Head.lock, Head.lock + 1))
    this.#toldAt = new Float64Array(all, 4 * Head.words, size)
    const at = 4 * Head.words + 8 * size
    this.#flows = new Uint32Array(all, at, size)
    this.#after = new Int32Array(all, at + 4 * even, size + 1)
    this.#before = new Int32Array(all, at + 8 * even, size + 1)
    this.#table = new NameTable(all, at + 12 * even, size)
    this.#locked(() => this.#make())
  }

  /** Once, by whoever comes first. */
  #make(): void {
    if (this.#head[Head.isMade] !== 0) return
    this.#head[Head.isMade] = 1
    this.#table.begin(randomInt(2 ** 31))
    for (let index = 0; index <= this.#size; index++) {
      this.#after[index] = index === this.#size ? 0 : index + 1
      this.#before[index] = index === 0 ? this.#size : index - 1
    }
  }

  #locked<T>(work: () => T): T {
    this.#lock.take()
    try {
      return work()
    } finally {
      this.#lock.release()
    }
  }

  /** Names that have an address. */
  get size(): number {
    return this.#table.size
  }

  /** Addresses with live flows. */
  get live(): number {
    return this.#head[Head.live]!
  }

  /** Names that got no address: all had live flows, or were told a moment ago. Their clients get SERVFAIL. */
  get exhausted(): number {
    return this.#head[Head.exhausted]!
  }

  /** Names that gave way to others. */
  get evicted(): number {
    return this.#head[Head.evicted]!
  }

  /** Grows with each name that comes: whether there is something to save. */
  get revision(): number {
    return this.#head[Head.revision]!
  }

  /** The index of the address to tell a client for `name` (lower case, no dot at its end), or `NO_INDEX`: none is to be had. */
  assign(name: string, nowMs: number): number {
    return this.#locked(() => this.#assign(name, nowMs / 1_000))
  }

  #assign(name: string, now: number): number {
    const known = this.#table.indexOf(name)
    if (known !== NO_ENTRY) {
      this.#toldAt[known] = now
      if (this.#flows[known] === 0) this.#moveLast(known)
      return known
    }
    const index = this.#after[this.#size]!
    const isTaken = index !== this.#size && this.#table.has(index)
    if (index === this.#size || (isTaken && now - this.#toldAt[index]! < this.#holdSeconds)) {
      this.#head[Head.exhausted]!++
      return NO_INDEX
    }
    if (isTaken) this.#head[Head.evicted]!++
    this.#table.remove(index)
    this.#give(index, name, now)
    this.#head[Head.revision]!++
    return index
  }

  /** The name behind an address of 4 or 16 bytes. */
  nameOf(address: Uint8Array): string | undefined {
    const index = this.#indexOf(address)
    return index === NO_INDEX ? undefined : this.#locked(() => this.#table.nameOf(index))
  }

  #indexOf(address: Uint8Array): number {
    const index = this.addresses.indexOf(address)
    return index < this.#size ? index : NO_INDEX
  }

  /** The same for a flow that begins: the address keeps its name until each `acquire` that gave one has had its `release`. */
  acquire(address: Uint8Array): string | undefined {
    const index = this.#indexOf(address)
    return index === NO_INDEX ? undefined : this.#locked(() => this.#acquire(index))
  }

  #acquire(index: number): string | undefined {
    const name = this.#table.nameOf(index)
    if (name !== undefined && this.#flows[index]!++ === 0) {
      this.#unlink(index)
      this.#head[Head.live]!++
    }
    return name
  }

  /** False, and nothing done, when the address has no live flows. */
  release(address: Uint8Array): boolean {
    const index = this.#indexOf(address)
    return index !== NO_INDEX && this.#locked(() => this.#release(index))
  }

  #release(index: number): boolean {
    if (this.#flows[index] === 0) return false
    if (--this.#flows[index]! === 0) {
      this.#linkLast(index)
      this.#head[Head.live]!--
    }
    return true
  }

  /** What is to be saved. The names may be taken in pieces with work in between: each pair is right when it is taken. */
  save(): SavedNames {
    return this.#locked(() => {
      const order = new Int32Array(this.#table.size)
      let count = 0
      for (let index = this.#after[this.#size]!; index !== this.#size; index = this.#after[index]!)
        if (this.#table.has(index)) order[count++] = index
      for (let index = 0; index < this.#size; index++) if (this.#flows[index]! > 0) order[count++] = index
      return { names: this.#pairs(order), next: this.#after[this.#size]! % this.#size }
    })
  }

  *#pairs(order: Int32Array): Generator<[number, string]> {
    for (const index of order) yield [index, this.#locked(() => this.#table.nameOf(index))!]
  }

  /**
   * Takes in what was saved, into a map that has no names yet. Pairs that do not fit are left out, and so are the oldest where
   * fewer than a quarter of the addresses would be without a name: nobody knows when those with a name were told last, so
   * none of them is given away for `holdSeconds`.
   */
  restore(saved: SavedNames, nowMs: number): void {
    this.#locked(() => this.#restore(saved, nowMs))
  }

  #restore(saved: SavedNames, nowMs: number): void {
    const now = nowMs / 1_000
    if (saved.next % this.#size > 0) this.#startLineAt(saved.next % this.#size)
    for (const [index, name] of saved.names) {
      if (index < 0 || index >= this.#size || this.#table.has(index) || this.#table.indexOf(name) !== NO_ENTRY) continue
      this.#give(index, name, now)
    }
    const quarter = this.#size >> 2
    const unsaved = Math.min(UNSAVED, quarter)
    for (let left = unsaved; left > 0; left--) {
      const index = this.#after[this.#size]!
      this.#table.remove(index)
      this.#moveLast(index)
    }
    const atMost = this.#size - quarter - unsaved
    for (let index = this.#after[this.#size]!; this.#table.size > atMost; index = this.#after[index]!)
      this.#table.remove(index)
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
    this.#table.set(index, name)
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

function bytesFor(size: number): number {
  return 4 * Head.words + 8 * size + 3 * 8 * Math.ceil((size + 1) / 2) + NameTable.bytesFor(size)
}
