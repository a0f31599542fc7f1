/** How many stacks may stop before the gateway gives up. */
import { GatewayError } from '../errors.ts'

const WINDOW_MS = 60_000
/** As many within the window, and something is wrong that a new stack does not mend. */
const MAX_TRAPS = 3

export class TrapLimit {
  readonly #at: number[] = []

  /** Counts one more; at the bound the error that ends the gateway. `now`: milliseconds, monotonic. */
  add(trap: GatewayError, now = performance.now()): GatewayError | undefined {
    while (this.#at.length > 0 && now - this.#at[0]! >= WINDOW_MS) this.#at.shift()
    this.#at.push(now)
    if (this.#at.length < MAX_TRAPS) return undefined
    const message = `lwIP stopped ${MAX_TRAPS} times within ${WINDOW_MS / 1000} s, the last time so: ${trap.message}`
    return new GatewayError('STACK_TRAP', message, { cause: trap })
  }
}
