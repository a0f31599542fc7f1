import { readFileSync } from 'node:fs'
import test from 'ava'
import { compare, compareBesideIdle, describe, nearer } from './compare.ts'
import { type Measured, measure } from './run-measure.ts'

const base = JSON.parse(readFileSync(new URL('../../../test/cost/base.json', import.meta.url), 'utf8')) as Measured
let found: Measured

test.before(async t => {
  t.timeout(300_000)
  found = await measure()
  // how malloc's free lists lie, and in which turn a socket is ready, is chance: what is dearer is so each time
  if (compare(base, found).failures.length > 0) found = nearer(base, found, await measure())
})

test('cost: calls, instructions and heap of each operation are those of the base', t => {
  const { failures, notes } = compare(base, found)
  for (const note of notes) t.log(note)
  if (failures.length > 0) t.fail(describe(failures))
  else t.pass()
})

test('cost: 10,000 idle flows beside make no operation dearer than the base allows', t => {
  const failures = compareBesideIdle(base, found)
  if (failures.length > 0) t.fail(describe(failures))
  else t.pass()
})
