/** Random and mutated messages through parser, cache and map, and through the whole service: a million each takes minutes. */
import test from 'ava'
import { Hostile, type Tally } from '../dns/hostile.ts'
import { Random } from '../fuzz/random.ts'
import { HostileService, type ServiceTally } from '../resolver/hostile.ts'

const MESSAGES = 1_000_000
/** Of one seed; another one brings other names to the cache and the map. */
const AT_ONCE = 100_000
const SERVED_AT_ONCE = 20_000

test('dns: 1 million random and mutated messages break no promise', t => {
  const all: Tally = { messages: 0, sound: 0, answeredByMap: 0, accepted: 0, kept: 0, stripped: 0 }
  for (let round = 0; round < MESSAGES / AT_ONCE; round++) {
    const hostile = new Hostile(new Random(2_000 + round))
    while (hostile.tally.messages < AT_ONCE) hostile.step()
    for (const [name, count] of Object.entries(hostile.tally)) all[name as keyof Tally] += count
  }
  t.log(all)
  t.true(Math.min(...Object.values(all)) > MESSAGES / 100)
})

test('dns: of 1 million messages to the service each query has its answer, once', async t => {
  const all: ServiceTally = { messages: 0, answered: 0, pending: 0, resolved: 0, foreign: 0 }
  for (let round = 0; all.messages < MESSAGES; round++) {
    const hostile = new HostileService(new Random(5_000 + round), round % 2 === 0)
    while (hostile.tally.messages < SERVED_AT_ONCE) hostile.step()
    hostile.end()
    for (const [name, count] of Object.entries(hostile.tally)) all[name as keyof ServiceTally] += count
    // the runner has its turn
    await new Promise(setImmediate)
  }
  t.log(all)
  t.true(Math.min(...Object.values(all)) > MESSAGES / 100)
})
