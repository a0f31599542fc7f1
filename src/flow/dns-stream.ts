/** DNS over TCP (RFC 7766), as a client speaks it: messages behind their length, many at a time, answers as they come. */
import { DNS_PORT } from '../dns/port.ts'
import { MAX_MESSAGE_BYTES } from '../dns/wire.ts'
import type { IpEndpoint } from '../endpoint.ts'
import { type DnsService, NO_ANSWER, PENDING } from '../resolver/dns-service.ts'
import type { Resolvers } from '../resolver/resolvers.ts'
import type { Resolver } from '../resolver/rung.ts'
import type { ServedStream, StreamService } from './stream-service.ts'
import type { RelayHost } from './tcp-relay.ts'

/** Streams at a time; beyond them a client is reset. */
export const MAX_STREAMS = 1_024
/** Questions of one stream that are being asked; then its bytes wait in the stack, and its window closes. */
const MAX_ASKED = 64
/** The same for answers that the client does not take. */
const MAX_UNSENT_BYTES = 256 << 10
/** Without a question for so long a client is given FIN (RFC 7766 §6.2.3), and as long to close its own side. */
const IDLE_MS = 10_000
const CONNECT_MS = 10_000
const LENGTH_BYTES = 2

export class DnsStreams implements StreamService {
  readonly #dns: DnsService
  readonly #resolvers: Pick<Resolvers, 'at'>
  /** One message at a time is answered into it. */
  readonly #out = Buffer.alloc(MAX_MESSAGE_BYTES)
  #open = 0

  constructor(dns: DnsService, resolvers: Pick<Resolvers, 'at'>) {
    this.#dns = dns
    this.#resolvers = resolvers
  }

  takes({ port }: IpEndpoint): boolean {
    return port === DNS_PORT
  }

  open(host: RelayHost, id: number, { address, port }: IpEndpoint): ServedStream | undefined {
    if (this.#open >= MAX_STREAMS) return undefined
    this.#open++
    const resolver = this.#resolvers.at(address, port)
    return new DnsStream(host, id, this.#dns, resolver, this.#out, () => {
      this.#open--
    })
  }
}

class DnsStream implements ServedStream {
  bytesUp = 0
  bytesDown = 0
  readonly #host: RelayHost
  readonly #id: number
  readonly #dns: DnsService
  readonly #resolver: Resolver
  readonly #out: Buffer
  readonly #onClosed: () => void
  /** A message and its length, as much as has come. */
  #message: Buffer = Buffer.alloc(512)
  #filled = 0
  #unsent: Buffer[] = []
  #unsentBytes = 0
  #asked = 0
  #isOpen = false
  #clientFinished = false
  #finished = false
  #closed = false
  #activeAt: number

  constructor(host: RelayHost, id: number, dns: DnsService, resolver: Resolver, out: Buffer, onClosed: () => void) {
    this.#host = host
    this.#id = id
    this.#dns = dns
    this.#resolver = resolver
    this.#out = out
    this.#onClosed = onClosed
    this.#activeAt = host.now
  }

