/** A client's query, read in place: the question, and what EDNS says of the client. */
import {
  ANSWERS_AT,
  AUTHORITIES_AT,
  countRecords,
  DNSSEC_OK,
  FLAGS_AT,
  Flag,
  HEADER_BYTES,
  LOWER,
  MALFORMED,
  MAX_NAME_BYTES,
  QUESTIONS_AT,
  Rcode,
  readRecord,
  readU16,
  recordFields,
  Type,
} from './wire.ts'

/** The query may be answered. */
export const SOUND = 0
/** Nothing is sent: no header, or itself an answer, to which an answer could come for ever. */
export const SILENCE = -1

/** Datagrams that every client takes (RFC 1035 §4.2.1). */
export const PLAIN_UDP_BYTES = 512

export interface Query {
  id: number
  /** The header's second word, as it came. */
  flags: number
  /** Bytes of the name in its wire form, 1 to 255; 0 as long as there is no sound question. */
  nameBytes: number
  type: number
  class: number
  /** Where the question ends; 12 as long as there is no sound question. */
  questionEnd: number
  /** Labels of letters, digits, hyphens and underscores, and not the root: what a host may be called. */
  isHostName: boolean
  labels: number
  hasEdns: boolean
  /** Datagrams that the client takes: 512 without EDNS, and at least (RFC 6891 §6.2.3). */
  udpBytes: number
  dnssecOk: boolean
  /** Bytes up to the end of the last record; what stands behind is of no meaning. */
  bytes: number
  /**
   * What a cached answer is found by: the name's wire form in lower case, type, class, DO and CD, one character a byte.
   * Wire form, because a label may contain dots.
   */
  key: string
}

export function emptyQuery(): Query {
  return {
    id: 0,
    flags: 0,
    nameBytes: 0,
    type: 0,
    class: 0,
    questionEnd: HEADER_BYTES,
    isHostName: false,
    labels: 0,
    hasEdns: false,
    udpBytes: PLAIN_UDP_BYTES,
    dnssecOk: false,
    bytes: 0,
    key: '',
  }
}

/** 1 for what a host name is made of. */
const HOST_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => (/[a-z0-9_-]/i.test(String.fromCharCode(byte)) ? 1 : 0))

const keyBytes = Buffer.alloc(MAX_NAME_BYTES + 5)
const record = recordFields()

/**
 * Reads the message of `length` bytes into `out`: `SOUND`, `SILENCE`, or the `Rcode` to answer it with (`writeError`), for
 * which `out` holds what could be read. One question and nothing but additional records (RFC 9619 §4; IXFR brings its SOA,
 * RFC 1995 §3), one OPT at most (RFC 6891 §6.1.1).
 */
export function parseQuery(bytes: Uint8Array, length: number, out: Query): number {
  out.nameBytes = 0
  out.questionEnd = HEADER_BYTES
  out.hasEdns = false
  out.dnssecOk = false
  out.udpBytes = PLAIN_UDP_BYTES
  if (length < HEADER_BYTES) return SILENCE
  out.id = readU16(bytes, 0)
  out.flags = readU16(bytes, FLAGS_AT)
  if ((out.flags & Flag.answer) !== 0) return SILENCE
  if ((out.flags & Flag.opcode) !== 0) return Rcode.notImplemented
  if (readU16(bytes, QUESTIONS_AT) !== 1 || !readQuestion(bytes, length, out)) return Rcode.formatError
  if (readU16(bytes, ANSWERS_AT) !== 0) return Rcode.formatError
  if (readU16(bytes, AUTHORITIES_AT) !== 0 && out.type !== Type.ixfr) return Rcode.formatError
  const verdict = readRecords(bytes, length, out)
  if (verdict === SOUND) out.key = makeKey(out)
  return verdict
}

