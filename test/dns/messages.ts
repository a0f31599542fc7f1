/** Messages as others make them: by dns-packet, and by hand where it cannot. */
import { type Answer, decode, encode, type Packet, type RecordType } from 'dns-packet'
import { emptyQuery, parseQuery, type Query, SOUND } from '../../src/dns/question.ts'
import { type Asked, acceptAnswer, type UpstreamAnswer } from '../../src/dns/upstream-answer.ts'
import { MAX_MESSAGE_BYTES } from '../../src/dns/wire.ts'

export interface QueryChoices {
  readonly type?: RecordType
  readonly id?: number
  /** RD alone where nothing is said. */
  readonly flags?: number
  /** No OPT where it is not said. */
  readonly udpBytes?: number
  readonly dnssecOk?: boolean
  readonly version?: number
}

export const RECURSION_DESIRED = 0x0100

/** `type` may also be a number, for types that dns-packet does not know. */
export function makeQuery(name: string, choices: QueryChoices & { typeNumber?: number } = {}): Buffer {
  const { type = 'A', id = 0x1234, flags = RECURSION_DESIRED, udpBytes, dnssecOk = false, version = 0 } = choices
  const message = encode({
    type: 'query',
    id,
    flags,
    questions: [{ name, type, class: 'IN' }],
    additionals: udpBytes === undefined ? [] : [opt(udpBytes, dnssecOk, version)],
  })
  if (choices.typeNumber !== undefined) message.writeUInt16BE(choices.typeNumber, 12 + name.length + 2)
  return message
}

export function opt(udpPayloadSize: number, dnssecOk = false, ednsVersion = 0): Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion,
    flags: dnssecOk ? 0x8000 : 0,
    flag_do: dnssecOk,
    options: [],
  }
}

/** A query that is sound, and what is read from it. */
export function parsed(message: Uint8Array): Query {
  const query = emptyQuery()
  const verdict = parseQuery(message, message.length, query)
  if (verdict !== SOUND) throw new Error(`the query is not sound: ${verdict}`)
  return query
}

/** What the upstream says to `asked`. */
export function makeAnswer(asked: Uint8Array, packet: Packet & { rcode?: number }): Buffer {
  const question = decode(Buffer.from(asked)).questions
  const message = encode({ ...packet, type: 'response', id: (asked[0]! << 8) | asked[1]!, flags: 0x0180 })
  const count = message.readUInt16BE(4)
  if (count !== 0) throw new Error('the question is the query’s')
  const made = Buffer.concat([
    message.subarray(0, 12),
    encode({ questions: question ?? [] }).subarray(12),
    message.subarray(12),
  ])
  made.writeUInt16BE(1, 4)
  // As it came, whatever dns-packet made of it.
  made.set(asked.subarray(12, endOfQuestion(asked)), 12)
  made[3]! |= packet.rcode ?? 0
  return made
}

export function endOfQuestion(message: Uint8Array): number {
  let at = 12
  while (message[at] !== 0) at += 1 + message[at]!
  return at + 5
}

export const room = () => Buffer.alloc(MAX_MESSAGE_BYTES)

/** What an answer says of itself beside its records; dns-packet knows these, its types do not. */
export interface Decoded extends Packet {
  readonly rcode: string
  readonly flag_aa: boolean
  readonly flag_tc: boolean
  readonly flag_rd: boolean
  readonly flag_ra: boolean
  readonly flag_ad: boolean
  readonly flag_cd: boolean
}

/** Decodes `length` bytes of `out`, and proves that they are all of the message. */
export function decoded(out: Buffer, length: number): Decoded {
  const message = decode(out.subarray(0, length))
  if (decode.bytes !== length) throw new Error(`${length} bytes, of which ${decode.bytes} are the message`)
  return message as unknown as Decoded
}

/** Accepts what makeAnswer made, as it comes from an upstream. */
export function accepted(asked: Uint8Array, query: Query, bytes: Buffer): number {
  const out: UpstreamAnswer = { bytes: 0, rcode: 0 }
  const about: Asked = { bytes: asked, query, exactCase: true, hasEdns: query.hasEdns, isStream: false }
  const verdict = acceptAnswer(bytes, bytes.length, about, out)
  if (verdict !== 'accepted') throw new Error(`the answer is ${verdict}`)
  return out.bytes
}

/** `3 www 7 example 0`, from text with spaces for bytes and words, and of hexadecimal bytes behind a `#`. */
export function bytesOf(text: string): Buffer {
  const parts = text
    .trim()
    .split(/\s+/)
    .map(part => {
      if (part.startsWith('#')) return Buffer.from(part.slice(1), 'hex')
      return /^\d+$/.test(part) ? Buffer.of(Number(part)) : Buffer.from(part, 'latin1')
    })
  return Buffer.concat(parts)
}
