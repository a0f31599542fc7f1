/** One thread at a time, for work of microseconds on shared memory. */

const FREE = 0
const TAKEN = 1
/**
 * Waits of a millisecond. Who holds it for so long was ended in the middle of its work, and the gateway with it. Counted, for the clock
 * goes on while the whole process is stopped, and its holder with it.
 */
const STEAL_WAITS = 1_000

export class Lock {
  readonly #cell: Int32Array
  readonly #isShared: boolean

  /** `cell`: one number, 0 at first. */
  constructor(cell: Int32Array) {
    this.#cell = cell
    this.#isShared = cell.buffer instanceof SharedArrayBuffer
  }

  take(): void {
    if (!this.#isShared) return
    for (let waits = 0; Atomics.compareExchange(this.#cell, 0, FREE, TAKEN) !== FREE; )
      if (Atomics.wait(this.#cell, 0, TAKEN, 1) === 'timed-out' && ++waits === STEAL_WAITS) return
  }

  release(): void {
    if (!this.#isShared) return
    Atomics.store(this.#cell, 0, FREE)
    Atomics.notify(this.#cell, 0, 1)
  }
}
