/**
 * Which rules a name suits. The names of all rules stand in one block of bytes, in an open hash table; a look-up walks the
 * name once from its end, and probes at each dot: the deepest name that is found has the rules of all above it in its row.
 */
import { type BitRows, setBit, sharedWords } from './bit-rows.ts'
import type { DomainPattern } from './rule.ts'

export interface DomainTable {
  /** The names, one behind the other. */
  readonly bytes: Uint8Array
  /** Where each name begins; one more for the end. */
  readonly offsets: Uint32Array
  /** For each name the row of itself, and the row of the names below it, in turns. */
  readonly rows: Uint16Array | Uint32Array
  /** Number of a name + 1; 0: free. A power of two of them, at most two thirds of them in use. */
  readonly slots: Uint32Array
  /** For a name that stands nowhere, or is not known. */
  readonly otherRow: number
}

interface Entry {
  /** Rules of the name alone, and of the name and those below. */
  readonly exact: number[]
  readonly below: number[]
}

/** Longer ones are no names of the DNS, and match nothing. */
const MAX_NAME_CHARS = 254

/** `lists`: for each rule its names, undefined where it has no such condition; `always` holds those rules. */
export function buildDomainTable(
  lists: readonly (readonly DomainPattern[] | undefined)[],
  always: Uint32Array,
  rows: BitRows,
): DomainTable {
  const entries = new Map<string, Entry>()
  lists.forEach((list, rule) => {
    for (const { name, below } of list ?? []) {
      const entry = entries.get(name) ?? { exact: [], below: [] }
      const rules = below ? entry.below : entry.exact
      if (rules.at(-1) !== rule) rules.push(rule)
      entries.set(name, entry)
    }
  })
  const names = [...entries.keys()]
  const table = layOut(names)
  const found = new Uint32Array(names.length * 2)
  const bits = always.slice()
  names.forEach((name, at) => {
    bits.set(always)
    for (let from = 0; from >= 0; from = nextLabel(name, from)) {
      for (const rule of entries.get(name.slice(from))?.below ?? []) setBit(bits, rule)
    }
    found[at * 2 + 1] = rows.intern(bits)
    for (const rule of entries.get(name)!.exact) setBit(bits, rule)
    found[at * 2] = rows.intern(bits)
  })
  return { ...table, rows: compactRows(found), otherRow: rows.intern(always) }
}

function nextLabel(name: string, from: number): number {
  const dot = name.indexOf('.', from)
  return dot < 0 ? -1 : dot + 1
}

function compactRows(found: Uint32Array): Uint16Array | Uint32Array {
  if (found.some(row => row > 0xffff)) return sharedWords(found)
  const small = new Uint16Array(new SharedArrayBuffer(found.length * 2))
  small.set(found)
  return small
}

function layOut(names: readonly string[]): Pick<DomainTable, 'bytes' | 'offsets' | 'slots'> {
  const size = names.reduce((sum, name) => sum + name.length, 0)
  const bytes = new Uint8Array(new SharedArrayBuffer(size))
  const offsets = sharedWords(new Uint32Array(names.length + 1))
  const slots = sharedWords(new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(2, names.length * 1.5)))))
  let end = 0
  names.forEach((name, at) => {
    let hash = SEED
    for (let char = name.length - 1; char >= 0; char--) hash = Math.imul(hash ^ name.charCodeAt(char), PRIME)
    let slot = mix(hash) & (slots.length - 1)
    while (slots[slot] !== 0) slot = (slot + 1) & (slots.length - 1)
    slots[slot] = at + 1
    for (let char = 0; char < name.length; char++) bytes[end + char] = name.charCodeAt(char)
    end += name.length
    offsets[at + 1] = end
  })
  return { bytes, offsets, slots }
}

/** FNV-1a, from the end of the name, so that the hash of each suffix comes by the way. */
const SEED = 0x811c9dc5
const PRIME = 0x01000193

function mix(hash: number): number {
  const folded = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  return folded ^ (folded >>> 13)
}

const DOT = 46

function lowerCase(char: number): number {
  return char >= 65 && char <= 90 ? char + 32 : char
}

/** The row of a name in any case, with or without the root's dot. Allocates nothing. */
export function findDomain(table: DomainTable, domain: string | undefined): number {
  if (domain === undefined || domain === '' || domain.length > MAX_NAME_CHARS) return table.otherRow
  const end = domain.charCodeAt(domain.length - 1) === DOT ? domain.length - 1 : domain.length
  let row = table.otherRow
  let hash = SEED
  for (let at = end - 1; at >= 0; at--) {
    hash = Math.imul(hash ^ lowerCase(domain.charCodeAt(at)), PRIME)
    if (at > 0 && domain.charCodeAt(at - 1) !== DOT) continue
    const name = findName(table, domain, at, end, mix(hash))
    if (name >= 0) row = table.rows[at === 0 ? name * 2 : name * 2 + 1]!
  }
  return row
}

/** The number of the name `domain.slice(from, end)`; -1 when it is not there. */
function findName({ bytes, offsets, slots }: DomainTable, domain: string, from: number, end: number, hash: number) {
  const mask = slots.length - 1
  for (let slot = hash & mask; slots[slot] !== 0; slot = (slot + 1) & mask) {
    const name = slots[slot]! - 1
    const start = offsets[name]!
    if (offsets[name + 1]! - start !== end - from) continue
    let at = from
    while (at < end && bytes[start + at - from] === lowerCase(domain.charCodeAt(at))) at++
    if (at === end) return name
  }
  return -1
}

/** The shortest end of `domain` (the whole of it included) whose row `suits`, as `example.org` of `www.example.org`. */
export function shortestSuffix(
  table: DomainTable,
  domain: string,
  suits: (row: number) => boolean,
): string | undefined {
  const name = domain.toLowerCase().replace(/\.$/, '')
  const labels = name.split('.')
  for (let count = 1; count < labels.length; count++) {
    const suffix = labels.slice(-count).join('.')
    if (suits(findDomain(table, `_.${suffix}`))) return suffix
  }
  return suits(findDomain(table, name)) ? name : undefined
}
