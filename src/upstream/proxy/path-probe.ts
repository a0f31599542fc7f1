/**
 * Asks whether the proxy can be reached again, while connections to it wait in vain: the kernel sends a lost SYN again after
 * 1, 3, 7 s, and who waits for that waits on when the way has long been free (RFC 6298 §5.5).
 */
import { ERROR, HANGUP, WRITABLE } from '../../io/addon.ts'
import type { Watcher } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'

/** With each tick one is begun, and one that is older than so many counts as lost. */
const PROBE_TICKS = 2

export class PathProbe implements Watcher {
  readonly #connect: (watcher: Watcher) => Socket | undefined
  readonly #onAnswer: () => void
  /** The oldest first. */
  readonly #sockets: Socket[] = []

  /**
   * @param connect starts a connection; undefined when none can be made
   * @param onAnswer the proxy's machine has answered, be it by a refusal
   */
  constructor(connect: (watcher: Watcher) => Socket | undefined, onAnswer: () => void) {
    this.#connect = connect
    this.#onAnswer = onAnswer
  }

  /** Called at regular times, every 250 ms. `isWanted`: somebody waits. */
  tick(isWanted: boolean): void {
    if (!isWanted) return this.close()
    if (this.#sockets.length === PROBE_TICKS) this.#sockets.shift()!.close(true)
    const socket = this.#connect(this)
    if (socket !== undefined) this.#sockets.push(socket)
  }

  onReady(events: number): void {
    if (this.#sockets.length === 0 || (events & (WRITABLE | ERROR | HANGUP)) === 0) return
    this.close()
    this.#onAnswer()
  }

  /** Idempotent. */
  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.close(true)
  }
}
