import test from 'ava'
import { besideIdle, compare, compareBesideIdle, describe, nearer } from './compare.ts'
import type { Counts } from './probe.ts'
import type { Measured } from './run-measure.ts'
import { countTokens } from './tokens.ts'

const MADE = { clang: '14', node: '20', lwip: '2.2.1' }
const COSTS: Counts = { 'wasm instructions': 1_000, 'js calls': 100, 'heap bytes': 1_000, 'call read': 2 }

const measured = (costs: Counts, made: Partial<typeof MADE> = {}): Measured => ({
  made: { ...MADE, ...made },
  operations: { segment: { ...COSTS, ...costs } },
})

test('compare: inside of the tolerance nothing is said', t => {
  const found = measured({ 'wasm instructions': 1_049, 'js calls': 98, 'heap bytes': 1_160 })
  t.deepEqual(compare(measured({}), found), { failures: [], notes: [] })
})

test('compare: outside of it the operation, the count, both figures and the tolerance are told', t => {
  const { failures } = compare(measured({}), measured({ 'wasm instructions': 1_100, 'call read': 3, 'call recv': 1 }))
  t.deepEqual(failures, [
    'segment: wasm instructions: base 1000, found 1100 (+10.0 %, tolerance ±5 %): dearer',
    'segment: call read: base 2, found 3 (+50.0 %, tolerance ±2 %): dearer',
    'segment: call recv: base 0, found 1 (new, tolerance ±2 %): dearer',
  ])
  t.regex(describe(failures), /make cost-base/)
})

test('compare: of two measurements each count is the nearer one, and what both have is a failure', t => {
  const base = measured({})
  const [one, other] = [
    measured({ 'wasm instructions': 1_400, 'js calls': 110, 'call recv': 1 }),
    measured({ 'wasm instructions': 1_010, 'js calls': 120 }),
  ]
  t.deepEqual(nearer(base, one, other).operations.segment, {
    ...COSTS,
    'wasm instructions': 1_010,
    'js calls': 110,
    'call recv': 0,
  })
  t.is(compare(base, nearer(base, one, other)).failures.length, 1)
})

test('compare: what became cheaper asks for a new base', t => {
  const { failures } = compare(measured({}), measured({ 'wasm instructions': 500 }))
  t.is(failures.length, 1)
  t.regex(failures[0]!, /-50\.0 %.*cheaper: renew/)
})

test('compare: an operation that only one side has is told', t => {
  const empty = { made: MADE, operations: {} }
  t.regex(compare(empty, measured({})).failures[0]!, /the base does not have it/)
  t.regex(compare(measured({}), empty).failures[0]!, /was not measured/)
})

test('compare: instructions of another compiler, and heap of another Node.js, are not compared, which is said', t => {
  const dearer = { 'wasm instructions': 2_000, 'call read': 3 }
  const other = compare(measured({}), measured(dearer, { clang: '19' }))
  t.deepEqual(other.failures, ['segment: call read: base 2, found 3 (+50.0 %, tolerance ±2 %): dearer'])
  t.regex(other.notes[0]!, /^not compared: wasm instructions, .* recorded with clang 14, this is 19$/)
  const newer = compare(measured({}), measured({ 'heap bytes': 9_000, 'js calls': 1 }, { node: '22' }))
  t.is(newer.failures.length, 0)
  t.regex(newer.notes[0]!, /Node\.js 20, this is 22$/)
})

test('compare: idle flows beside may cost a tenth, or what the base says', t => {
  const pair = (beside: number): Measured => ({
    made: MADE,
    operations: { segment: COSTS, [besideIdle('segment')]: { ...COSTS, 'wasm instructions': beside } },
  })
  t.deepEqual(compareBesideIdle(pair(1_000), pair(1_100)), [])
  t.deepEqual(compareBesideIdle(pair(1_000), pair(1_101)), [
    'segment, beside 10000 idle flows: wasm instructions: alone 1000, beside 1101: 1.10 times, at most 1.10',
  ])
  t.deepEqual(compareBesideIdle(pair(5_000), pair(5_100)), [])
  t.is(compareBesideIdle(pair(5_000), pair(5_500)).length, 1)
  t.is(compareBesideIdle(undefined, pair(5_000)).length, 1)
})

test('compare: tokens are counted without comments', t => {
  const source = "a(b, 'c d') // e f\n/* g\n h */ if (x === 1) y++"
  t.is(countTokens(source)(0, source.length), 6 + 7 + 1)
  t.is(countTokens(source)(2, 9), 3)
})
