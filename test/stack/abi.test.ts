import test from 'ava'
import { CONSTANT_NAMES, EXPORT_NAMES, type Exports, readAbi, readText } from '../../src/stack/abi.ts'
import { Stack, stackModule } from '../../src/stack/stack.ts'
import { Instance, Module } from '../../src/stack/webassembly.ts'

test('abi: the module imports nothing, so it can never call the host', t => {
  t.deepEqual(Module.imports(stackModule()), [])
})

test('abi: the module exports its memory and exactly the functions that are typed', t => {
  const exports = Module.exports(stackModule())
  const memories = exports.filter(one => one.kind === 'memory').map(one => one.name)
  t.deepEqual(memories, ['memory'])
  const functions = exports.filter(one => one.kind === 'function').map(one => one.name)
  t.deepEqual(functions.sort(), [...EXPORT_NAMES].sort())
  t.is(exports.length, functions.length + 1)
})

test('abi: the table of constants has exactly the names that are typed, each once', t => {
  const x = new Instance(stackModule(), {}).exports as Exports
  x._initialize()
  const words = new Uint32Array(x.memory.buffer)
  const names: string[] = []
  for (let row = x.tg_abi() / 4; words[row] !== 0; row += 2) names.push(readText(x.memory.buffer, words[row]!))
  t.deepEqual(names.sort(), [...CONSTANT_NAMES].sort())
  t.is(new Set(names).size, names.length)
})

test('abi: a module whose table lacks names is refused, and the names are told', t => {
  const empty = { memory: { buffer: new ArrayBuffer(64) }, tg_abi: () => 16 } as unknown as Exports
  t.throws(() => readAbi(empty), { message: /lacks maxFlows, .*counters: build it again/ })
})

const tables = [
  { table: 'flows', row: 'flowBytes', rows: 'maxFlows', align: 4 },
  { table: 'endpoints', row: 'endpointBytes', rows: 'maxEndpoints', align: 4 },
  { table: 'datagrams', row: 'datagramBytes', rows: 'slots', align: 4 },
  { table: 'messages', row: 'messageBytes', rows: 'slots', align: 4 },
  { table: 'slotTable', row: 'iovecBytes', rows: 'slots', align: 4 },
  { table: 'landingTable', row: 'iovecBytes', rows: 'landingSlots', align: 4 },
] as const

test('abi: tables lie inside the memory, aligned, and do not overlap', t => {
  const { abi, memory } = open()
  const spans = tables.map(({ table, row, rows, align }) => {
    t.is(abi[table] % align, 0, table)
    return { table, start: abi[table], end: abi[table] + abi[row] * abi[rows] }
  })
  spans.push({ table: 'scratch' as never, start: abi.scratch, end: abi.scratch + abi.scratchBytes })
  spans.sort((a, b) => a.start - b.start)
  for (const [at, span] of spans.entries()) {
    t.true(span.start > 0 && span.end <= memory.byteLength, span.table)
    if (at > 0) t.true(spans[at - 1]!.end <= span.start, `${spans[at - 1]!.table} runs into ${span.table}`)
  }
  t.is(abi.scratch % 16, 0)
  t.is(abi.counters % 8, 0)
})

test('abi: numbers that the host relies on', t => {
  const { abi } = open()
  t.is(abi.iovecBytes, 8, 'an iovec is {offset, length}')
  t.is(abi.messageBytes, 12, 'a row of writePackets and sendDatagrams')
  t.true(abi.slotBytes >= 12 + 65_535, 'a virtio_net_hdr and the largest packet')
  t.true(abi.landingBytes >= 65_535)
  t.true(abi.headerRoom >= 262 + 22, 'a SOCKS header with a name, behind one with an IPv6 address')
  const bits = [abi.eventSyn, abi.eventOpen, abi.eventData, abi.eventFin, abi.eventRoom, abi.eventGone]
  t.is(
    bits.reduce((all, bit) => all | bit, 0),
    bits.reduce((sum, bit) => sum + bit, 0),
    'each event is a bit of its own',
  )
})

test('abi: every landing slot and every packet slot has its place', t => {
  const stack = open()
  const { abi, words, exports } = stack
  t.is(exports.tg_prepare(), abi.slots)
  const places = (table: number, rows: number) => Array.from({ length: rows }, (_, row) => words[table / 4 + 2 * row]!)
  for (const [table, rows, bytes] of [
    [abi.slotTable, abi.slots, abi.slotBytes],
    [abi.landingTable, abi.landingSlots, abi.landingBytes],
  ] as const) {
    const sorted = places(table, rows).sort((a, b) => a - b)
    for (let at = 1; at < rows; at++) t.true(sorted[at]! - sorted[at - 1]! >= bytes)
    t.true(sorted.at(-1)! + bytes <= stack.memory.byteLength)
  }
})

test('abi: counters have distinct names and start at zero', t => {
  const counters = open().counters()
  t.true(Object.keys(counters).length > 10)
  for (const [name, value] of Object.entries(counters)) {
    t.regex(name, /^[a-z][a-z0-9_]+$/)
    t.is(value, 0, name)
  }
})

function open(): Stack {
  return new Stack({
    mtu: 1500,
    vnetHdr: false,
    uso: false,
    echo: false,
    maxFlows: 16,
    maxEndpoints: 16,
    keepAliveMs: 0,
  })
}
