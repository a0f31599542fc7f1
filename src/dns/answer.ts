/**
 * Answers to a client, written in place. Each is the query's own ID and question, byte by byte: the client finds the
 * upper and lower case of its name again (draft-vixie-dnsext-dns0x20), and an OPT record when it sent one (RFC 6891 §6.1.1).
 *
 * `out` has room for `MAX_MESSAGE_BYTES`, and is not the query's memory. All return the bytes of the answer.
 */
import { PLAIN_UDP_BYTES, type Query } from './question.ts'
import {
  ADDITIONALS_AT,
  ANSWERS_AT,
  AUTHORITIES_AT,
  countRecords,
  DNSSEC_OK,
  FLAGS_AT,
  Flag,
  HEADER_BYTES,
  INTERNET,
  MAX_MESSAGE_BYTES,
  OPT_BYTES,
  QUESTIONS_AT,
  type Rcode,
  readRecord,
  readU16,
  recordFields,
  Type,
  writeU16,
  writeU32,
} from './wire.ts'

/**
 * Datagrams that we take and send at most, whatever the other side takes: what crosses every path in one packet
 * (DNS Flag Day 2020, RFC 9715 §3.2).
 */
export const EDNS_BYTES = 1_232

/** A name that is where the question's is. */
const QUESTION_NAME = 0xc000 | HEADER_BYTES
const DOT = 0x2e

/** The bytes that an answer over UDP may have; over TCP it is `MAX_MESSAGE_BYTES`. */
export function answerBytesOf(query: Query, atMost = EDNS_BYTES): number {
  return Math.max(PLAIN_UDP_BYTES, Math.min(query.udpBytes, atMost))
}

/** An answer without records: the `rcode`, or with 0 that there is nothing of that type. */
export function writeError(out: Uint8Array, asked: Uint8Array, query: Query, rcode: Rcode): number {
  return endAnswer(out, beginAnswer(out, asked, query, rcode & Flag.rcode), query, rcode >> 4)
}

/** An answer of which the client takes more by TCP: no records, which it would not use anyway (RFC 2181 §9). */
export function writeTruncated(out: Uint8Array, asked: Uint8Array, query: Query, rcode = 0): number {
  return endAnswer(out, beginAnswer(out, asked, query, Flag.truncated | (rcode & Flag.rcode)), query, 0)
}

/** One A or AAAA record, as the `address` has 4 or 16 bytes. Room is no question: 512 bytes hold it. */
export function writeAddress(
  out: Uint8Array,
  asked: Uint8Array,
  query: Query,
  address: Uint8Array,
  ttl: number,
): number {
  const at = beginAnswer(out, asked, query, 0)
  out[ANSWERS_AT + 1] = 1
  writeU16(out, at, QUESTION_NAME)
  writeU16(out, at + 2, address.length === 4 ? Type.a : Type.aaaa)
  writeU16(out, at + 4, INTERNET)
  writeU32(out, at + 6, ttl)
  writeU16(out, at + 10, address.length)
  for (let index = 0; index < address.length; index++) out[at + 12 + index] = address[index]!
  return endAnswer(out, at + 12 + address.length, query, 0)
}

/** One PTR record. `name` is a host name: labels of one character a byte, parted by dots. */
export function writePointer(out: Uint8Array, asked: Uint8Array, query: Query, name: string, ttl: number): number {
  const at = beginAnswer(out, asked, query, 0)
  out[ANSWERS_AT + 1] = 1
  writeU16(out, at, QUESTION_NAME)
  writeU16(out, at + 2, Type.ptr)
  writeU16(out, at + 4, INTERNET)
  writeU32(out, at + 6, ttl)
  const dataBytes = name.length + 2
  writeU16(out, at + 10, dataBytes)
  let labelAt = at + 12
  for (let index = 0; index <= name.length; index++) {
    const here = at + 13 + index
    const code = index === name.length ? DOT : name.charCodeAt(index)
    if (code === DOT) {
      out[labelAt] = here - labelAt - 1
      labelAt = here
    } else out[here] = code
  }
  out[labelAt] = 0
  return endAnswer(out, at + 12 + dataBytes, query, 0)
}

const record = recordFields()

