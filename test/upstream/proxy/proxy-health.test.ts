import test from 'ava'
import { healthCells, type ProxyFailure, ProxyHealth } from '../../../src/upstream/proxy/proxy-health.ts'

const MINUTE = 60_000

/** Dialers in as many threads, with one log. */
function rig(threads = 1) {
  const said: string[] = []
  const clock = { now: 0 }
  const log = {
    info: (message: string, fields?: object) => said.push(`${message} ${JSON.stringify(fields)}`),
    warn: (message: string, fields?: object) => said.push(`${message} ${JSON.stringify(fields)}`),
  }
  const cells = healthCells()
  const make = () => new ProxyHealth('proxy.test:1080', log, cells, () => clock.now)
  const all = Array.from({ length: threads }, make)
  return { said, clock, all, health: all[0]! }
}

const UP = 'upstream up {"upstream":"proxy.test:1080"}'
const down = (reason: string) => `upstream down {"upstream":"proxy.test:1080","reason":"${reason}"}`

test('proxy-health: a thousand failures are one line, with the first reason; its return is another', t => {
  const { said, health } = rig()
  for (let count = 0; count < 1000; count++) health.failed('unreached', `reason ${count}`)
  t.false(health.isUp)
  for (let count = 0; count < 1000; count++) health.answered()
  t.true(health.isUp)
  t.deepEqual(said, [down('reason 0'), UP])
})

for (const [failure, patience] of [
  ['unreached', 1],
  ['alien', 1],
  ['denied', 1],
  ['closed', 3],
  ['unanswered', 16],
] as const)
  test(`proxy-health: a proxy that was up is down after ${patience} in a row of: ${failure}`, t => {
    const { said, health } = rig()
    health.answered()
    for (let round = 0; round < 2; round++) {
      for (let count = 1; count < patience; count++) t.false(health.failed(failure, 'why'))
      if (round === 0) health.answered()
    }
    t.deepEqual(said, [UP])
    t.true(health.isUp)
    t.true(health.failed(failure, 'why'))
    t.false(health.isUp)
    t.deepEqual(said, [UP, down('why')])
  })

for (const failure of ['unreached', 'closed', 'unanswered', 'alien', 'denied'] as const)
  test(`proxy-health: of a proxy that has never answered the first failure is told: ${failure}`, t => {
    const { said, health } = rig()
    health.failed(failure, 'why')
    t.deepEqual(said, [down('why')])
  })

test('proxy-health: down for another reason is told, the same again is not', t => {
  const { said, health } = rig()
  const failures: readonly ProxyFailure[] = ['unreached', 'closed', 'unanswered', 'denied', 'denied', 'alien']
  for (const failure of failures) health.failed(failure, failure)
  t.deepEqual(said, [down('unreached'), down('denied'), down('alien')])
})

test('proxy-health: a proxy that changes without end: five lines a minute, and the state after it', t => {
  const { said, clock, health } = rig()
  for (; clock.now < MINUTE; clock.now += 100) {
    health.answered()
    health.failed('unreached', 'why')
  }
  t.deepEqual(
    said.map(line => line.split(' {')[0]),
    ['upstream up', 'upstream down', 'upstream up', 'upstream down', 'upstream unsteady'],
  )
  clock.now += 1_000
  health.answered()
  health.answered()
  t.deepEqual(said.slice(5), [UP])
})

test('proxy-health: four changes that lie apart are told each', t => {
  const { said, clock, health } = rig()
  for (let count = 0; count < 20; count++, clock.now += MINUTE / 4) {
    if (count % 2 === 0) health.answered()
    else health.failed('unreached', 'why')
  }
  t.is(said.length, 20)
})

test('proxy-health: several threads tell each change once, whoever sees it', t => {
  const { said, all } = rig(3)
  const [a, b, c] = all as [ProxyHealth, ProxyHealth, ProxyHealth]
  for (const one of [a, b, c]) one.answered()
  a.failed('unreached', 'seen by a')
  b.answered() // had nothing to do while it was down
  c.failed('unreached', 'seen by c')
  a.failed('unreached', 'again')
  t.false(b.isUp)
  t.deepEqual(said, [UP, down('seen by a'), UP, down('seen by c')])
})