  get state(): ServedStream['state'] {
    if (!this.#isOpen) return 'opening'
    if (this.#finished && this.#clientFinished) return 'closing'
    return this.#finished || this.#clientFinished ? 'half-closed' : 'open'
  }

  onEvents(bits: number): void {
    const { abi } = this.#host.stack
    this.#activeAt = this.#host.now
    if (bits & abi.eventOpen) this.#isOpen = true
    if (bits & abi.eventFin) this.#clientFinished = true
    this.#work()
  }

  /** Whatever can be done now. */
  #work(): void {
    if (this.#closed) return
    this.#read()
    this.#write()
    const isDone = this.#clientFinished && this.#waitingBytes() === 0 && this.#asked === 0 && this.#unsentBytes === 0
    if (isDone) this.#finish()
  }

  #finish(): void {
    if (this.#finished) return
    this.#finished = true
    this.#host.stack.exports.tg_tcp_finish(this.#id)
  }

  // ---- client → service ----

  #waitingBytes(): number {
    const { abi, words } = this.#host.stack
    return words[(abi.flows + this.#id * abi.flowBytes + abi.flowRxBytes) / 4]!
  }

  #mayAsk(): boolean {
    return this.#asked < MAX_ASKED && this.#unsentBytes < MAX_UNSENT_BYTES && !this.#finished
  }

  #read(): void {
    const { abi, words, bytes, exports } = this.#host.stack
    if (this.#waitingBytes() === 0) return
    const pieces = exports.tg_tcp_peek(this.#id)
    let taken = 0
    for (let piece = 0; piece < pieces && this.#mayAsk(); piece++) {
      const at = words[abi.iovecs / 4 + 2 * piece]!
      const end = at + words[abi.iovecs / 4 + 2 * piece + 1]!
      let next = at
      while (next < end && this.#mayAsk()) next += this.#take(bytes, next, end)
      taken += next - at
    }
    this.bytesUp += taken
    // also where nothing was taken: the slots of the device are free then
    exports.tg_tcp_consume(this.#id, taken)
  }

  /** Bytes of the message that is coming; answers it when it is whole. How many were taken. */
  #take(bytes: Uint8Array, at: number, end: number): number {
    const needed = this.#neededBytes()
    const part = Math.min(end - at, needed - this.#filled)
    if (needed > this.#message.length) {
      const larger = Buffer.alloc(LENGTH_BYTES + MAX_MESSAGE_BYTES)
      this.#message.copy(larger, 0, 0, this.#filled)
      this.#message = larger
    }
    this.#message.set(bytes.subarray(at, at + part), this.#filled)
    this.#filled += part
    if (this.#filled >= LENGTH_BYTES && this.#filled === this.#neededBytes()) {
      this.#answer(this.#message.subarray(LENGTH_BYTES, this.#filled))
      this.#filled = 0
    }
    return part
  }

  #neededBytes(): number {
    return this.#filled < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + this.#message.readUInt16BE(0)
  }

  #answer(message: Buffer): void {
    const length = this.#dns.answer(this.#out, message, message.length, true, this.#resolver)
    if (length !== PENDING) return length === NO_ANSWER ? undefined : this.#queue(this.#out, length)
    this.#asked++
    let isSync = true
    this.#dns.ask({
      onAnswer: (bytes, count) => {
        this.#asked--
        if (this.#closed) return
        this.#queue(bytes, count)
        if (!isSync) this.#work()
      },
    })
    isSync = false
  }

  // ---- service → client ----

  #queue(bytes: Buffer, length: number): void {
    const frame = Buffer.allocUnsafe(LENGTH_BYTES + length)
    frame.writeUInt16BE(length, 0)
    bytes.copy(frame, LENGTH_BYTES, 0, length)
    this.#unsent.push(frame)
    this.#unsentBytes += frame.length
  }

  /** As much as the client has room for; a room event follows for the rest. */
  #write(): void {
    const { abi, words, bytes, exports } = this.#host.stack
    while (this.#isOpen && this.#unsentBytes > 0) {
      const pieces = exports.tg_tcp_reserve(this.#id)
      if (pieces === 0) return
      let filled = 0
      for (let piece = 0; piece < pieces && this.#unsentBytes > 0; piece++) {
        const at = words[abi.iovecs / 4 + 2 * piece]!
        filled += this.#fill(bytes, at, words[abi.iovecs / 4 + 2 * piece + 1]!)
      }
      exports.tg_tcp_commit(this.#id, filled)
      this.bytesDown += filled
    }
  }

  #fill(bytes: Uint8Array, at: number, room: number): number {
    let filled = 0
    while (filled < room && this.#unsent.length > 0) {
      const first = this.#unsent[0]!
      const part = first.subarray(0, room - filled)
      bytes.set(part, at + filled)
      filled += part.length
      if (part.length === first.length) this.#unsent.shift()
      else this.#unsent[0] = first.subarray(part.length)
    }
    this.#unsentBytes -= filled
    return filled
  }

  // ---- the end ----

  overdue(now: number): string | undefined {
    const idle = now - this.#activeAt
    if (!this.#isOpen) return idle >= CONNECT_MS ? 'the client did not answer' : undefined
    if (this.#asked > 0 || idle < IDLE_MS) return undefined
    if (this.#finished || this.#unsentBytes > 0) return 'idle for too long'
    this.#finish()
    this.#activeAt = now
    return undefined
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#unsent = []
    this.#unsentBytes = 0
    this.#onClosed()
  }
}
