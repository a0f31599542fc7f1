/** Looks for a name in the first bytes of a client that was answered before its dial. They stay in the stack for the upstream. */
import type { Poller } from '../io/poller.ts'
import { Sniffer } from '../rules/sniff.ts'
import type { Stack } from '../stack/stack.ts'

/** Who has not named a domain by then is taken to name none: perhaps it waits for its server to speak first. */
const LOOK_MS = 300

export interface LookHost {
  readonly stack: Stack
  readonly poller: Pick<Poller, 'turn'>
}

export class FirstLook {
  readonly #stack: Stack
  readonly #id: number
  readonly #sniffer = new Sniffer()
  readonly #timer: NodeJS.Timeout
  /** Bytes that were looked at. */
  #seen = 0

  /**
   * @param id the stack's number of the flow, whose client has just acknowledged its SYN-ACK
   * @param onTimeout its time is over, and nothing was found; in a turn of its own
   */
  constructor({ stack, poller }: LookHost, id: number, onTimeout: () => void) {
    this.#stack = stack
    this.#id = id
    this.#timer = setTimeout(() => poller.turn(onTimeout), LOOK_MS)
  }

  /** The client has sent bytes. The domain; '' when there is none; undefined: not said yet. */
  look(): string | undefined {
    const { abi, words, bytes, exports } = this.#stack
    const pieces = exports.tg_tcp_peek(this.#id)
    let end = 0
    for (let piece = 0; piece < pieces; piece++) {
      const row = abi.iovecs / 4 + 2 * piece
      const begin = end
      end += words[row + 1]!
      if (end <= this.#seen) continue
      const from = words[row]! + this.#seen - begin
      this.#seen = end
      const found = this.#sniffer.push(bytes.subarray(from, words[row]! + words[row + 1]!))
      if (found !== 'more') return found === 'none' ? '' : found.domain
    }
    return undefined
  }

  /** Idempotent. */
  end(): void {
    clearTimeout(this.#timer)
  }
}
