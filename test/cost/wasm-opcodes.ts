/** How long each WebAssembly instruction is: core specification 2.0, section 5.4. */
import type { BinaryReader } from './wasm-binary.ts'

export const Opcode = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  brTable: 0x0e,
  return: 0x0f,
  callIndirect: 0x11,
  selectTyped: 0x1c,
  localGet: 0x20,
  globalGet: 0x23,
  globalSet: 0x24,
  i32Const: 0x41,
  i64Const: 0x42,
  f32Const: 0x43,
  f64Const: 0x44,
  i64Add: 0x7c,
  i64ExtendUnsigned: 0xad,
  misc: 0xfc,
  vector: 0xfd,
} as const

const STRUCTURE = new Set<number>([Opcode.block, Opcode.loop, Opcode.else, Opcode.end])
const BRANCHES = new Set<number>([
  Opcode.unreachable,
  Opcode.loop,
  Opcode.if,
  Opcode.else,
  Opcode.end,
  Opcode.br,
  Opcode.brIf,
  Opcode.brTable,
  Opcode.return,
])

/** Says where a block is, and costs nothing. */
export function isStructure(opcode: number): boolean {
  return STRUCTURE.has(opcode)
}

/** What follows may be reached from elsewhere, or not be reached at all. */
export function isBranch(opcode: number): boolean {
  return BRANCHES.has(opcode)
}

/** How many LEB128 numbers follow, by ranges of opcodes: first, last, numbers. */
const NUMBERS: readonly (readonly [number, number, number])[] = [
  [0x00, 0x01, 0], // unreachable, nop
  [0x02, 0x04, 1], // block, loop, if: the type, negative or an index
  [0x05, 0x05, 0],
  [0x0b, 0x0b, 0],
  [0x0c, 0x0d, 1], // br, br_if
  [0x0f, 0x0f, 0],
  [0x10, 0x10, 1], // call
  [0x11, 0x11, 2], // call_indirect
  [0x1a, 0x1b, 0], // drop, select
  [0x20, 0x24, 1], // locals and globals
  [0x25, 0x26, 1], // table.get, table.set
  [0x28, 0x3e, 2], // loads and stores: alignment, offset
  [0x3f, 0x40, 1], // memory.size, memory.grow
  [0x41, 0x42, 1], // i32.const, i64.const
  [0x45, 0xc4, 0], // comparisons, arithmetic, conversions
  [0xd0, 0xd0, 1], // ref.null
  [0xd1, 0xd1, 0],
  [0xd2, 0xd2, 1], // ref.func
]

const MEMORY_COPY = 10
const MEMORY_FILL = 11
/** Numbers behind 0xfc and 0 … 17: saturating truncations, then memory and table instructions. */
const MISC_NUMBERS = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1]

const V128_CONST = 12
const SHUFFLE = 13
const EXTRACT_AND_REPLACE = { first: 21, last: 34 }
const LANE_LOADS_AND_STORES = { first: 84, last: 91 }
const ZERO_LOADS = { first: 92, last: 93 }
const LAST_VECTOR = 255

/** Moves the reader behind the instruction; true for memory.copy and memory.fill. Throws when it is not known. */
export function skipImmediates(reader: BinaryReader, opcode: number): boolean {
  if (opcode === Opcode.misc) return skipMisc(reader)
  if (opcode === Opcode.vector) skipVector(reader)
  else if (opcode === Opcode.f32Const) reader.bytes(4)
  else if (opcode === Opcode.f64Const) reader.bytes(8)
  else if (opcode === Opcode.brTable) skipNumbers(reader, reader.unsigned() + 1)
  else if (opcode === Opcode.selectTyped) reader.bytes(reader.unsigned())
  else {
    const range = NUMBERS.find(([first, last]) => opcode >= first && opcode <= last)
    if (range === undefined) throw new Error(`unknown WebAssembly instruction 0x${opcode.toString(16)}`)
    skipNumbers(reader, range[2])
  }
  return false
}

function skipNumbers(reader: BinaryReader, count: number): void {
  for (let left = count; left > 0; left--) reader.skipNumber()
}

function skipMisc(reader: BinaryReader): boolean {
  const which = reader.unsigned()
  const numbers = MISC_NUMBERS[which]
  if (numbers === undefined) throw new Error(`unknown WebAssembly instruction 0xfc ${which}`)
  skipNumbers(reader, numbers)
  return which === MEMORY_COPY || which === MEMORY_FILL
}

function skipVector(reader: BinaryReader): void {
  const which = reader.unsigned()
  const isIn = ({ first, last }: { first: number; last: number }) => which >= first && which <= last
  if (which > LAST_VECTOR) throw new Error(`unknown WebAssembly instruction 0xfd ${which}`)
  if (which < V128_CONST || isIn(ZERO_LOADS)) skipNumbers(reader, 2)
  else if (which === V128_CONST || which === SHUFFLE) reader.bytes(16)
  else if (isIn(EXTRACT_AND_REPLACE)) reader.bytes(1)
  else if (isIn(LANE_LOADS_AND_STORES)) {
    skipNumbers(reader, 2)
    reader.bytes(1)
  }
}
