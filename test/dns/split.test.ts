import test from 'ava'
import { SuffixTable } from '../../src/dns/split.ts'

function table(...suffixes: string[]) {
  const made = new SuffixTable<string>()
  for (const suffix of suffixes) made.set(suffix, suffix)
  return made
}

test('split: the longest suffix of whole labels wins', t => {
  const made = table('example.org', 'corp.example.org', 'org', 'x.y.z.example.com')
  for (const [name, found] of [
    ['example.org', 'example.org'],
    ['www.example.org', 'example.org'],
    ['corp.example.org', 'corp.example.org'],
    ['a.b.c.corp.example.org', 'corp.example.org'],
    ['xcorp.example.org', 'example.org'],
    ['notexample.org', 'org'],
    ['org', 'org'],
    ['x.y.z.example.com', 'x.y.z.example.com'],
    ['a.x.y.z.example.com', 'x.y.z.example.com'],
    ['y.z.example.com', undefined],
    ['example.net', undefined],
    ['', undefined],
  ] as const)
    t.is(made.find(name), found, name)
})

test('split: without a suffix nothing is found, with the root all is', t => {
  t.is(table().find('a.example'), undefined)
  for (const root of ['.', '']) {
    const made = table(root, 'cluster.local')
    t.is(made.find('a.example'), root)
    t.is(made.find(''), root)
    t.is(made.find('a.cluster.local'), 'cluster.local')
  }
})

test('split: suffixes are taken with dots around them and in any case; the last of two counts', t => {
  const made = table('.Cluster.LOCAL.')
  t.is(made.find('db.cluster.local'), '.Cluster.LOCAL.')
  made.set('cluster.local', 'b')
  t.is(made.find('db.cluster.local'), 'b')
  t.is(made.size, 1)
})

test('split: names of objects are names, and odd names do no harm', t => {
  const made = table('example')
  for (const name of ['__proto__', 'constructor', 'a.__proto__', '.', '..', 'a..', '.a', '.example.'])
    t.is(made.find(name), undefined, name)
  t.is(made.find('..example'), 'example')
  t.is(made.find(`${'a.'.repeat(126)}example`), 'example')
})
