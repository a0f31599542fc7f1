import test from 'ava'
import { asked, dial, type GroupRig, group, Scripted } from './group-rig.ts'

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
