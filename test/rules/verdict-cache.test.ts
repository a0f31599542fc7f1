import test from 'ava'
import type { ScriptFlow } from '../../src/rules/define-rules.ts'
import { FLOW_FIELDS, VerdictCache } from '../../src/rules/verdict-cache.ts'

const asked: ScriptFlow = { protocol: 'tcp', source: '10.0.0.2', destination: '192.0.2.1', port: 80, domain: '' }
const mask = (...fields: (keyof ScriptFlow)[]) =>
  fields.reduce((sum, field) => sum | (1 << FLOW_FIELDS.indexOf(field)), 0)

test('verdict-cache: each field that was read must be the same, and no other', t => {
  for (const field of FLOW_FIELDS) {
    const cache = new VerdictCache(10, 1_000, () => 0)
    cache.keep(asked, mask(field), 'drop')
    for (const other of FLOW_FIELDS) {
      const changed = { ...asked, [other]: other === 'port' ? 81 : 'other' }
      t.is(cache.find(changed)?.verdict, other === field ? undefined : 'drop', `read ${field}, changed ${other}`)
    }
  }
})

test('verdict-cache: nothing read is one verdict for all', t => {
  const cache = new VerdictCache(10, 1_000, () => 0)
  t.is(cache.find(asked), undefined)
  cache.keep(asked, 0, undefined)
  t.deepEqual(cache.find({ ...asked, port: 9, domain: 'x' })?.verdict, undefined)
  t.truthy(cache.find({ ...asked, port: 9, domain: 'x' }), 'undefined is a verdict too')
})

test('verdict-cache: the least recently used goes at the bound', t => {
  const cache = new VerdictCache(3, 1_000, () => 0)
  const at = (port: number) => ({ ...asked, port })
  for (const port of [1, 2, 3]) cache.keep(at(port), mask('port'), `v${port}`)
  cache.find(at(1))
  cache.keep(at(4), mask('port'), 'v4')
  t.deepEqual(
    [1, 2, 3, 4].map(port => cache.find(at(port))?.verdict),
    ['v1', undefined, 'v3', 'v4'],
  )
  t.is(cache.size, 3)
  cache.keep(asked, mask('protocol', 'source'), 'both')
  t.is(cache.size, 3)
})

test('verdict-cache: an old verdict is none', t => {
  let now = 0
  const cache = new VerdictCache(10, 1_000, () => now)
  cache.keep(asked, mask('port'), 'drop')
  now = 999
  t.is(cache.find(asked)?.verdict, 'drop')
  now = 1_000
  t.is(cache.find(asked), undefined)
  t.is(cache.size, 0)
})
