import test from 'ava'
import type { DialFailure } from '../../../src/upstream/dialer.ts'
import { groupCells } from '../../../src/upstream/group/group-state.ts'
import { DEST } from '../rig.ts'
import { asked, dial, group, Lines, Scripted } from './group-rig.ts'

const DOWN = 'group member down: a: it says upstream-down: → b'
const UP = 'group member up: a: → a'

test('group: failover asks the first member as long as it is up', t => {
  const rig = group(t)
  for (let round = 0; round < 3; round++) {
    const { outcome } = dial(rig)
    rig.members[0]!.succeed()
    t.is(outcome.said, 'connected')
  }
  t.deepEqual(asked(rig), [3, 0])
  t.deepEqual(rig.lines.all, [])
})

test('group: a dial that fails by the fault of a member is made by the next, and the client sees none of it', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  const { outcome } = dial(rig)
  a.fail('upstream-down')
  t.is(outcome.said, undefined)
  b.succeed()
  t.is(outcome.said, 'connected')
  t.is(outcome.calls, 1)
  t.like(rig.dialer.counters(), { group_failovers: 1, group_hedges: 0, group_probes: 1 })
})

const ANSWERS: DialFailure[] = [
  'refused',
  'net-unreachable',
  'host-unreachable',
  'prohibited',
  'ttl-expired',
  'general',
]

for (const failure of ANSWERS)
  test(`group: ${failure} is an answer: no other member is asked`, t => {
    const rig = group(t)
    const { outcome } = dial(rig)
    rig.members[0]!.fail(failure)
    t.is(outcome.said, failure)
    t.is(outcome.message, `it says ${failure}`)
    rig.time.advance(5_000)
    t.deepEqual(asked(rig), [1, 0])
    t.is(rig.members[0]!.probes.length, 0)
  })

for (const failure of ['unsupported', 'no-resources'] as const)
  test(`group: of ${failure} another member is asked, and nobody is blamed`, t => {
    const rig = group(t)
    const { outcome } = dial(rig)
    rig.members[0]!.fail(failure)
    rig.members[1]!.fail('refused')
    t.is(outcome.said, 'refused')
    dial(rig)
    t.deepEqual(asked(rig), [2, 1])
    t.is(rig.members[0]!.probes.length, 0)
  })

test('group: when all have failed the first reason is told, with the name of its member', t => {
  const rig = group(t)
  const { outcome } = dial(rig)
  rig.members[0]!.fail('timeout')
  rig.members[1]!.fail('upstream-down')
  t.is(outcome.said, 'timeout')
  t.is(outcome.message, 'a: it says timeout, and no other member of the group could do it')
  t.is(outcome.calls, 1)
})

test('group: members that fail inside connect() lead to one failure, at once', t => {
  const rig = group(t)
  for (const member of rig.members) member.mood = 'upstream-down'
  const { outcome } = dial(rig)
  t.is(outcome.said, 'upstream-down')
  t.is(outcome.calls, 1)
  rig.members[1]!.mood = 'success'
  t.is(dial(rig).outcome.said, 'connected')
})

test('group: cancel gives up all, and nothing is called any more', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  const { outcome, dial: started } = dial(rig)
  rig.time.advance(2_250)
  started.cancel()
  started.cancel()
  t.true(a.dials[0]!.cancelled && b.dials[0]!.cancelled)
  rig.time.advance(10_000)
  t.is(outcome.calls, 0)
})

test('group: expire tells why the first has no answer', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  const { outcome, dial: started } = dial(rig)
  rig.time.advance(2_250)
  t.deepEqual(started.expire(), { failure: 'timeout', message: 'a: no word from it' })
  t.true(a.dials[0]!.cancelled && b.dials[0]!.cancelled)
  t.is(outcome.calls, 0)
})

test('group: close gives up dials and probes', t => {
  const rig = group(t)
  const [a] = rig.members as [Scripted]
  dial(rig)
  rig.time.advance(2_250)
  rig.dialer.close()
  t.true(a.dials[0]!.cancelled && a.probes[0]!.cancelled)
  t.is(rig.time.timers, 0)
})

test('group: of a member that is a group itself the members are asked in turn', t => {
  const inner = group(t)
  const last = new Scripted()
  last.mood = 'success'
  const outer = group(t, { members: [inner.dialer as unknown as Scripted, last] })
  const { outcome } = dial(outer)
  inner.members[0]!.fail('upstream-down')
  t.is(inner.members[1]!.dials.length, 1)
  t.is(last.dials.length, 0)
  inner.members[1]!.fail('upstream-down')
  t.is(outcome.said, 'connected')
  for (const member of inner.members) member.probeFails()
  inner.time.settle()
  t.deepEqual(outer.lines.all, ['group member down: a: no member of any is up: → b'])
  inner.time.advance(10_000)
  inner.members[0]!.probed()
  outer.time.advance(10_000)
  inner.time.settle()
  t.is(outer.lines.all.at(-1), UP)
})

test('group: threads with the same cells know together who is down, and tell it once', t => {
  const [cells, lines] = [groupCells(2), new Lines()]
  const one = group(t, { cells, lines })
  const two = group(t, { cells, lines })
  dial(one)
  one.members[0]!.fail('upstream-down')
  one.members[0]!.probeFails()
  two.members[1]!.mood = 'success'
  dial(two)
  t.deepEqual(asked(two), [0, 1])
  two.time.advance(10_000)
  two.members[0]!.probeFails()
  t.deepEqual(lines.take(), [DOWN])
  one.time.advance(10_000)
  one.members[0]!.probed()
  dial(two)
  t.deepEqual(asked(two), [1, 0])
  t.deepEqual(lines.take(), [UP])
})

test('group: members that come and go are told of for a while, and then in a minute', t => {
  const rig = group(t, { probeMs: 1_000 })
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  for (let round = 0; round < 12; round++) {
    dial(rig)
    a.fail('upstream-down')
    a.probeFails()
    rig.time.advance(1_000)
    a.probed()
    rig.time.advance(500)
  }
  t.is(rig.lines.all.length, 7)
  t.is(rig.lines.all[6], 'group unsteady: its members come and go: the next changes are told in a minute')
})

test('group: it is its upstream wherever one of its members is, and counts for itself', t => {
  const rig = group(t)
  rig.members[1]!.upstream = DEST.port
  t.true(rig.dialer.isUpstream(DEST))
  t.false(rig.dialer.isUpstream({ ...DEST, port: 1 }))
  dial(rig)
  t.deepEqual(Object.keys(rig.dialer.counters()), [
    'group_failovers',
    'group_hedges',
    'group_probes',
    'group_probe_failures',
  ])
})
