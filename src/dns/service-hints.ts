/**
 * Takes the addresses out of an answer about HTTPS or SVCB (RFC 9460): they would lead a client past the virtual ones.
 *
 * The answer is written anew, its names without compression but for the question's: after something is taken out, pointers
 * of what follows would lead elsewhere. Signatures over what changed go too, and AD.
 */
import { sameName } from './question.ts'
import {
  ADDITIONALS_AT,
  ANSWERS_AT,
  AUTHORITIES_AT,
  expandName,
  FLAGS_AT,
  Flag,
  HEADER_BYTES,
  MALFORMED,
  MAX_MESSAGE_BYTES,
  MAX_NAME_BYTES,
  readRecord,
  readU16,
  recordFields,
  skipName,
  Type,
  writeU16,
} from './wire.ts'

/** RFC 9460 §14.3.2. */
const Parameter = { mandatory: 0, ipv4hint: 4, ipv6hint: 6 } as const
const QUESTION_NAME = 0xc000 | HEADER_BYTES

/** Where in the data of a type names stand that may be compressed (RFC 1035 §3.3, RFC 3597 §4): bytes before them, and how many. */
const NAMES: ReadonlyMap<number, readonly [before: number, names: number]> = new Map([
  [Type.ns, [0, 1]],
  [3, [0, 1]], // MD
  [4, [0, 1]], // MF
  [Type.cname, [0, 1]],
  [Type.soa, [0, 2]],
  [7, [0, 1]], // MB
  [8, [0, 1]], // MG
  [9, [0, 1]], // MR
  [Type.ptr, [0, 1]],
  [14, [0, 2]], // MINFO
  [15, [2, 1]], // MX
  [17, [0, 2]], // RP
  [18, [2, 1]], // AFSDB
  [21, [2, 1]], // RT
  [24, [18, 1]], // SIG
  [26, [2, 2]], // PX
  [30, [0, 1]], // NXT
  [33, [6, 1]], // SRV
])

const record = recordFields()
const nameBytes = new Uint8Array(MAX_NAME_BYTES)

/**
 * Writes the answer of `length` bytes, accepted by `acceptAnswer` and with a question that ends at `questionEnd`, into `out`, which has room
 * for `MAX_MESSAGE_BYTES` and is other memory: its bytes, or `MALFORMED` when names in it cannot be read or it becomes too long.
 * A HTTPS or SVCB record that is malformed is left out (RFC 9460 §2.2: the client would not use any).
 */
export function withoutHints(out: Uint8Array, bytes: Uint8Array, length: number, questionEnd: number): number {
  for (let at = 0; at < questionEnd; at++) out[at] = bytes[at]!
  writeU16(out, FLAGS_AT, readU16(bytes, FLAGS_AT) & ~Flag.authenticData)
  let from = questionEnd
  let to = questionEnd
  for (const section of [ANSWERS_AT, AUTHORITIES_AT, ADDITIONALS_AT]) {
    let kept = 0
    for (let count = readU16(bytes, section); count > 0; count--) {
      from = readRecord(bytes, from, length, record)
      if (from === MALFORMED) return MALFORMED
      if (isOfAddresses(bytes)) continue
      const next = copyRecord(out, to, bytes, length)
      if (next === MALFORMED) return MALFORMED
      if (next === to) continue
      to = next
      kept++
    }
    writeU16(out, section, kept)
  }
  return to
}

/** The `record` is an address, or a signature over one or over what is changed here. */
function isOfAddresses(bytes: Uint8Array): boolean {
  const type = record.type === Type.rrsig && record.dataBytes >= 2 ? readU16(bytes, record.dataAt) : record.type
  if (type === Type.a || type === Type.aaaa) return true
  return record.type === Type.rrsig && (type === Type.https || type === Type.svcb)
}

