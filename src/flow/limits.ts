/** Bounds on dials in flight: for all, and for each source address, so that a SYN flood is no dial flood. */
export class DialLimits {
  readonly #all: number
  readonly #perSource: number
  readonly #bySource = new Map<string, number>()
  #inFlight = 0

  constructor(all: number, perSource: number) {
    this.#all = all
    this.#perSource = perSource
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Counts one more dial of `source`; false, and nothing counted, at the bound. */
  take(source: Uint8Array): boolean {
    const key = keyOf(source)
    const ofSource = this.#bySource.get(key) ?? 0
    if (this.#inFlight >= this.#all || ofSource >= this.#perSource) return false
    this.#inFlight++
    this.#bySource.set(key, ofSource + 1)
    return true
  }

  release(source: Uint8Array): void {
    const key = keyOf(source)
    const ofSource = this.#bySource.get(key)!
    this.#inFlight--
    if (ofSource === 1) this.#bySource.delete(key)
    else this.#bySource.set(key, ofSource - 1)
  }
}

function keyOf(address: Uint8Array): string {
  return String.fromCharCode(...address)
}
