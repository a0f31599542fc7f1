/**
 * Which rules a number suits, for numbers of 32 or 128 bits: the number line cut where a range of a rule begins or ends, and
 * for each piece the row of its rules (bit-rows.ts). A search costs as many steps as the number of pieces has bits.
 */
import { type BitRows, clearBit, setBit, sharedWords } from './bit-rows.ts'

export interface IntervalTable {
  /**
   * Where each piece begins, ascending, the first at 0; `width` words each, the most significant first. The highest bit of
   * each word is turned, so that signed words have the order of unsigned ones: V8 keeps those without allocating.
   */
  readonly starts: Int32Array
  /** The row of each piece. */
  readonly rows: Uint32Array
}

/** Both ends belong to it. */
export interface RuleRange {
  readonly first: bigint
  readonly last: bigint
  /** The place of the rule, 0 for the first. */
  readonly rule: number
}

/** `always`: the rules that every number suits. `width` in words: 1 or 4. */
export function buildIntervals(
  ranges: readonly RuleRange[],
  width: 1 | 4,
  always: Uint32Array,
  rows: BitRows,
): IntervalTable {
  const end = 1n << BigInt(32 * width)
  const edges = ranges.flatMap(({ first, last, rule }) => [
    { at: first, rule, step: 1 },
    { at: last + 1n, rule, step: -1 },
  ])
  edges.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))
  const depth = new Map<number, number>()
  const bits = always.slice()
  const starts = [0n]
  const pieces = [rows.intern(bits)]
  for (let at = 0; at < edges.length; ) {
    const edge = edges[at]!.at
    for (; at < edges.length && edges[at]!.at === edge; at++) {
      const { rule, step } = edges[at]!
      const before = depth.get(rule) ?? 0
      depth.set(rule, before + step)
      if (before + step === 0) clearBit(bits, rule)
      else setBit(bits, rule)
    }
    const row = rows.intern(bits)
    if (edge === 0n) pieces[0] = row
    else if (edge < end && row !== pieces.at(-1)) {
      starts.push(edge)
      pieces.push(row)
    }
  }
  const words = new Int32Array(new SharedArrayBuffer(starts.length * width * 4))
  words.set(starts.flatMap(start => wordsOf(start, width)))
  return { starts: words, rows: sharedWords(pieces) }
}

const SIGN = 1 << 31

function wordsOf(value: bigint, width: number): number[] {
  return Array.from({ length: width }, (_, at) => {
    const word = Number((value >> BigInt(32 * (width - 1 - at))) & 0xffff_ffffn)
    return word ^ SIGN
  })
}

/** The row of a number of 32 bits, signed or not. */
export function findInterval({ starts, rows }: IntervalTable, value: number): number {
  const key = value ^ SIGN
  let low = 0
  let high = starts.length - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (starts[middle]! <= key) low = middle
    else high = middle - 1
  }
  return rows[low]!
}

/** The row of a number of 128 bits, given in four words of 32, signed or not. */
export function findWideInterval(table: IntervalTable, high: number, b: number, c: number, d: number): number {
  return findWide(table, high ^ SIGN, b ^ SIGN, c ^ SIGN, d ^ SIGN)
}

function findWide({ starts, rows }: IntervalTable, a: number, b: number, c: number, d: number): number {
  let low = 0
  let high = rows.length - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (isAtMost(starts, middle * 4, a, b, c, d)) low = middle
    else high = middle - 1
  }
  return rows[low]!
}

function isAtMost(starts: Int32Array, at: number, a: number, b: number, c: number, d: number): boolean {
  if (starts[at] !== a) return starts[at]! < a
  if (starts[at + 1] !== b) return starts[at + 1]! < b
  if (starts[at + 2] !== c) return starts[at + 2]! < c
  return starts[at + 3]! <= d
}
