/**
 * A terminal, written to without waiting for it. Node's own stream waits: one that stands still (Ctrl-S, a hung ssh) would hold
 * the whole process. O_NONBLOCK belongs to an open file, and that of standard error to the shell too; so it is opened anew.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, writeSync } from 'node:fs'
import { Writable } from 'node:stream'

/** From one try to the next: a terminal that stands still costs no CPU, one that is slow no time. */
const LEAST_PAUSE_MS = 5
const MOST_PAUSE_MS = 160

/** undefined: `fd` is no terminal, or one that may not be opened anew: that of another user, and not ours by login. */
export function openTerminal(fd: number): Terminal | undefined {
  if (!process.getBuiltinModule('node:tty').isatty(fd)) return undefined
  const own = openAnew(`/proc/self/fd/${fd}`) ?? (isControlling(fd) ? openAnew('/dev/tty') : undefined)
  return own === undefined ? undefined : new Terminal(own)
}

function openAnew(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch {
    return undefined
  }
}

/** /dev/tty is the same terminal, and open to whomever it belongs: tty_nr of proc_pid_stat(5). */
function isControlling(fd: number): boolean {
  try {
    const stat = readFileSync('/proc/self/stat', 'latin1')
    const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')
    return Number(fields[4]) === fstatSync(fd).rdev
  } catch {
    return false
  }
}

export class Terminal extends Writable {
  readonly #fd: number
  #pauseMs = LEAST_PAUSE_MS

  /** @param fd non-blocking, closed with this stream */
  constructor(fd: number) {
    super()
    this.#fd = fd
  }

  override _write(bytes: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    let rest = bytes
    try {
      while (rest.length > 0) {
        rest = rest.subarray(writeSync(this.#fd, rest))
        this.#pauseMs = LEAST_PAUSE_MS
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return done(error as Error)
      setTimeout(() => this._write(rest, _, done), this.#pauseMs).unref()
      this.#pauseMs = Math.min(MOST_PAUSE_MS, 2 * this.#pauseMs)
      return
    }
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    closeSync(this.#fd)
    done(error)
  }
}
