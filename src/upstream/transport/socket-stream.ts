/** A socket as a Duplex, for node:tls. It never ends nor breaks by itself: whoever made it is told, and decides. */
import { Duplex } from 'node:stream'
import { addon } from '../../io/addon.ts'
import type { Watcher } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'

const EAGAIN = -11
/** Bytes of one read, and of what is read ahead of who uses the stream. */
const READ_BYTES = 65_536
/** Reads in a row; then others have their turn. */
const READS_A_TURN = 4

/** Where each read lands, of whatever socket: it is copied out at once. */
let landing: Uint8Array | undefined

/**
 * One read. A copy of what has come, 0 at end of stream, or a negative errno.
 */
export function readChunk(socket: Socket): Buffer | number {
  landing ??= new Uint8Array(READ_BYTES)
  const got = addon.readBytes(socket.fd, landing)
  return got > 0 ? Buffer.from(landing.subarray(0, got)) : got
}

export interface StreamOwner {
  /** Nothing more will come, once: '' for an end of stream, or the name of the errno. What came before may still be in the stream. */
  onInputEnd(errno: string): void
  /** Bytes could not be sent: they and all that follow are dropped. */
  onOutputBroken(errno: string): void
  /** The user of the stream has ended it, and FIN has followed the last byte. */
  onFinished(): void
}

export class SocketStream implements Watcher {
  readonly duplex: Duplex
  readonly #socket: Socket
  readonly #owner: StreamOwner
  /** The user wants more. */
  #wanted = false
  #reading = false
  #queued = false
  #inputEnded = false
  #outputBroken = false
  /** What the socket did not take, and who waits for it. */
  #rest: Uint8Array | undefined
  #onTaken: (() => void) | undefined

  /** The socket must be watched by this from now on. */
  constructor(socket: Socket, owner: StreamOwner) {
    this.#socket = socket
    this.#owner = owner
    this.duplex = new Duplex({
      readableHighWaterMark: READ_BYTES,
      read: () => {
        this.#wanted = true
        this.#read()
      },
      write: (chunk: Uint8Array, _, taken) => this.#write(chunk, taken),
      writev: (chunks, taken) => this.#write(Buffer.concat(chunks.map(({ chunk }) => chunk as Uint8Array)), taken),
      final: done => this.#finish(done),
    })
  }

  onReady(): void {
    if (this.#onTaken !== undefined) this.#push()
    this.#read()
  }

  #read(): void {
    if (this.#reading || this.#queued) return
    this.#reading = true
    for (let reads = 0; this.#wanted && !this.#inputEnded && this.#socket.open; reads++) {
      if (reads === READS_A_TURN) {
        this.#queued = true
        setImmediate(() => {
          this.#queued = false
          this.#read()
        })
        break
      }
      const chunk = readChunk(this.#socket)
      if (typeof chunk !== 'number') this.#wanted = this.duplex.push(chunk)
      else if (chunk === EAGAIN) break
      else {
        this.#inputEnded = true
        this.#owner.onInputEnd(chunk === 0 ? '' : addon.errnoName(chunk))
      }
    }
    this.#reading = false
  }

  #write(chunk: Uint8Array, taken: () => void): void {
    this.#rest = chunk
    this.#onTaken = taken
    this.#push()
  }

  #push(): void {
    while (this.#rest !== undefined && this.#rest.length > 0 && !this.#outputBroken && this.#socket.open) {
      const sent = addon.writeBytes(this.#socket.fd, this.#rest)
      if (sent === EAGAIN) return
      if (sent < 0) {
        this.#outputBroken = true
        this.#owner.onOutputBroken(addon.errnoName(sent))
      } else this.#rest = this.#rest.subarray(sent)
    }
    const taken = this.#onTaken
    this.#rest = undefined
    this.#onTaken = undefined
    taken?.()
  }

  #finish(done: () => void): void {
    if (this.#socket.open && !this.#outputBroken) this.#socket.end()
    done()
    this.#owner.onFinished()
  }
}
