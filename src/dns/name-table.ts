/**
 * Names by index, and back, in one memory that threads may share: of each at most 253 bytes, found by a hash. Nobody may call it
 * from two threads at a time.
 *
 * A thread's own Map of strings would have to be told what other threads do, and each new name would come too late where it is
 * asked for first.
 */

/** Length byte, and the longest name there is. */
const NAME_BYTES = 256
export const NO_ENTRY = -1

export class NameTable {
  /** How many names have an index; what the hash begins with. */
  readonly #head: Int32Array
  readonly #buckets: Int32Array
  /** Index + 1 of the next name in the same bucket. */
  readonly #next: Int32Array
  readonly #names: Uint8Array
  readonly #scratch = Buffer.alloc(NAME_BYTES)

  static bytesFor(size: number): number {
    return 8 + 4 * bucketsFor(size) + 8 * Math.ceil(size / 2) + NAME_BYTES * size
  }

  /** `memory` from `at` on, a multiple of 8: zeros, or what another table has made there. */
  constructor(memory: ArrayBufferLike, at: number, size: number) {
    const buckets = bucketsFor(size)
    this.#head = new Int32Array(memory, at, 2)
    this.#buckets = new Int32Array(memory, at + 8, buckets)
    this.#next = new Int32Array(memory, at + 8 + 4 * buckets, size)
    this.#names = new Uint8Array(memory, at + 8 + 4 * buckets + 8 * Math.ceil(size / 2), NAME_BYTES * size)
  }

  /** Once for a memory of zeros. `seed`: so that nobody can make names that are found slowly. */
  begin(seed: number): void {
    this.#head[1] = seed
  }

  get size(): number {
    return this.#head[0]!
  }

  has(index: number): boolean {
    return this.#names[index * NAME_BYTES] !== 0
  }

  nameOf(index: number): string | undefined {
    const at = index * NAME_BYTES
    const length = this.#names[at]!
    if (length === 0) return undefined
    for (let offset = 0; offset < length; offset++) this.#scratch[offset] = this.#names[at + 1 + offset]!
    return this.#scratch.toString('latin1', 0, length)
  }

  /** `NO_ENTRY` for one that has none. */
  indexOf(name: string): number {
    for (let entry = this.#buckets[this.#bucketOf(name)]!; entry !== 0; entry = this.#next[entry - 1]!)
      if (this.#isAt(entry - 1, name)) return entry - 1
    return NO_ENTRY
  }

  /** An index without a name gets one: of 1 to 253 characters, each a byte, that no other has. */
  set(index: number, name: string): void {
    const at = index * NAME_BYTES
    this.#names[at] = name.length
    for (let offset = 0; offset < name.length; offset++) this.#names[at + 1 + offset] = name.charCodeAt(offset)
    const bucket = this.#bucketOf(name)
    this.#next[index] = this.#buckets[bucket]!
    this.#buckets[bucket] = index + 1
    this.#head[0]!++
  }

  /** The index has no name afterwards. */
  remove(index: number): void {
    const name = this.nameOf(index)
    if (name === undefined) return
    const bucket = this.#bucketOf(name)
    let entry = this.#buckets[bucket]!
    if (entry === index + 1) this.#buckets[bucket] = this.#next[index]!
    else {
      while (this.#next[entry - 1] !== index + 1) entry = this.#next[entry - 1]!
      this.#next[entry - 1] = this.#next[index]!
    }
    this.#names[index * NAME_BYTES] = 0
    this.#head[0]!--
  }

  #isAt(index: number, name: string): boolean {
    const at = index * NAME_BYTES
    if (this.#names[at] !== name.length) return false
    for (let offset = 0; offset < name.length; offset++)
      if (this.#names[at + 1 + offset] !== name.charCodeAt(offset)) return false
    return true
  }

  /** FNV-1a, stirred. */
  #bucketOf(name: string): number {
    let hash = 0x811c9dc5 ^ this.#head[1]!
    for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193)
    hash ^= (hash >>> 15) ^ this.#head[1]!
    return (Math.imul(hash, 0x2c1b3c6d) >>> 8) & (this.#buckets.length - 1)
  }
}

/** A power of two. */
function bucketsFor(size: number): number {
  return 2 ** Math.ceil(Math.log2(2 * size))
}
