import test from 'ava'
import { BitRows } from '../../src/rules/bit-rows.ts'
import { buildDomainTable, findDomain } from '../../src/rules/domain-table.ts'
import { random } from '../helpers/random.ts'

/** The rules, by their place, that a name suits. */
function finder(lists: readonly ({ name: string; below: boolean }[] | undefined)[]) {
  const rows = new BitRows(lists.length)
  const always = new Uint32Array(rows.words)
  lists.forEach((list, at) => {
    if (list === undefined) always[at >> 5]! |= 1 << (at & 31)
  })
  const table = buildDomainTable(lists, always, rows)
  return (domain: string | undefined) => {
    const row = rows.row(findDomain(table, domain))
    return lists.flatMap((_, at) => ((row[at >> 5]! >>> (at & 31)) & 1 ? [at] : []))
  }
}

const exact = (name: string) => ({ name, below: false })
const below = (name: string) => ({ name, below: true })

test('domain-table: a name is itself alone, a suffix is itself and all below it, at a dot', t => {
  const find = finder([
    [exact('example.org')],
    [below('example.org')],
    [below('org')],
    undefined,
    [below('b.example.org')],
  ])
  t.deepEqual(find('example.org'), [0, 1, 2, 3])
  t.deepEqual(find('www.example.org'), [1, 2, 3])
  t.deepEqual(find('a.b.example.org'), [1, 2, 3, 4])
  t.deepEqual(find('notexample.org'), [2, 3])
  t.deepEqual(find('example.org.uk'), [3])
  t.deepEqual(find('org'), [2, 3])
})

test('domain-table: case, the dot of the root and odd names', t => {
  const find = finder([[below('example.org')]])
  t.deepEqual(find('WWW.Example.ORG.'), [0])
  for (const odd of [
    undefined,
    '',
    '.',
    '..',
    '.org',
    'example.org..',
    'exämple.org',
    'example\0org',
    'a'.repeat(300),
  ]) {
    t.deepEqual(find(odd), [], String(odd))
  }
  t.deepEqual(find(`${'a.'.repeat(120)}example.org`), [0])
  t.deepEqual(find(`${'a.'.repeat(122)}example.org`), [], '255 characters are no name')
  t.deepEqual(finder([])('example.org'), [])
})

test('domain-table: 100,000 names are all found, and none besides', t => {
  const next = random(7)
  const word = () => Math.floor(next() * 2 ** 32).toString(36)
  const names = Array.from({ length: 100_000 }, (_, at) => `${word()}.${at % 3 === 0 ? `${word()}.` : ''}example`)
  const find = finder([
    names.filter((_, at) => at % 2 === 0).map(exact),
    names.filter((_, at) => at % 2 === 1).map(below),
  ])
  let wrong = 0
  names.forEach((name, at) => {
    if (find(name).join() !== String(at % 2)) wrong++
    if (find(`x.${name}`).join() !== (at % 2 === 0 ? '' : '1')) wrong++
    if (find(`x${name}`).length > 0) wrong++
  })
  t.is(wrong, 0)
})
