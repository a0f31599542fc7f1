/**
 * Rows of bits, one bit a rule (bit 0 of word 0 is the first rule), each row kept once. A table of values (addresses, ports,
 * names) gives the number of the row of those rules that the value suits; the rows of all conditions, ANDed, are the rules
 * that match, and the lowest bit is the first of them.
 *
 * Made over shared memory, so that rules that were compiled in one thread are seen by all.
 */
export class BitRows {
  readonly words: number
  #data: Uint32Array
  #count = 0
  readonly #known = new Map<string, number>()

  constructor(rules: number) {
    this.words = Math.max(1, Math.ceil(rules / 32))
    this.#data = new Uint32Array(this.words * 16)
  }

  /** The number of the row that equals `bits`, which is not kept. */
  intern(bits: Uint32Array): number {
    const key = bits.join()
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const at = this.#count * this.words
    if (at + this.words > this.#data.length) {
      const larger = new Uint32Array(this.#data.length * 2)
      larger.set(this.#data)
      this.#data = larger
    }
    this.#data.set(bits, at)
    this.#known.set(key, this.#count)
    return this.#count++
  }

  /** A copy of a row. */
  row(number: number): Uint32Array {
    return this.#data.slice(number * this.words, (number + 1) * this.words)
  }

  /** All rows, one behind the other. */
  finish(): Uint32Array {
    return sharedWords(this.#data.subarray(0, this.#count * this.words))
  }
}

export function setBit(bits: Uint32Array, at: number): void {
  bits[at >>> 5]! |= 1 << (at & 31)
}

export function clearBit(bits: Uint32Array, at: number): void {
  bits[at >>> 5]! &= ~(1 << (at & 31))
}

/** The bit `at` of the row that begins at the word `row`. */
export function hasBit(rows: Uint32Array, row: number, at: number): boolean {
  return ((rows[row + (at >>> 5)]! >>> (at & 31)) & 1) === 1
}

/** The number of the lowest bit that is set; `word` is not 0. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}

export function sharedWords(values: ArrayLike<number>): Uint32Array {
  const shared = new Uint32Array(new SharedArrayBuffer(values.length * 4))
  shared.set(values)
  return shared
}
