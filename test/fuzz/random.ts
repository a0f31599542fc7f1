/** Numbers that are the same for the same seed (xorshift32), and what tests draw from them. */
export class Random {
  #state: number

  /** @param seed any integer */
  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) >>> 0 || 1
  }

  /** 0 to 2^32 - 1 */
  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state
  }

  /** 0 to `end` - 1 */
  below(end: number): number {
    return this.next() % end
  }

  /** true once in `times` */
  once(times: number): boolean {
    return this.next() % times === 0
  }

  pick<T>(from: readonly T[]): T {
    return from[this.next() % from.length]!
  }

  bytes(length: number): Buffer {
    const made = Buffer.alloc(length)
    for (let at = 0; at < length; at++) made[at] = this.next()
    return made
  }
}
