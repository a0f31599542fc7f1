/**
 * Standard error, as a log needs it: nobody waits for a reader that stands still, and a disk that is full ends nothing. What
 * cannot be written is counted, and told when lines can be written again.
 */
import { fstatSync, writeSync } from 'node:fs'
import { Writable } from 'node:stream'
import { openTerminal } from './log-terminal.ts'

const STANDARD_ERROR = 2
/** Major number of /dev/null and its kin (admin-guide/devices.txt): to ask node:tty of them would load node:net. */
const MEMORY_DEVICES = 1
/** Kept for a reader that is slow; what is over is lost. */
const MAX_QUEUED_BYTES = 1024 * 1024
/** A process that ends gives so long to its last lines. */
const FLUSH_LIMIT_MS = 300

export class LogSink {
  readonly #onLost: (lines: number) => void
  /** What takes lines without being waited for: Node's own stream for a pipe or a socket, ours for a terminal. */
  readonly #queued: Writable | undefined
  #lost = 0
  /** The last line has come to the disk in part. */
  #torn = false

  /** @param onLost is told how many lines were lost, once it is over */
  constructor(onLost: (lines: number) => void) {
    this.#onLost = onLost
    const stat = fstatSync(STANDARD_ERROR)
    if (stat.isFIFO() || stat.isSocket()) this.#queued = process.stderr
    else if (stat.isCharacterDevice() && (stat.rdev >> 8) % 4096 !== MEMORY_DEVICES)
      this.#queued = openTerminal(STANDARD_ERROR)
    // A reader of the log that went away is no reason to end.
    this.#queued?.on('error', () => {}).on('drain', () => this.#tellLost())
  }

  /** Lines of text, each with its end. */
  write(text: string): void {
    if (this.#queued === undefined) return this.#writeNow(text)
    const isFull = this.#queued.writableLength > (this.#lost > 0 ? MAX_QUEUED_BYTES / 2 : MAX_QUEUED_BYTES)
    if (isFull) {
      this.#lost += countLines(text)
      return
    }
    this.#queued.write(text)
    this.#tellLost()
  }

  #writeNow(text: string): void {
    const bytes = Buffer.from(this.#torn ? `\n${text}` : text)
    let done = 0
    try {
      while (done < bytes.length) done += writeSync(STANDARD_ERROR, bytes, done)
    } catch {
      this.#lost += countLines(bytes.toString('utf8', Math.max(done, this.#torn ? 1 : 0)))
      if (done > 0) this.#torn = bytes[done - 1] !== 10
      return
    }
    this.#torn = false
    this.#tellLost()
  }

  #tellLost(): void {
    const lost = this.#lost
    this.#lost = 0
    if (lost > 0) this.#onLost(lost)
  }

  /** For winston, which wants a stream. */
  stream(): Writable {
    return new Writable({
      decodeStrings: false,
      write: (text: string, _, done) => {
        this.write(text)
        done()
      },
    })
  }

  /** Resolves when all has been written, or was given its time. */
  async flush(): Promise<void> {
    const queued = this.#queued
    if (queued === undefined || queued.writableLength === 0) return
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, FLUSH_LIMIT_MS)
      // not 'drain', which comes only where the queue was over the stream's high-water mark
      queued.write('', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}

function countLines(text: string): number {
  let count = 0
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count++
  return count
}
