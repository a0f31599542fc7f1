import test from 'ava'
import { Random } from '../fuzz/random.ts'
import { HostileService } from './hostile.ts'

for (const withMap of [false, true])
  test(`dns: each of 10,000 random and mutated queries has its answer, once (${withMap ? 'map' : 'auto'})`, t => {
    const hostile = new HostileService(new Random(withMap ? 7 : 8), withMap)
    for (let step = 0; step < 10_000; step++) hostile.step()
    hostile.end()
    t.log(hostile.tally)
    t.true(Math.min(...Object.values(hostile.tally)) > 500)
  })
