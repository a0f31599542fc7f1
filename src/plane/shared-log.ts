/** The lines of several workers as one log: what one has said the others need not repeat. */
import type { GatewayLog } from './plane.ts'
import type { LogLine } from './plane-messages.ts'

/** As the data plane's own: the same complaint at most so often. */
const COMPLAINT_MS = 60_000

export class SharedLog {
  readonly #log: GatewayLog
  /** By their messages, which are a few texts: what differs is in the fields. */
  readonly #complaints = new Map<string, { readonly worker: number; readonly at: number }>()

  constructor(log: GatewayLog) {
    this.#log = log
  }

  say(worker: number, line: LogLine, now = performance.now()): void {
    if (this.#isRepeated(worker, line, now)) return
    this.#log[line.level](line.message, line.fields)
  }

  /** A worker never repeats itself without a reason of its own, so only others are looked at. */
  #isRepeated(worker: number, { from, level, message }: LogLine, now: number): boolean {
    if (from === 'upstream' || level !== 'warn') return false
    const last = this.#complaints.get(message)
    if (last !== undefined && last.worker !== worker && now - last.at < COMPLAINT_MS) return true
    this.#complaints.set(message, { worker, at: now })
    return false
  }
}
