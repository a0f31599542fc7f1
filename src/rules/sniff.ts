/** The domain that a TCP client asks for, from the first bytes that it sends: TLS or HTTP/1. */
import { type Host, HostReader } from './http-host.ts'
import { HANDSHAKE, HelloReader, serverName } from './tls-hello.ts'

/** 'more': not said yet. 'none': there is no domain in it, and none will come. */
export type Sniffed = Host

/** Who has not named a domain within this many bytes is taken to name none. */
export const MAX_SNIFF_BYTES = 16_384

/**
 * One flow's look. It keeps what it needs of the bytes, at most MAX_SNIFF_BYTES, and looks at each byte once. A client that
 * waits for its server to speak first sends nothing: who asks must end the look after a time.
 */
export class Sniffer {
  #length = 0
  #reader: HelloReader | HostReader | undefined
  #result: Sniffed = 'more'

  /** What came behind the bytes of the calls before. Once the result is not 'more' it stays. */
  push(bytes: Uint8Array): Sniffed {
    if (this.#result !== 'more' || bytes.length === 0) return this.#result
    this.#reader ??= bytes[0] === HANDSHAKE ? new HelloReader(MAX_SNIFF_BYTES) : new HostReader()
    const taken = bytes.subarray(0, MAX_SNIFF_BYTES - this.#length)
    this.#length += taken.length
    const found = this.#reader.push(taken)
    this.#result = found instanceof Uint8Array ? domainOf(found) : found
    if (this.#result === 'more' && this.#length === MAX_SNIFF_BYTES) this.#result = 'none'
    if (this.#result !== 'more') this.#reader = undefined
    return this.#result
  }
}

function domainOf(hello: Uint8Array): Sniffed {
  const domain = serverName(hello)
  return domain === undefined ? 'none' : { domain }
}
