import test from 'ava'
import { asked, dial, group, Scripted } from './group-rig.ts'

const DOWN = 'group member down: a: it says upstream-down: → b'
const UP = 'group member up: a: → a'

test('group: a member that is down is passed over until a probe finds it up, within its probe time; each change is one line', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  dial(rig)
  a.fail('upstream-down')
  a.probeFails()
  t.deepEqual(rig.lines.take(), [DOWN])
  asked(rig)
  for (let round = 0; round < 30; round++) {
    dial(rig)
    rig.time.advance(100)
  }
  t.deepEqual(asked(rig), [0, 30])
  t.is(a.probes.length, 1)
  rig.time.advance(7_000)
  t.is(a.probes.length, 2, 'its pause, and not more, is over')
  a.probeFails()
  t.deepEqual(rig.lines.take(), [], 'down it was before')
  for (let round = 0; round < 8; round++) {
    rig.time.advance(9_600)
    t.is(a.probes.length, 3 + round)
    if (round < 7) a.probeFails()
  }
  a.probed()
  t.deepEqual(rig.lines.take(), [UP])
  dial(rig)
  t.deepEqual(asked(rig), [1, 0])
})

test('group: after 2 s of silence the next member is asked beside the first; who answers first is taken, and the other given up', t => {
  for (const winner of [0, 1] as const) {
    const rig = group(t)
    const { outcome } = dial(rig)
    rig.time.advance(1_900)
    t.is(rig.members[1]!.dials.length, 0)
    rig.time.advance(400)
    t.is(rig.members[1]!.dials.length, 1)
    rig.members[winner]!.succeed()
    t.is(outcome.said, 'connected')
    t.true(rig.members[1 - winner]!.dials[0]!.cancelled)
    t.false(rig.members[winner]!.dials[0]!.cancelled)
    t.like(rig.dialer.counters(), { group_hedges: 1, group_failovers: 0 })
  }
})

test('group: a member that answers others is not to blame for a slow destination', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  const slow = dial(rig)
  for (let round = 0; round < 8; round++) {
    rig.time.advance(1_000)
    dial(rig)
    a.succeed()
  }
  t.is(b.dials.length, 0)
  a.succeed(a.dials[0])
  t.is(slow.outcome.said, 'connected')
})

test('group: one that answered others and then fell silent is left all the same', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  const { outcome } = dial(rig)
  dial(rig)
  rig.time.advance(100)
  a.succeed(a.dials[1])
  rig.time.advance(2_500)
  t.is(outcome.said, 'connected')
})

test('group: a probe that is not answered counts for less than dials that are', t => {
  const rig = group(t)
  const [a] = rig.members as [Scripted]
  dial(rig)
  rig.time.advance(600)
  t.is(a.probes.length, 1)
  a.succeed()
  rig.time.advance(2_500)
  t.true(a.probes[0]!.cancelled)
  t.deepEqual(asked(rig), [1, 0])
  dial(rig)
  t.deepEqual(asked(rig), [1, 0])
})

test('group: one that stays silent to a probe too is down, and what waits for it goes on', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  dial(rig)
  a.succeed()
  rig.time.advance(1_000)
  b.probed()
  dial(rig)
  rig.time.advance(2_250)
  t.is(a.probes.length, 1, 'its silence is looked into')
  t.is(b.dials.length, 1)
  b.succeed()
  t.is(dial(rig).outcome.said, undefined)
  t.is(a.dials.length, 2, 'meanwhile others are asked')
  rig.time.advance(2_250)
  t.true(a.probes[0]!.cancelled)
  t.deepEqual(rig.lines.take(), ['group member down: a: no answer to a probe within 2 s: → b'])
})

test('group: a dial begun before its member was found to be down goes on when that is known', t => {
  const rig = group(t, { members: [new Scripted(), new Scripted(), new Scripted()] })
  const [a, b] = rig.members as [Scripted, Scripted, Scripted]
  b.mood = 'success'
  const early = dial(rig)
  rig.time.advance(1_000)
  const late = dial(rig)
  a.fail('upstream-down', a.dials[0])
  t.is(early.outcome.said, 'connected')
  t.is(late.outcome.said, undefined)
  rig.time.advance(600)
  a.probeFails()
  t.is(late.outcome.said, 'connected', '0.6 s after it was begun, not 2 s')
})

