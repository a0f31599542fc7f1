/** One word when what is in use comes near its limit, and none again before it has fallen well below. */
const NEAR = 0.8
const WELL_BELOW = 0.6

export class LimitWatch {
  readonly #near = new Set<string>()

  /** true when it is time for a word about `name`. */
  isNews(name: string, used: number, limit: number): boolean {
    if (used < limit * WELL_BELOW) this.#near.delete(name)
    if (used < limit * NEAR || this.#near.has(name)) return false
    this.#near.add(name)
    return true
  }
}
