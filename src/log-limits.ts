/** How often people are told the same. `now`: milliseconds of one clock that never goes back. */

const MINUTE_MS = 60_000

/** The same complaint once a minute. */
export class Complaints {
  readonly #toldAt = new Map<string, number>()

  /**
   * Whether it is to be told now; then it counts as told.
   * @param message one of a few texts: what differs is in the fields of its line
   */
  isDue(message: string, now: number): boolean {
    if (now - (this.#toldAt.get(message) ?? Number.NEGATIVE_INFINITY) < MINUTE_MS) return false
    this.#toldAt.set(message, now)
    return true
  }
}

/** Changes to and fro: some a minute; then, told once, none for a minute. */
export class Changes {
  readonly #aMinute: number
  /** When changes were told, within the last minute. */
  #toldAt: number[] = []
  #silentUntil = Number.NEGATIVE_INFINITY

  constructor(aMinute: number) {
    this.#aMinute = aMinute
  }

  /** 'last': tell in its place that the next ones are not told. */
  next(now: number): 'tell' | 'last' | 'silence' {
    if (now < this.#silentUntil) return 'silence'
    this.#toldAt = this.#toldAt.filter(at => now - at < MINUTE_MS)
    if (this.#toldAt.length < this.#aMinute) {
      this.#toldAt.push(now)
      return 'tell'
    }
    this.#toldAt = []
    this.#silentUntil = now + MINUTE_MS
    return 'last'
  }
}
