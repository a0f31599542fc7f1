/**
 * What a DNS message is made of (RFC 1035 §4), read and written in place. Readers look at bytes before `end` alone, return
 * the offset behind what they read, or `MALFORMED`; nothing is made per message. `bytes` may be a view of WebAssembly memory.
 */
export const MALFORMED = -1

export const HEADER_BYTES = 12
/** RFC 1035 §2.3.4: the length bytes and the root's count. */
export const MAX_NAME_BYTES = 255
/** What the length field of TCP can say (RFC 1035 §4.2.2). */
export const MAX_MESSAGE_BYTES = 65_535
/** Owner (root), type, class, TTL and length of an OPT record without options (RFC 6891 §6.1.2). */
export const OPT_BYTES = 11

export const Type = {
  a: 1,
  ns: 2,
  cname: 5,
  soa: 6,
  ptr: 12,
  aaaa: 28,
  opt: 41,
  rrsig: 46,
  svcb: 64,
  https: 65,
  ixfr: 251,
  any: 255,
} as const

/** RFC 1035 §3.2.4. */
export const INTERNET = 1

/** RFC 6895 §2.3; those over 15 need EDNS for their upper bits. */
export const Rcode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  noSuchName: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const
export type Rcode = (typeof Rcode)[keyof typeof Rcode]

/** Bits of the header's second word (RFC 1035 §4.1.1, RFC 4035 §3). */
export const Flag = {
  answer: 0x8000,
  opcode: 0x7800,
  authoritative: 0x0400,
  truncated: 0x0200,
  recursionDesired: 0x0100,
  recursionAvailable: 0x0080,
  authenticData: 0x0020,
  checkingDisabled: 0x0010,
  rcode: 0x000f,
} as const

/** RFC 3225 §3: DNSSEC OK, in the upper half of the TTL of OPT its lower word. */
export const DNSSEC_OK = 0x8000

/** Offsets in the header. */
export const FLAGS_AT = 2
export const QUESTIONS_AT = 4
export const ANSWERS_AT = 6
export const AUTHORITIES_AT = 8
export const ADDITIONALS_AT = 10

const POINTER = 0xc0
const MAX_LABEL_BYTES = 63

/** Upper-case ASCII letters as lower-case ones, all else as it is (RFC 4343 §3). */
export const LOWER: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte,
)

export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8
  bytes[at + 1] = value
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24
  bytes[at + 1] = value >> 16
  bytes[at + 2] = value >> 8
  bytes[at + 3] = value
}

/** The end of the name at `at` in its record: behind the root, or behind a pointer, which is not followed. */
export function skipName(bytes: Uint8Array, at: number, end: number): number {
  const limit = Math.min(end, at + MAX_NAME_BYTES)
  let next = at
  while (next < limit) {
    const length = bytes[next]!
    if (length === 0) return next + 1
    if (length >= POINTER) return next + 2 <= end ? next + 2 : MALFORMED
    if (length > MAX_LABEL_BYTES) return MALFORMED
    next += 1 + length
  }
  return MALFORMED
}

/**
 * Writes the name at `at`, pointers followed (RFC 1035 §4.1.4), as labels with the root behind them into `out`, which has
 * room for 255 bytes: their number, or `MALFORMED`. A pointer leads to what stands before the labels it ends, so there is no
 * circle.
 */
export function expandName(bytes: Uint8Array, at: number, end: number, out: Uint8Array, outAt = 0): number {
  let next = at
  let start = at
  let written = 0
  while (next < end) {
    const length = bytes[next]!
    if (length >= POINTER) {
      if (next + 2 > end) return MALFORMED
      const target = readU16(bytes, next) & 0x3fff
      if (target >= start || target < HEADER_BYTES) return MALFORMED
      next = target
      start = target
      continue
    }
    if (length > MAX_LABEL_BYTES || next + 1 + length > end || written + 1 + length > MAX_NAME_BYTES) return MALFORMED
    for (let offset = 0; offset <= length; offset++) out[outAt + written + offset] = bytes[next + offset]!
    written += 1 + length
    if (length === 0) return written
    next += 1 + length
  }
  return MALFORMED
}

/** A record where it stands in its message. */
export interface RecordFields {
  nameAt: number
  type: number
  /** Of OPT: the size of datagrams that its sender takes. */
  class: number
  ttlAt: number
  /** Seconds; as it stands there, up to 2^32 - 1. */
  ttl: number
  dataAt: number
  dataBytes: number
}

export function recordFields(): RecordFields {
  return { nameAt: 0, type: 0, class: 0, ttlAt: 0, ttl: 0, dataAt: 0, dataBytes: 0 }
}

/** The record at `at`; what its data says is not looked at. */
export function readRecord(bytes: Uint8Array, at: number, end: number, out: RecordFields): number {
  const nameEnd = skipName(bytes, at, end)
  if (nameEnd === MALFORMED || nameEnd + 10 > end) return MALFORMED
  out.nameAt = at
  out.type = readU16(bytes, nameEnd)
  out.class = readU16(bytes, nameEnd + 2)
  out.ttlAt = nameEnd + 4
  out.ttl = readU32(bytes, nameEnd + 4)
  out.dataAt = nameEnd + 10
  out.dataBytes = readU16(bytes, nameEnd + 8)
  const next = out.dataAt + out.dataBytes
  return next <= end ? next : MALFORMED
}

/** The records behind the questions, by the header's counts. */
export function countRecords(bytes: Uint8Array): number {
  return readU16(bytes, ANSWERS_AT) + readU16(bytes, AUTHORITIES_AT) + readU16(bytes, ADDITIONALS_AT)
}

/** `name` as text in the form of RFC 1035 §5.1, as it is shown to people: `.` for the root. `at` is where its labels begin. */
export function formatName(bytes: Uint8Array, at = 0): string {
  let text = ''
  for (let next = at; next < bytes.length && bytes[next] !== 0; next += 1 + bytes[next]!) {
    for (const byte of bytes.subarray(next + 1, next + 1 + bytes[next]!)) {
      const character = String.fromCharCode(byte)
      if (/[.\\"();@$]/.test(character)) text += `\\${character}`
      else text += byte > 0x20 && byte < 0x7f ? character : `\\${String(byte).padStart(3, '0')}`
    }
    text += '.'
  }
  return text === '' ? '.' : text.slice(0, -1)
}
