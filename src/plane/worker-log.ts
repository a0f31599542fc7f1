/** The lines of a worker on their way to the main thread, which may have no time for them: bounded, and counted when lost. */
import type { GatewayLog } from './plane.ts'
import type { LogLevel, LogLine } from './plane-messages.ts'

/** Lines that the main thread has not taken yet. */
const MAX_PENDING_LINES = 1_000
const LOST = 'lines of the log of a worker were lost: the main thread had no time for them'

/** How many lines of a worker are on their way: the worker adds, the main thread takes. */
export const pendingCell = (): Int32Array => new Int32Array(new SharedArrayBuffer(4))

/** Main thread: a line has come. */
export function taken(pending: Int32Array): void {
  Atomics.sub(pending, 0, 1)
}

export class WorkerLog {
  readonly #pending: Int32Array
  readonly #tell: (line: LogLine) => void
  #lost = 0

  constructor(pending: Int32Array, tell: (line: LogLine) => void) {
    this.#pending = pending
    this.#tell = tell
  }

  lines(from: LogLine['from'], debugEnabled: boolean): GatewayLog {
    const say = (level: LogLevel) => (message: string, fields?: Record<string, unknown>) =>
      this.#say({ from, level, message, fields })
    return { debugEnabled, error: say('error'), warn: say('warn'), info: say('info'), debug: say('debug') }
  }

  #say(line: LogLine): void {
    const limit = this.#lost > 0 ? MAX_PENDING_LINES / 2 : MAX_PENDING_LINES
    if (Atomics.load(this.#pending, 0) >= limit) {
      this.#lost++
      return
    }
    const lines = this.#lost
    this.#lost = 0
    if (lines > 0) this.#post({ from: 'upstream', level: 'warn', message: LOST, fields: { lines } })
    this.#post(line)
  }

  #post(line: LogLine): void {
    Atomics.add(this.#pending, 0, 1)
    this.#tell(line)
  }
}
