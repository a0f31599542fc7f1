/** The server name in a TLS ClientHello (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3). */
import { canonicalDomain } from './domain-name.ts'

/** The content type of a record that the handshake begins with. */
export const HANDSHAKE = 22
const CLIENT_HELLO = 1
const RECORD_HEADER_BYTES = 5
const MESSAGE_HEADER_BYTES = 4
const MAX_RECORD_BYTES = 16_384
const FIRST_BYTES = 1_024
const SERVER_NAME = 0
const HOST_NAME = 0

/** Takes the ClientHello's body out of the records of a stream, which may be cut anywhere, as the message may be in records. */
export class HelloReader {
  readonly #maxBytes: number
  readonly #header = new Uint8Array(RECORD_HEADER_BYTES)
  #headerLength = 0
  /** Bytes of the record's content that have not come. */
  #contentLeft = 0
  #message = new Uint8Array(FIRST_BYTES)
  #messageLength = 0

  /** A hello whose message has more than `maxBytes` is none. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** What came behind the bytes of the calls before: the body, 'more', or 'none' as soon as it cannot become one. */
  push(bytes: Uint8Array): Uint8Array | 'more' | 'none' {
    for (let at = 0; at < bytes.length; ) {
      if (this.#contentLeft === 0) {
        this.#header[this.#headerLength++] = bytes[at++]!
        if (!this.#checkHeader()) return 'none'
        continue
      }
      const content = bytes.subarray(at, at + this.#contentLeft)
      at += content.length
      this.#contentLeft -= content.length
      this.#keep(content)
      const state = this.#state()
      if (state !== 'more') return state
    }
    return 'more'
  }

  /** Of legacy_record_version the first byte is the same in all versions; the second is to be ignored (section 5.1). */
  #checkHeader(): boolean {
    const [type, major] = this.#header
    if (type !== HANDSHAKE || (this.#headerLength > 1 && major !== 3)) return false
    if (this.#headerLength < RECORD_HEADER_BYTES) return true
    this.#headerLength = 0
    this.#contentLeft = uint16(this.#header, 3)
    return this.#contentLeft > 0 && this.#contentLeft <= MAX_RECORD_BYTES
  }

  #keep(content: Uint8Array): void {
    const length = this.#messageLength + content.length
    if (length > this.#message.length) {
      const larger = new Uint8Array(Math.max(this.#message.length * 2, length))
      larger.set(this.#message.subarray(0, this.#messageLength))
      this.#message = larger
    }
    this.#message.set(content, this.#messageLength)
    this.#messageLength = length
  }

  #state(): Uint8Array | 'more' | 'none' {
    const message = this.#message
    if (message[0] !== CLIENT_HELLO) return 'none'
    if (this.#messageLength < MESSAGE_HEADER_BYTES) return 'more'
    const end = MESSAGE_HEADER_BYTES + ((message[1]! << 16) | uint16(message, 2))
    if (end > this.#maxBytes) return 'none'
    return this.#messageLength < end ? 'more' : message.subarray(MESSAGE_HEADER_BYTES, end)
  }
}

/**
 * The name that the client asks for; undefined when it asks for none, or the message is malformed. With Encrypted Client Hello
 * it is the outer name, that of the server that forwards.
 */
export function serverName(hello: Uint8Array): string | undefined {
  // legacy_version, random
  let at = 34
  const skip = (lengthBytes: 1 | 2) => {
    if (at + lengthBytes > hello.length) return false
    at += lengthBytes + (lengthBytes === 1 ? hello[at]! : uint16(hello, at))
    return at <= hello.length
  }
  // legacy_session_id, cipher_suites, legacy_compression_methods
  if (!skip(1) || !skip(2) || !skip(1) || at + 2 > hello.length) return undefined
  if (at + 2 + uint16(hello, at) !== hello.length) return undefined
  let found: Uint8Array | undefined
  for (at += 2; at < hello.length; ) {
    if (at + 4 > hello.length) return undefined
    const type = uint16(hello, at)
    const end = at + 4 + uint16(hello, at + 2)
    if (end > hello.length || (type === SERVER_NAME && found !== undefined)) return undefined
    if (type === SERVER_NAME) found = hello.subarray(at + 4, end)
    at = end
  }
  return found === undefined ? undefined : hostName(found)
}

/** ServerNameList; a type of name that is not known has a length like a host name's, and may stand before it. */
function hostName(list: Uint8Array): string | undefined {
  if (list.length < 2 || 2 + uint16(list, 0) !== list.length) return undefined
  let found: string | undefined
  for (let at = 2; at < list.length; ) {
    if (at + 3 > list.length) return undefined
    const end = at + 3 + uint16(list, at + 1)
    if (end > list.length) return undefined
    if (list[at] === HOST_NAME) {
      if (found !== undefined) return undefined
      found = Buffer.from(list.subarray(at + 3, end)).toString('latin1')
    }
    at = end
  }
  return found === undefined || /[^\0-\x7f]/.test(found) ? undefined : canonicalDomain(found)
}

function uint16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}
