import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const root = fileURLToPath(new URL('../../', import.meta.url))
const page = readFileSync(`${root}docs/RELIABILITY.md`, 'utf8')
/** `test/stack/guard.test.ts`: the title, or a part of it */
const NAMED = /`(test\/[^`]+\.test\.ts)`: ([^|;]+)/g

test('reliability: each test that docs/RELIABILITY.md names is there, under that title', t => {
  const missing: string[] = []
  for (const [, file, title] of page.matchAll(NAMED)) {
    const text = existsSync(root + file) ? readFileSync(root + file, 'utf8') : ''
    if (!text.includes(title!.trim())) missing.push(`${file}: ${title}`)
  }
  t.deepEqual(missing, [])
})

test('reliability: each promise has its three cells, and a test or a command', t => {
  const rows = page.split('\n').filter(line => line.startsWith('| ') && !line.startsWith('| Promise'))
  for (const row of rows) {
    t.is(row.split(' | ').length, 3, row)
    t.regex(row, /`test\/|`make /, row)
  }
})
