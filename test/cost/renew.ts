/** `make cost-base`: measures, and records the costs as the base. Tells what has changed, and what is dearer than it should be. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { compare, compareBesideIdle } from './compare.ts'
import { type Measured, measure } from './run-measure.ts'

const file = new URL('../../../test/cost/base.json', import.meta.url)
const found = await measure()
if (existsSync(file)) {
  const { failures, notes } = compare(JSON.parse(readFileSync(file, 'utf8')) as Measured, found)
  for (const line of [...notes, ...failures]) console.log(line)
}
for (const line of compareBesideIdle(undefined, found)) console.log(`still dear: ${line}`)
writeFileSync(file, `${JSON.stringify(found, undefined, 2)}\n`)
console.log('test/cost/base.json is recorded anew')