/** Puts the name in lower case into `keyBytes` as well. */
function readQuestion(bytes: Uint8Array, length: number, out: Query): boolean {
  const limit = Math.min(length, HEADER_BYTES + MAX_NAME_BYTES)
  let at = HEADER_BYTES
  let labels = 0
  let isHostName = true
  for (;;) {
    if (at >= limit) return false
    const labelBytes = bytes[at]!
    if (labelBytes > 63 || at + 1 + labelBytes > limit) return false
    keyBytes[at - HEADER_BYTES] = labelBytes
    at++
    if (labelBytes === 0) break
    labels++
    for (const end = at + labelBytes; at < end; at++) {
      const byte = bytes[at]!
      keyBytes[at - HEADER_BYTES] = LOWER[byte]!
      if (HOST_BYTE[byte] === 0) isHostName = false
    }
  }
  if (at + 4 > length) return false
  out.nameBytes = at - HEADER_BYTES
  out.labels = labels
  out.isHostName = isHostName && labels > 0
  out.type = readU16(bytes, at)
  out.class = readU16(bytes, at + 2)
  out.questionEnd = at + 4
  return true
}

function readRecords(bytes: Uint8Array, length: number, out: Query): number {
  const before = readU16(bytes, AUTHORITIES_AT)
  const count = countRecords(bytes)
  let at = out.questionEnd
  let version = 0
  for (let index = 0; index < count; index++) {
    const recordAt = at
    at = readRecord(bytes, at, length, record)
    if (at === MALFORMED) return Rcode.formatError
    if (record.type !== Type.opt) continue
    if (out.hasEdns || index < before || bytes[recordAt] !== 0) return Rcode.formatError
    out.hasEdns = true
    out.udpBytes = Math.max(record.class, PLAIN_UDP_BYTES)
    out.dnssecOk = (record.ttl & DNSSEC_OK) !== 0
    version = (record.ttl >>> 16) & 0xff
  }
  out.bytes = at
  return version === 0 ? SOUND : Rcode.badVersion
}

function makeKey(query: Query): string {
  let at = query.nameBytes
  keyBytes[at++] = query.type >> 8
  keyBytes[at++] = query.type
  keyBytes[at++] = query.class >> 8
  keyBytes[at++] = query.class
  keyBytes[at++] = (query.dnssecOk ? 1 : 0) | (query.flags & Flag.checkingDisabled)
  return keyBytes.toString('latin1', 0, at)
}

const nameBytes = Buffer.alloc(MAX_NAME_BYTES)

/**
 * The name of a sound query in lower case, its labels parted by dots, '' for the root: what names are looked up by, and a
 * proxy is told. One character a byte; a dot within a label is not told from one between labels, so ask `isHostName` first
 * where that matters.
 */
export function nameOf(bytes: Uint8Array, query: Query): string {
  let labelAt = 0
  for (let at = 0; at < query.nameBytes - 1; at++) {
    const byte = bytes[HEADER_BYTES + at]!
    if (at === labelAt) {
      nameBytes[at] = 0x2e
      labelAt += 1 + byte
    } else nameBytes[at] = LOWER[byte]!
  }
  return nameBytes.toString('latin1', 1, Math.max(query.nameBytes - 1, 1))
}

/** Whether a message asks the same as `query`, read from `asked`; upper and lower case are told apart where `exact`. */
export function sameQuestion(bytes: Uint8Array, asked: Uint8Array, query: Query, exact: boolean): boolean {
  const nameEnd = HEADER_BYTES + query.nameBytes
  for (let at = HEADER_BYTES; at < nameEnd; at++)
    if (bytes[at] !== asked[at] && (exact || LOWER[bytes[at]!] !== LOWER[asked[at]!])) return false
  for (let at = nameEnd; at < query.questionEnd; at++) if (bytes[at] !== asked[at]) return false
  return true
}

/** Whether `nameBytes` bytes of labels are the name at the header's end of `message`; upper and lower case are the same. */
export function sameName(labels: Uint8Array, nameBytes: number, message: Uint8Array): boolean {
  for (let at = 0; at < nameBytes; at++) if (LOWER[labels[at]!] !== LOWER[message[HEADER_BYTES + at]!]) return false
  return true
}
