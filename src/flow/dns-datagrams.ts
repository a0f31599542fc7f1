/** DNS in datagrams, as clients send them: answered from the stack's memory into the stack's memory. */
import { EDNS_BYTES } from '../dns/answer.ts'
import { DNS_PORT } from '../dns/port.ts'
import { MAX_MESSAGE_BYTES } from '../dns/wire.ts'
import { type DnsService, NO_ANSWER, PENDING } from '../resolver/dns-service.ts'
import type { AnswerListener } from '../resolver/pending-question.ts'
import type { Resolvers } from '../resolver/resolvers.ts'
import type { Stack } from '../stack/stack.ts'
import { copyPayload, rowOf } from './datagram-queue.ts'
import type { DatagramClient, DatagramService } from './datagram-service.ts'

/** A place where an answer lies until its packet is written. */
interface Place {
  readonly at: number
  readonly out: Buffer
}

export interface DnsDatagramsHost {
  readonly stack: Stack
  flush(): void
}

export class DnsDatagrams implements DatagramService {
  readonly #host: DnsDatagramsHost
  readonly #dns: DnsService
  readonly #resolvers: Pick<Resolvers, 'at'>
  /** In the last landing slot, into which the ways of the resolver read nothing. */
  readonly #places: readonly Place[]
  #next = 0
  readonly #asked = Buffer.alloc(MAX_MESSAGE_BYTES)

  constructor(host: DnsDatagramsHost, dns: DnsService, resolvers: Pick<Resolvers, 'at'>) {
    this.#host = host
    this.#dns = dns
    this.#resolvers = resolvers
    const { abi, words, memory } = host.stack
    const slot = words[abi.landingTable / 4 + 2 * (abi.landingSlots - 1)]!
    this.#places = Array.from({ length: Math.floor(abi.landingBytes / EDNS_BYTES) }, (_, index) => {
      const at = slot + index * EDNS_BYTES
      return { at, out: Buffer.from(memory, at, EDNS_BYTES) }
    })
  }

  takes(_destAt: number, _family: number, port: number): boolean {
    return port === DNS_PORT
  }

  receive(client: DatagramClient, row: number): void {
    const { stack } = this.#host
    const { dest, family, port, length } = rowOf(stack, row)
    copyPayload(stack, row, length, this.#asked)
    const resolver = this.#resolvers.at(stack.bytes.subarray(dest, dest + (family === 6 ? 16 : 4)), port)
    const place = this.#places[this.#next]!
    const bytes = this.#dns.answer(place.out, this.#asked, length, false, resolver)
    if (bytes === NO_ANSWER) return
    if (bytes === PENDING) return this.#dns.ask(this.#later(client, stack.bytes.slice(dest, dest + 16), port))
    client.answer(dest, port, place.at, bytes)
    this.#used()
  }

  /** The places of answers that are on their way are not written over. */
  #used(): void {
    this.#next++
    if (this.#next < this.#places.length) return
    this.#host.flush()
    this.#next = 0
  }

  /** In another turn other datagrams may land where it is written, so it leaves at once. */
  #later(client: DatagramClient, source: Uint8Array, port: number): AnswerListener {
    return {
      onAnswer: (answer, length) => {
        const { abi, bytes } = this.#host.stack
        const { at } = this.#places[this.#next]!
        bytes.set(answer.subarray(0, length), at)
        bytes.set(source, abi.scratch)
        client.answer(abi.scratch, port, at, length)
        this.#host.flush()
        this.#next = 0
      },
    }
  }
}
