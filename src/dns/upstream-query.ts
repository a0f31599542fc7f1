/** What is asked of a resolver for a client: a query of our own, for OPT says what each side of a hop can (RFC 6891 §6.2.6). */
import { EDNS_BYTES } from './answer.ts'
import type { Query } from './question.ts'
import {
  DNSSEC_OK,
  FLAGS_AT,
  Flag,
  HEADER_BYTES,
  LOWER,
  OPT_BYTES,
  QUESTIONS_AT,
  Type,
  writeU16,
  writeU32,
} from './wire.ts'

/** Bytes of the longest: header, a name of 255, type and class, OPT. */
export const MAX_QUERY_BYTES = HEADER_BYTES + 255 + 4 + OPT_BYTES
/** A bit for each byte that a name can have. */
export const CASE_BYTES = 32

/**
 * Writes the query into `out`, which has room for `MAX_QUERY_BYTES`, and returns its bytes. `id` and `cases` come from
 * a source of random numbers that nobody can foretell (RFC 5452 §9.2): each letter of the name becomes upper case where `cases`,
 * of `CASE_BYTES`, has a 1, so that who forges an answer has to guess them too (draft-vixie-dnsext-dns0x20); without `cases` the
 * name is in lower case.
 */
export function writeUpstreamQuery(
  out: Uint8Array,
  asked: Uint8Array,
  query: Query,
  id: number,
  cases: Uint8Array | undefined,
  withEdns: boolean,
): number {
  const end = query.questionEnd
  out.fill(0, 0, HEADER_BYTES)
  writeU16(out, 0, id)
  const kept = query.flags & (Flag.checkingDisabled | Flag.authenticData)
  writeU16(out, FLAGS_AT, Flag.recursionDesired | kept)
  out[QUESTIONS_AT + 1] = 1
  for (let at = HEADER_BYTES; at < end; at++) out[at] = asked[at]!
  writeCases(out, query.nameBytes, cases)
  if (!withEdns) return end
  // ADDITIONALS_AT's lower byte.
  out[HEADER_BYTES - 1] = 1
  out[end] = 0
  writeU16(out, end + 1, Type.opt)
  writeU16(out, end + 3, EDNS_BYTES)
  writeU32(out, end + 5, query.dnssecOk ? DNSSEC_OK : 0)
  writeU16(out, end + 9, 0)
  return end + OPT_BYTES
}

function writeCases(out: Uint8Array, nameBytes: number, cases: Uint8Array | undefined): void {
  let labelAt = 0
  for (let at = 0; at < nameBytes; at++) {
    const byte = LOWER[out[HEADER_BYTES + at]!]!
    if (at === labelAt) {
      labelAt += 1 + byte
      continue
    }
    const isLetter = byte >= 0x61 && byte <= 0x7a
    const upper = isLetter && cases !== undefined && ((cases[at >> 3]! >> (at & 7)) & 1) !== 0
    out[HEADER_BYTES + at] = upper ? byte - 0x20 : byte
  }
}
