/** Names that are dialed without a proxy. */
import test from 'ava'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { DirectDialer } from '../../../src/upstream/direct/direct-dialer.ts'
import { until } from '../../helpers/sockets.ts'
import { CLIENT, dial, openWith } from '../rig.ts'

test('direct: of names that the resolver does not answer some wait, given up or not, and the rest are told so', async t => {
  const asked: (() => void)[] = []
  const resolve = () =>
    new Promise<never>((_, fail) => void asked.push(() => fail(Object.assign(new Error(), { code: 'EAI_AGAIN' }))))
  const rig = openWith(
    t,
    (poller, arena) => new DirectDialer(poller, arena, { interface: '', mark: 0 }, false, resolve),
    {},
  )
  for (let dials = 0; dials < 1_000; dials++) dial(t, rig, { name: 'a.test', port: 1 }).dial.cancel()
  t.is(asked.length, 256)
  const { outcome } = dial(t, rig, { name: 'a.test', port: 1 })
  t.is(outcome.calls, 0)
  const errors: DialError[] = []
  const listener = { onAssociated: () => t.fail(), onAssociationFailed: (error: DialError) => errors.push(error) }
  rig.dialer.associate(CLIENT, { ...listener, onDatagrams() {} }, 'a.test')
  await until(() => outcome.calls === 1 && errors.length === 1, 'both failures')
  for (const error of [outcome.error, ...errors])
    t.deepEqual(error, { failure: 'no-resources', message: 'too many names are being looked up (256)' })
  for (const fail of asked.splice(0)) fail()
  await until(() => {
    dial(t, rig, { name: 'a.test', port: 1 }).dial.cancel()
    return asked.length > 0
  }, 'room for another')
})