test('group: also one whose member has answered others a moment before', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  const early = dial(rig)
  rig.time.advance(1_000)
  dial(rig)
  a.succeed()
  dial(rig)
  rig.time.advance(100)
  a.fail('upstream-down')
  a.probeFails()
  t.is(early.outcome.said, 'connected')
})

test('group: a member that closes where it should refuse is found to be up at once, without a line', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'refused'
  for (let round = 0; round < 20; round++) {
    const { outcome } = dial(rig)
    a.fail('upstream-down')
    t.is(outcome.said, 'refused')
    if (a.probes.length > 0) a.probed()
    rig.time.advance(10)
  }
  dial(rig)
  t.is(a.dials.length, 21)
  t.true(a.probes.length < 4, `${a.probes.length} probes`)
  t.deepEqual(rig.lines.all, [])
})

test('group: a member that refuses the password is down, and is not asked for half a minute', t => {
  const rig = group(t, { probeMs: 1_000 })
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  dial(rig)
  a.fail('authentication')
  t.deepEqual(rig.lines.take(), ['group member down: a: it says authentication: → b'])
  rig.time.advance(29_000)
  t.is(a.probes.length, 0)
  rig.time.advance(1_500)
  t.is(a.probes.length, 1)
})

test('group: what this machine lacks for a probe says nothing of the member', t => {
  const rig = group(t)
  const [a] = rig.members as [Scripted]
  dial(rig)
  a.fail('upstream-down')
  a.probeFails('no-resources')
  t.deepEqual(rig.lines.all, [])
  rig.time.advance(10_000)
  t.is(a.probes.length, 2)
})

test('group: without a probe three failures in a row make a member down, and a dial tries it again after a while', t => {
  const rig = group(t, { members: [new Scripted(false), new Scripted(false)] })
  const [a, b] = rig.members as [Scripted, Scripted]
  a.mood = 'upstream-down'
  b.mood = 'upstream-down'
  for (let round = 0; round < 2; round++) dial(rig)
  t.deepEqual(rig.lines.all, [])
  dial(rig)
  t.deepEqual(rig.lines.take(), [DOWN, 'group member down: b: it says upstream-down: → none'])
  a.mood = 'success'
  b.mood = 'success'
  asked(rig)
  rig.time.advance(10_000)
  dial(rig)
  t.deepEqual(asked(rig), [1, 0])
  t.deepEqual(rig.lines.take(), ['group member up: a: → a'])
})

test('group: without a probe one failure makes others preferred, for a while', t => {
  const rig = group(t, { members: [new Scripted(false), new Scripted(false)] })
  const [a, b] = rig.members as [Scripted, Scripted]
  b.mood = 'success'
  dial(rig)
  a.fail('upstream-down')
  dial(rig)
  t.deepEqual(asked(rig), [1, 2])
  rig.time.advance(5_000)
  dial(rig)
  t.deepEqual(asked(rig), [0, 1])
  rig.time.advance(5_000)
  dial(rig)
  t.deepEqual(asked(rig), [1, 0])
})

test('group: without a probe a time-out is taken for the destination to be slow', t => {
  const rig = group(t, { members: [new Scripted(false), new Scripted(false)] })
  for (let round = 0; round < 5; round++) {
    dial(rig)
    rig.members[0]!.fail('timeout')
    rig.members[1]!.fail('timeout')
  }
  t.deepEqual(asked(rig), [5, 5])
  t.deepEqual(rig.lines.all, [])
})

test('group: when all are down they are still asked, in their order', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  dial(rig)
  a.fail('upstream-down')
  b.fail('upstream-down')
  a.probeFails()
  b.probeFails()
  t.deepEqual(rig.lines.take(), [DOWN, 'group member down: b: it says upstream-down: → none'])
  const { outcome } = dial(rig)
  a.succeed()
  t.is(outcome.said, 'connected')
  t.deepEqual(rig.lines.take(), [UP])
})

test('group: nobody is probed before the first dial, members that nobody asked after it, and those that are up never', t => {
  const rig = group(t)
  const [a, b] = rig.members as [Scripted, Scripted]
  rig.time.advance(60_000)
  dial(rig)
  a.succeed()
  rig.time.advance(450)
  t.is(b.probes.length, 0)
  rig.time.advance(100)
  t.is(b.probes.length, 1)
  b.probed()
  rig.time.advance(600_000)
  t.deepEqual([a.probes.length, b.probes.length], [0, 1])
  t.is(rig.time.timers, 0, 'an idle group sleeps')
})
