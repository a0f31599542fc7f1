/** Which rules an address suits: not the longest prefix counts, but all that hold it, since the order of the rules decides. */
import type { BitRows } from './bit-rows.ts'
import { buildIntervals, findInterval, findWideInterval, type IntervalTable, type RuleRange } from './interval-table.ts'
import type { Cidr } from './rule.ts'

export interface CidrTable {
  readonly v4: IntervalTable
  readonly v6: IntervalTable
  /** For a flow whose address is not known. */
  readonly unknownRow: number
}

/**
 * `lists`: for each rule its prefixes, undefined where it has no such condition, so that every address suits. A prefix of IPv4
 * says nothing of IPv6, not even of `::ffff:a.b.c.d`, and the other way round.
 */
export function buildCidrTable(lists: readonly (readonly Cidr[] | undefined)[], always: Uint32Array, rows: BitRows) {
  const ranges: { 4: RuleRange[]; 16: RuleRange[] } = { 4: [], 16: [] }
  lists.forEach((list, rule) => {
    for (const { address, prefix } of list ?? []) {
      const first = BigInt(`0x${Buffer.from(address).toString('hex')}`)
      const last = first + (1n << BigInt(address.length * 8 - prefix)) - 1n
      ranges[address.length as 4 | 16].push({ first, last, rule })
    }
  })
  return {
    v4: buildIntervals(ranges[4], 1, always, rows),
    v6: buildIntervals(ranges[16], 4, always, rows),
    unknownRow: rows.intern(always),
  }
}

/** The row of an address of 4 or 16 bytes; undefined for one that is not known. */
export function findAddress(table: CidrTable, address: Uint8Array | undefined): number {
  if (address === undefined) return table.unknownRow
  if (address.length === 4) return findInterval(table.v4, word(address, 0))
  return findWideInterval(table.v6, word(address, 0), word(address, 4), word(address, 8), word(address, 12))
}

/** Signed. */
function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}
