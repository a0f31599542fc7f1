/**
 * Puts a meter into a WebAssembly module: the same module, which also counts the instructions that it executes and the
 * bytes that memory.copy and memory.fill move. Exact, and the same on every machine and with every compiler tier.
 *
 * The binary format is that of the WebAssembly core specification 2.0, chapter 5. Each stretch of straight code adds its
 * length to a counter before it is run. `block`, `loop`, `else` and `end` are structure and count for nothing.
 */
import { BinaryReader, unsigned } from './wasm-binary.ts'
import { isBranch, isStructure, Opcode, skipImmediates } from './wasm-opcodes.ts'

/** Names of the exports that a metered module has more: mutable globals of type i64. */
export const METER = { instructions: 'meter_instructions', bytes: 'meter_bytes' } as const

const Section = { custom: 0, import: 2, global: 6, export: 7, code: 10 } as const
const MAGIC_AND_VERSION = 8
const GLOBAL_KIND = 3
const I32 = 0x7f
const I64 = 0x7e
const MUTABLE = 1

interface Globals {
  readonly instructions: number
  readonly bytes: number
  /** Where a length rests while it is counted. */
  readonly scratch: number
}

/** Throws when the module imports globals, or uses an instruction that is not known here. */
export function meterModule(module: Uint8Array): Uint8Array {
  const sections = readSections(module)
  const first = countGlobals(sections)
  const globals: Globals = { instructions: first, bytes: first + 1, scratch: first + 2 }
  const out: Uint8Array[] = [module.subarray(0, MAGIC_AND_VERSION)]
  for (const { id, body } of sections) out.push(section(id, rewriteSection(id, body, globals)))
  return Buffer.concat(out)
}

interface ModuleSection {
  readonly id: number
  readonly body: Uint8Array
}

function readSections(module: Uint8Array): ModuleSection[] {
  const reader = new BinaryReader(module, MAGIC_AND_VERSION)
  const sections: ModuleSection[] = []
  while (!reader.atEnd) {
    const id = reader.byte()
    sections.push({ id, body: reader.bytes(reader.unsigned()) })
  }
  return sections
}

/** Ours come behind those that are there, so no index changes. */
function countGlobals(sections: readonly ModuleSection[]): number {
  if (sections.some(({ id }) => id === Section.import)) throw new Error('a module with imports cannot be metered')
  for (const id of [Section.global, Section.export, Section.code]) {
    if (!sections.some(one => one.id === id)) throw new Error(`the module has no section ${id}`)
  }
  return new BinaryReader(sections.find(({ id }) => id === Section.global)!.body).unsigned()
}

function section(id: number, body: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(id), unsigned(body.length), body])
}

function rewriteSection(id: number, body: Uint8Array, globals: Globals): Uint8Array {
  if (id === Section.global) return appended(body, [global(I64), global(I64), global(I32)])
  if (id === Section.export) {
    return appended(body, [exported(METER.instructions, globals.instructions), exported(METER.bytes, globals.bytes)])
  }
  return id === Section.code ? rewriteCode(body, globals) : body
}

/** A vector with more entries. */
function appended(body: Uint8Array, entries: readonly Uint8Array[]): Uint8Array {
  const reader = new BinaryReader(body)
  return Buffer.concat([unsigned(reader.unsigned() + entries.length), reader.rest(), ...entries])
}

function global(type: number): Uint8Array {
  return Uint8Array.of(type, MUTABLE, type === I64 ? Opcode.i64Const : Opcode.i32Const, 0, Opcode.end)
}

function exported(name: string, index: number): Uint8Array {
  return Buffer.concat([unsigned(name.length), Buffer.from(name), Uint8Array.of(GLOBAL_KIND), unsigned(index)])
}

function rewriteCode(body: Uint8Array, globals: Globals): Uint8Array {
  const reader = new BinaryReader(body)
  const count = reader.unsigned()
  const out: Uint8Array[] = [unsigned(count)]
  for (let at = 0; at < count; at++) {
    const code = rewriteFunction(reader.bytes(reader.unsigned()), globals)
    out.push(unsigned(code.length), code)
  }
  return Buffer.concat(out)
}

function rewriteFunction(code: Uint8Array, globals: Globals): Uint8Array {
  const reader = new BinaryReader(code)
  for (let groups = reader.unsigned(); groups > 0; groups--) {
    reader.unsigned()
    reader.byte()
  }
  const out: Uint8Array[] = [code.subarray(0, reader.at)]
  let stretch: Uint8Array[] = []
  let length = 0
  while (!reader.atEnd) {
    const from = reader.at
    const opcode = reader.byte()
    const isMove = skipImmediates(reader, opcode)
    if (isMove) stretch.push(countBytes(globals))
    stretch.push(code.subarray(from, reader.at))
    if (!isStructure(opcode)) length++
    if (!isBranch(opcode)) continue
    if (length > 0) out.push(add(globals.instructions, length))
    out.push(...stretch)
    stretch = []
    length = 0
  }
  return Buffer.concat(out)
}

function add(index: number, amount: number): Uint8Array {
  // i64.const is a signed LEB128: with a seventh bit of 0 an unsigned one of the same bytes is the same number
  const number = unsigned(amount)
  const constant = number.at(-1)! & 0x40 ? Buffer.concat([leadingOn(number), Uint8Array.of(0)]) : number
  return Buffer.concat([get(index), Uint8Array.of(Opcode.i64Const), constant, Uint8Array.of(Opcode.i64Add), set(index)])
}

function leadingOn(number: Uint8Array): Uint8Array {
  return Uint8Array.from(number, (byte, at) => (at === number.length - 1 ? byte | 0x80 : byte))
}

/** In front of memory.copy and memory.fill: the length lies on top of the stack, and stays there. */
function countBytes({ scratch, bytes }: Globals): Uint8Array {
  return Buffer.concat([
    set(scratch),
    get(bytes),
    get(scratch),
    Uint8Array.of(Opcode.i64ExtendUnsigned, Opcode.i64Add),
    set(bytes),
    get(scratch),
  ])
}

function get(index: number): Uint8Array {
  return Buffer.concat([Uint8Array.of(Opcode.globalGet), unsigned(index)])
}

function set(index: number): Uint8Array {
  return Buffer.concat([Uint8Array.of(Opcode.globalSet), unsigned(index)])
}

/** Which compiler made the module, of its `producers` section (tool conventions): `14.0.6`; '' when it does not say. */
export function compilerVersion(module: Uint8Array): string {
  const custom = readSections(module).filter(({ id }) => id === Section.custom)
  for (const { body } of custom) {
    const reader = new BinaryReader(body)
    if (reader.text() !== 'producers') continue
    for (let fields = reader.unsigned(); fields > 0; fields--) {
      const field = reader.text()
      for (let values = reader.unsigned(); values > 0; values--) {
        const name = reader.text()
        const version = reader.text()
        if (field === 'processed-by' && name.includes('clang')) return version
      }
    }
  }
  return ''
}
