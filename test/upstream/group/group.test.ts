import test from 'ava'
import type { Association, DialFailure } from '../../../src/upstream/dialer.ts'
import { groupCells } from '../../../src/upstream/group/group-state.ts'
import { CLIENT, DEST } from '../rig.ts'
import { asked, dial, type GroupRig, group, Lines, Scripted } from './group-rig.ts'

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

test('group: round-robin takes each member in turn that is sound', t => {
  const members = [new Scripted(), new Scripted(), new Scripted()]
  const rig = group(t, { policy: 'round-robin', members })
  for (const member of members) member.mood = 'success'
  for (let round = 0; round < 6; round++) dial(rig)
  t.deepEqual(asked(rig), [2, 2, 2])
  members[1]!.mood = 'upstream-down'
  while (members[1]!.probes.length === 0) dial(rig)
  members[1]!.probeFails()
  asked(rig)
  for (let round = 0; round < 6; round++) dial(rig)
  t.deepEqual(asked(rig), [3, 0, 3])
  t.deepEqual(rig.lines.all, ['group member down: b: it says upstream-down: → a, c'])
})

/**
 * For so many milliseconds each probe is answered after `probeMs` of its member, and a dial a second after `dialMs`. How many dials
 * each has had.
 */
function use(rig: GroupRig, forMs: number, probeMs: readonly number[], dialMs: readonly number[]): number[] {
  const counts = rig.members.map(() => 0)
  const after = (ms: number, work: () => void) => void rig.time.after(ms, work)
  for (let ms = 0; ms < forMs; ms += 10) {
    if (ms % 1_000 === 0) dial(rig)
    for (const [at, { dials, probes }] of rig.members.entries()) {
      for (const { listener } of probes.splice(0)) after(probeMs[at]!, () => listener.onProbed())
      for (const asked of dials.splice(0)) {
        counts[at]!++
        after(dialMs[at]!, () => rig.members[at]!.succeed(asked))
      }
    }
    rig.time.advance(10)
  }
  return counts
}

test('group: least-latency takes the fastest by its probes, and stays with it for a small gain', t => {
  const rig = group(t, { policy: 'least-latency', probeMs: 1_000 })
  use(rig, 5_000, [100, 30], [100, 30])
  t.deepEqual(use(rig, 5_000, [100, 30], [100, 30]), [0, 5])
  t.deepEqual(use(rig, 30_000, [26, 30], [26, 30]), [0, 30], 'not worth it')
  use(rig, 10_000, [26, 300], [26, 300])
  t.deepEqual(use(rig, 5_000, [26, 300], [26, 300]), [5, 0])
})

test('group: least-latency learns from live dials, and tries again after a while whom they have slowed', t => {
  const rig = group(t, { policy: 'least-latency', probeMs: 1_000 })
  use(rig, 3_000, [10, 30], [10, 30])
  const [slow, other] = use(rig, 10_000, [10, 30], [300, 30]) as [number, number]
  t.true(slow > 0 && slow < 5 && other > 5, `${slow} slow dials`)
  const [again] = use(rig, 60_000, [10, 30], [300, 30]) as [number]
  t.true(again > 0 && again < 15, `${again} of 60`)
})

test('group: least-latency measures nobody while the group is idle', t => {
  const rig = group(t, { policy: 'least-latency', probeMs: 1_000 })
  use(rig, 2_000, [10, 10], [10, 10])
  const [a, b] = rig.members as [Scripted, Scripted]
  for (let ms = 0; ms < 10_000; ms += 100) {
    rig.time.advance(100)
    for (const member of rig.members) for (const { listener } of member.probes.splice(0)) listener.onProbed()
  }
  rig.time.advance(60_000)
  t.deepEqual([a.probes.length, b.probes.length], [0, 0])
  t.is(rig.time.timers, 0)
})

function associate({ dialer }: GroupRig) {
  const outcome = { association: undefined as Association | undefined, failure: '', datagrams: 0 }
  const associating = dialer.associate(CLIENT, {
    onAssociated(association) {
      outcome.association = association
    },
    onAssociationFailed(error) {
      outcome.failure = error.failure
    },
    onDatagrams() {
      outcome.datagrams++
    },
  })
  return { outcome, associating }
}

for (const failure of ['unsupported', 'prohibited', 'refused', 'upstream-down', 'general'] as const)
  test(`group: a member that answers an association with ${failure} is followed by the next`, t => {
    const rig = group(t)
    const { outcome } = associate(rig)
    rig.members[0]!.associations[0]!.listener.onAssociationFailed({ failure, message: '' })
    const made = { close() {} } as unknown as Association
    rig.members[1]!.associations[0]!.listener.onAssociated(made)
    t.is(outcome.association, made)
    rig.members[1]!.associations[0]!.listener.onDatagrams()
    t.is(outcome.datagrams, 1)
    t.is(rig.members[0]!.probes.length, failure === 'upstream-down' ? 1 : 0)
  })

test('group: an association that ends by the fault of its member is told, and the member looked at', t => {
  const rig = group(t)
  const { outcome } = associate(rig)
  const { listener } = rig.members[0]!.associations[0]!
  listener.onAssociated({ close() {} } as unknown as Association)
  listener.onAssociationFailed({ failure: 'upstream-down', message: 'gone' })
  t.is(outcome.failure, 'upstream-down')
  t.is(rig.members[0]!.probes.length, 1)
  rig.members[0]!.probeFails()
  associate(rig)
  t.deepEqual(
    rig.members.map(member => member.associations.length),
    [1, 1],
  )
})

test('group: an association that is given up is given up with all members', t => {
  const rig = group(t)
  const { associating } = associate(rig)
  rig.time.advance(2_250)
  associating.close()
  t.true(rig.members.every(member => member.associations[0]!.cancelled))
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