/**
 * An answer of somebody else, kept as one character a byte: sound, without OPT, its question the same but for upper and lower case.
 * Each TTL is at most `maxTtl` and `age` seconds less than it was, not below 0; with `age` -1 it is `maxTtl`. One that has more
 * than `limit` bytes is truncated.
 */
export function writeKept(
  out: Buffer,
  asked: Uint8Array,
  query: Query,
  kept: string,
  age: number,
  maxTtl: number,
  limit: number,
): number {
  const rcode = kept.charCodeAt(FLAGS_AT + 1) & Flag.rcode
  if (kept.length + (query.hasEdns ? OPT_BYTES : 0) > limit) return writeTruncated(out, asked, query, rcode)
  const length = out.write(kept, 0, 'latin1')
  const kind = readU16(out, FLAGS_AT)
  for (let at = HEADER_BYTES; at < query.questionEnd; at++) out[at] = asked[at]!
  writeU16(out, 0, query.id)
  writeU16(out, FLAGS_AT, answerFlags(query, kind))
  let at = query.questionEnd
  for (let count = countRecords(out); count > 0; count--) {
    at = readRecord(out, at, length, record)
    writeU32(out, record.ttlAt, age < 0 ? maxTtl : Math.max(0, Math.min(record.ttl, maxTtl) - age))
  }
  return endAnswer(out, length, query, 0)
}

/**
 * The answer of the upstream for a client that asked just now: as `writeKept`, with the TTLs as they are. `bytes` is what
 * `acceptAnswer` let pass, `length` of it, without OPT.
 */
export function writeForwarded(
  out: Uint8Array,
  asked: Uint8Array,
  query: Query,
  bytes: Uint8Array,
  length: number,
  limit: number,
): number {
  const kind = readU16(bytes, FLAGS_AT)
  if (length + (query.hasEdns ? OPT_BYTES : 0) > limit) return writeTruncated(out, asked, query, kind & Flag.rcode)
  out.set(bytes.subarray(0, length))
  out.set(asked.subarray(HEADER_BYTES, query.questionEnd), HEADER_BYTES)
  writeU16(out, 0, query.id)
  writeU16(out, FLAGS_AT, answerFlags(query, kind) | (kind & (Flag.authoritative | Flag.truncated)))
  return endAnswer(out, length, query, 0)
}

/** AD says something only to who asked for it (RFC 6840 §5.8). */
function answerFlags(query: Query, kind: number): number {
  const wantsAuthentic = query.dnssecOk || (query.flags & Flag.authenticData) !== 0
  const copied = kind & (Flag.rcode | (wantsAuthentic ? Flag.authenticData : 0))
  return Flag.answer | Flag.recursionAvailable | echoed(query) | copied
}

/** What an answer repeats of its query (RFC 1035 §4.1.1, RFC 4035 §3.2.2). */
function echoed(query: Query): number {
  return query.flags & (Flag.opcode | Flag.recursionDesired | Flag.checkingDisabled)
}

/** Header and question, of a query whose question was sound; counts of records are 0. */
function beginAnswer(out: Uint8Array, asked: Uint8Array, query: Query, flags: number): number {
  writeU16(out, 0, query.id)
  writeU16(out, FLAGS_AT, Flag.answer | Flag.recursionAvailable | echoed(query) | flags)
  writeU16(out, QUESTIONS_AT, query.nameBytes > 0 ? 1 : 0)
  writeU16(out, ANSWERS_AT, 0)
  writeU16(out, AUTHORITIES_AT, 0)
  writeU16(out, ADDITIONALS_AT, 0)
  for (let at = HEADER_BYTES; at < query.questionEnd; at++) out[at] = asked[at]!
  return query.questionEnd
}

/** `upperRcode`: bits 4 to 11 of the code, which only EDNS can carry. */
function endAnswer(out: Uint8Array, at: number, query: Query, upperRcode: number): number {
  if (!query.hasEdns || at + OPT_BYTES > MAX_MESSAGE_BYTES) return at
  writeU16(out, ADDITIONALS_AT, readU16(out, ADDITIONALS_AT) + 1)
  out[at] = 0
  writeU16(out, at + 1, Type.opt)
  writeU16(out, at + 3, EDNS_BYTES)
  out[at + 5] = upperRcode
  out[at + 6] = 0
  writeU16(out, at + 7, query.dnssecOk ? DNSSEC_OK : 0)
  writeU16(out, at + 9, 0)
  return at + OPT_BYTES
}
