/** Whether what came from a resolver is the answer that is waited for (RFC 5452 §9.1), and what to do with it. */
import { type Query, sameQuestion } from './question.ts'
import {
  ADDITIONALS_AT,
  ANSWERS_AT,
  AUTHORITIES_AT,
  expandName,
  FLAGS_AT,
  Flag,
  HEADER_BYTES,
  MALFORMED,
  MAX_NAME_BYTES,
  QUESTIONS_AT,
  Rcode,
  readRecord,
  readU16,
  recordFields,
  Type,
  writeU16,
} from './wire.ts'

export const Verdict = {
  /** NOERROR or NXDOMAIN, whole. */
  accepted: 'accepted',
  /** Of somebody else, forged, or not to be read: it counts for nothing, the right one may still come. */
  foreign: 'foreign',
  /** Ask again over TCP (RFC 7766 §5). */
  truncated: 'truncated',
  /** The resolver does not know EDNS: ask again without (RFC 6891 §7). */
  withoutEdns: 'withoutEdns',
  /** The resolver says that it could not or would not: another one, or what is stale. */
  failed: 'failed',
} as const
export type Verdict = (typeof Verdict)[keyof typeof Verdict]

/** What was asked. Who receives has seen to it that an answer comes from where the query went. */
export interface Asked {
  /** As `writeUpstreamQuery` made it. */
  readonly bytes: Uint8Array
  /** Of the client: the question's extent and type. */
  readonly query: Query
  /** The case of the letters was chosen by chance, and must come back. */
  readonly exactCase: boolean
  readonly hasEdns: boolean
  /** Over a stream: nobody else can answer, and failures without a question are taken. */
  readonly isStream: boolean
}

export interface UpstreamAnswer {
  /** Of the answer, after OPT was taken away; not set where it is truncated. */
  bytes: number
  /** With the upper bits of OPT, where it is not truncated. */
  rcode: number
}

const record = recordFields()
const nameBytes = new Uint8Array(MAX_NAME_BYTES)

/**
 * Judges the message of `length` bytes. Unless it is `foreign`, `out` tells about it, and OPT, which is for us alone, is taken
 * out of `bytes`, with the additional records behind it: to close the gap would break the pointers in these, and nobody needs
 * them. Every record, and the name of each, lies within the message.
 */
export function acceptAnswer(bytes: Uint8Array, length: number, asked: Asked, out: UpstreamAnswer): Verdict {
  if (length < HEADER_BYTES || readU16(bytes, 0) !== readU16(asked.bytes, 0)) return Verdict.foreign
  const flags = readU16(bytes, FLAGS_AT)
  if ((flags & (Flag.answer | Flag.opcode)) !== Flag.answer) return Verdict.foreign
  out.rcode = flags & Flag.rcode
  if (readU16(bytes, QUESTIONS_AT) === 0) return judgeBare(bytes, length, asked, out)
  if (readU16(bytes, QUESTIONS_AT) !== 1 || length < asked.query.questionEnd) return Verdict.foreign
  if (!sameQuestion(bytes, asked.bytes, asked.query, asked.exactCase)) return Verdict.foreign
  // One that is cut off may end within a record.
  if ((flags & Flag.truncated) !== 0 && !asked.isStream) return Verdict.truncated
  if (!takeEdnsAway(bytes, length, asked.query.questionEnd, out)) return Verdict.foreign
  return judgeRcode(asked, out)
}

/** A header alone: what some resolvers say to what they do not understand. Over UDP it could be anybody's, by 16 bits. */
function judgeBare(bytes: Uint8Array, length: number, asked: Asked, out: UpstreamAnswer): Verdict {
  if (!asked.isStream || out.rcode === Rcode.noError || out.rcode === Rcode.noSuchName) return Verdict.foreign
  if (!takeEdnsAway(bytes, length, HEADER_BYTES, out)) return Verdict.foreign
  return judgeRcode(asked, out)
}

function judgeRcode(asked: Asked, out: UpstreamAnswer): Verdict {
  if (out.rcode === Rcode.noError || out.rcode === Rcode.noSuchName) return Verdict.accepted
  const isConfused =
    out.rcode === Rcode.formatError || out.rcode === Rcode.notImplemented || out.rcode === Rcode.badVersion
  return isConfused && asked.hasEdns ? Verdict.withoutEdns : Verdict.failed
}

/** False when the records are not what the header says. */
function takeEdnsAway(bytes: Uint8Array, length: number, questionEnd: number, out: UpstreamAnswer): boolean {
  const before = readU16(bytes, ANSWERS_AT) + readU16(bytes, AUTHORITIES_AT)
  const additionals = readU16(bytes, ADDITIONALS_AT)
  let at = questionEnd
  let edns = MALFORMED
  for (let index = 0; index < before + additionals; index++) {
    const recordAt = at
    at = readRecord(bytes, at, length, record)
    if (at === MALFORMED || expandName(bytes, record.nameAt, length, nameBytes) === MALFORMED) return false
    if (record.type !== Type.opt) continue
    if (edns !== MALFORMED || index < before || bytes[recordAt] !== 0) return false
    edns = recordAt
    out.rcode |= (record.ttl >>> 24) << 4
    writeU16(bytes, ADDITIONALS_AT, index - before)
  }
  out.bytes = edns === MALFORMED ? at : edns
  return true
}