/** Where the copy ends; `to` when there is none. */
function copyRecord(out: Uint8Array, to: number, bytes: Uint8Array, length: number): number {
  // Owner, ten bytes, two names at most and what the data has beside them.
  if (to + 3 * MAX_NAME_BYTES + 10 + record.dataBytes > MAX_MESSAGE_BYTES) return MALFORMED
  let at = copyOwner(out, to, bytes, length)
  if (at === MALFORMED) return MALFORMED
  for (let offset = 0; offset < 8; offset++) out[at + offset] = bytes[record.ttlAt - 4 + offset]!
  const dataAt = at + 10
  const isService = record.type === Type.https || record.type === Type.svcb
  at = isService ? copyService(out, dataAt, bytes) : copyData(out, dataAt, bytes, length)
  if (at === MALFORMED) return isService ? to : MALFORMED
  writeU16(out, dataAt - 2, at - dataAt)
  return at
}

function copyOwner(out: Uint8Array, to: number, bytes: Uint8Array, length: number): number {
  const written = expandName(bytes, record.nameAt, length, nameBytes)
  if (written === MALFORMED) return MALFORMED
  if (sameName(nameBytes, written, out)) {
    writeU16(out, to, QUESTION_NAME)
    return to + 2
  }
  for (let offset = 0; offset < written; offset++) out[to + offset] = nameBytes[offset]!
  return to + written
}

function copyData(out: Uint8Array, to: number, bytes: Uint8Array, length: number): number {
  const [before, names] = NAMES.get(record.type) ?? [0, 0]
  const end = record.dataAt + record.dataBytes
  let from = Math.min(record.dataAt + before, end)
  for (let at = record.dataAt; at < from; at++) out[to++] = bytes[at]!
  for (let count = names; count > 0; count--) {
    const written = expandName(bytes, from, length, out, to)
    if (written === MALFORMED) return MALFORMED
    to += written
    from = skipName(bytes, from, end)
    if (from === MALFORMED) return MALFORMED
  }
  for (let at = from; at < end; at++) out[to++] = bytes[at]!
  return to
}

/** Priority, target and parameters, whose keys must grow (RFC 9460 §2.2). */
function copyService(out: Uint8Array, to: number, bytes: Uint8Array): number {
  const end = record.dataAt + record.dataBytes
  const targetEnd = plainNameEnd(bytes, record.dataAt + 2, end)
  if (targetEnd === MALFORMED) return MALFORMED
  for (let at = record.dataAt; at < targetEnd; at++) out[to++] = bytes[at]!
  let last = -1
  for (let at = targetEnd; at < end; ) {
    if (at + 4 > end) return MALFORMED
    const key = readU16(bytes, at)
    const next = at + 4 + readU16(bytes, at + 2)
    if (key <= last || next > end) return MALFORMED
    last = key
    if (key === Parameter.mandatory) to = copyMandatory(out, to, bytes, at, next)
    else if (!isHint(key)) while (at < next) out[to++] = bytes[at++]!
    at = next
  }
  return to
}

/** The target is never compressed (RFC 9460 §2.2). */
function plainNameEnd(bytes: Uint8Array, at: number, end: number): number {
  let next = at
  while (next < end && bytes[next] !== 0) {
    if (bytes[next]! > 63) return MALFORMED
    next += 1 + bytes[next]!
  }
  return next < end && next - at < MAX_NAME_BYTES ? next + 1 : MALFORMED
}

function isHint(key: number): boolean {
  return key === Parameter.ipv4hint || key === Parameter.ipv6hint
}

/** The list of keys that a client must understand, without those that are taken out (RFC 9460 §8). */
function copyMandatory(out: Uint8Array, to: number, bytes: Uint8Array, from: number, end: number): number {
  let at = to + 4
  for (let key = from + 4; key + 2 <= end; key += 2) {
    if (isHint(readU16(bytes, key))) continue
    writeU16(out, at, readU16(bytes, key))
    at += 2
  }
  if (at === to + 4) return to
  writeU16(out, to, Parameter.mandatory)
  writeU16(out, to + 2, at - to - 4)
  return at
}
