import { readFileSync } from 'node:fs'
import test from 'ava'
import { Instance, Module } from '../../src/stack/webassembly.ts'
import { unsigned } from './wasm-binary.ts'
import { compilerVersion, meterModule } from './wasm-meter.ts'

const END = 0x0b

function vector(entries: readonly (readonly number[])[]): number[] {
  return [...unsigned(entries.length), ...entries.flat()]
}

function section(id: number, body: readonly number[]): number[] {
  return [id, ...unsigned(body.length), ...body]
}

/** A module of one function `run(i32) → i32` with a global and a memory of one page. */
function moduleOf(code: readonly number[], more: readonly number[] = []): Uint8Array {
  const body = [...vector([]), ...code, END]
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...more,
    ...section(1, vector([[0x60, 1, 0x7f, 1, 0x7f]])),
    ...section(3, vector([[0]])),
    ...section(5, vector([[0, 1]])),
    ...section(6, vector([[0x7f, 1, 0x41, 5, END]])),
    ...section(7, vector([[3, ...Buffer.from('run'), 0, 0]])),
    ...section(10, vector([[...unsigned(body.length), ...body]])),
  ])
}

interface Metered {
  run(argument: number): number
  readonly meter_instructions: { value: bigint }
  readonly meter_bytes: { value: bigint }
}

function metered(module: Uint8Array): Metered {
  return new Instance(new Module(meterModule(module)), {}).exports as Metered
}

test('wasm-meter: straight code costs its length, each time', t => {
  // local.get 0; global.get 0; i32.add
  const { run, meter_instructions: cost } = metered(moduleOf([0x20, 0, 0x23, 0, 0x6a]))
  t.is(run(2), 7)
  t.is(cost.value, 3n)
  run(2)
  t.is(cost.value, 6n)
})

test('wasm-meter: a loop costs what it runs, a branch what it takes', t => {
  const loop = [
    ...[0x03, 0x40], // loop
    ...[0x20, 0, 0x41, 1, 0x6b, 0x22, 0], // local.get 0; i32.const 1; i32.sub; local.tee 0
    ...[0x0d, 0, END], // br_if 0; end
    ...[0x20, 0], // local.get 0
  ]
  const { run, meter_instructions: cost } = metered(moduleOf(loop))
  t.is(run(10), 0)
  t.is(cost.value, 10n * 5n + 1n)
  const choice = [
    ...[0x20, 0, 0x04, 0x7f], // local.get 0; if i32
    ...[0x41, 1, 0x41, 1, 0x6a], // i32.const 1; i32.const 1; i32.add
    ...[0x05, 0x41, 9, END], // else; i32.const 9; end
  ]
  const other = metered(moduleOf(choice))
  t.is(other.run(1), 2)
  t.is(other.meter_instructions.value, 5n)
  t.is(other.run(0), 9)
  t.is(other.meter_instructions.value, 5n + 3n)
})

test('wasm-meter: a stretch longer than seven bits of a signed number holds', t => {
  for (const length of [40, 64, 100, 127, 128, 8_191, 8_192, 10_000]) {
    const nops = Array.from({ length }, () => 0x01)
    const { run, meter_instructions: cost } = metered(moduleOf([...nops, 0x20, 0]))
    t.is(run(3), 3)
    t.is(cost.value, BigInt(length + 1))
  }
})

test('wasm-meter: memory.copy and memory.fill count their bytes, and still move them', t => {
  const code = [
    ...[0x41, 0, 0x41, 7, 0x20, 0, 0xfc, 11, 0], // fill from 0 with 7, local 0 bytes
    ...[0x41, ...[0x80, 0x08], 0x41, 0, 0x20, 0, 0xfc, 10, 0, 0], // copy to 1024 from 0, local 0 bytes
    ...[0x41, ...[0x80, 0x08], 0x2d, 0, 0], // load8_u of 1024
  ]
  const { run, meter_instructions: cost, meter_bytes: bytes } = metered(moduleOf(code))
  t.is(run(100), 7)
  t.is(bytes.value, 200n)
  t.is(cost.value, 10n)
})

test('wasm-meter: what is not known is an error, not a wrong count', t => {
  t.throws(() => meterModule(moduleOf([0x06, 0x40, END])), { message: /unknown WebAssembly instruction 0x6/ })
  const imports = section(2, vector([[1, 0x61, 1, 0x62, 3, 0x7f, 0]]))
  t.throws(() => meterModule(moduleOf([0x20, 0], imports)), { message: /imports/ })
})

test('wasm-meter: the module of lwIP says its compiler, and has two more exports', t => {
  const bytes = readFileSync(new URL('../../../wasm/lwip.wasm', import.meta.url))
  t.regex(compilerVersion(bytes), /^\d+\./)
  const names = (module: Uint8Array) => Module.exports(new Module(module)).map(({ name }) => name)
  t.deepEqual(names(meterModule(bytes)), [...names(bytes), 'meter_instructions', 'meter_bytes'])
})
