/**
 * One epoll for all descriptors of a data plane, one callback a wake-up. A watcher must rely on what the system calls
 * say, not on the event bits alone: an event may be older than what the watcher did in the same turn. It never is an
 * event of another's descriptor.
 */
import { SystemError } from '../errors.ts'
import { addon, type Io } from './addon.ts'

export interface Watcher {
  /** `events`: bits of addon.ts (READABLE, WRITABLE, …). */
  onReady(events: number): void
}

/** What is done before and after each batch of events, and each work of `turn`. */
export interface Turns {
  /** Must not throw. */
  beginTurn(): void
  endTurn(): void
}

/** Events taken with one wake-up. */
const BATCH = 256

export class Poller {
  readonly io: Io
  readonly #watchers: (Watcher | undefined)[] = []
  readonly #free: number[] = []
  /** Tokens given back in this batch: its later events must not meet a new owner. */
  #freed: number[] = []
  readonly #ready = new Int32Array(2 * BATCH)
  #turns: Turns = { beginTurn: () => undefined, endTurn: () => undefined }
  /** Descriptors that may be watched. */
  readonly capacity: number
  /** Those that are. Read only. */
  used = 0
  readonly #onFailure: (error: unknown) => void
  #closed = false

  /**
   * @param memory what all offsets given to `io` point into
   * @param onFailure an exception of a watcher, of work or of endTurn; the rest of the batch is still delivered
   * @param capacity above it sockets are refused as the kernel would at its limit
   */
  constructor(memory: ArrayBuffer, onFailure: (error: unknown) => void, capacity = Number.POSITIVE_INFINITY) {
    this.capacity = capacity
    this.#onFailure = onFailure
    this.io = new addon.Io(memory, this.#ready, count => this.#deliver(count))
  }

  #deliver(count: number): void {
    this.#turns.beginTurn()
    const ready = this.#ready
    for (let at = 0; at < count; at++) {
      const watcher = this.#watchers[ready[2 * at]!]
      if (watcher === undefined) continue
      try {
        watcher.onReady(ready[2 * at + 1]!)
      } catch (error) {
        this.#onFailure(error)
      }
    }
    if (this.#freed.length > 0) {
      this.#free.push(...this.#freed)
      this.#freed = []
    }
    try {
      this.#turns.endTurn()
    } catch (error) {
      this.#onFailure(error)
    }
  }

  /** Does the work as if it were an event: for timers, promises and whatever else comes from the event loop itself. */
  turn(work: () => void): void {
    if (this.#closed) return
    this.#turns.beginTurn()
    this.#try(work)
    this.#try(() => this.#turns.endTurn())
  }

  #try(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#onFailure(error)
    }
  }

  /** In a turn of its own, behind this one; never when the poller is closed by then. */
  later(work: () => void): void {
    setImmediate(() => this.turn(work))
  }

  /** Before the first none is done: who gives them is made with the poller in hand. */
  attend(turns: Turns): void {
    this.#turns = turns
  }

  /** Returns the token. `edge`: each change once (sockets); otherwise as long as the state lasts. */
  add(fd: number, watcher: Watcher, edge: boolean): number {
    const token = this.#free.pop() ?? this.#watchers.length
    this.#watchers[token] = watcher
    const result = this.io.watch(fd, token, edge)
    if (result < 0) {
      this.#forget(token)
      const name = addon.errnoName(result)
      throw new SystemError(name, `epoll_ctl: ${name}`, 'epoll_ctl', -result)
    }
    this.used++
    return token
  }

  replace(token: number, watcher: Watcher): void {
    this.#watchers[token] = watcher
  }

  /** The descriptor is about to be closed, which takes it out of the epoll. */
  remove(token: number): void {
    if (this.#watchers[token] === undefined) return
    this.used--
    this.#forget(token)
  }

  #forget(token: number): void {
    this.#watchers[token] = undefined
    this.#freed.push(token)
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true
    this.#watchers.length = 0
    this.io.close()
  }
}
