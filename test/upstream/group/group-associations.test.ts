import test from 'ava'
import type { Association } from '../../../src/upstream/dialer.ts'
import { CLIENT } from '../rig.ts'
import { type GroupRig, group } from './group-rig.ts'

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
