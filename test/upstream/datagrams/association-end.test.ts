import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { CLIENT, open } from '../rig.ts'

/** An association with a proxy that says where its relay is and then does `last`. */
async function associate(t: ExecutionContext, behindReply: readonly number[], last: readonly Step[]) {
  const relay = await udpEnd(t)
  const reply = [5, 0, 0, 1, 127, 0, 0, 1, relay.port >> 8, relay.port & 255, ...behindReply]
  const bad = await startBadSocks([{ expect: 3 }, { send: [5, 0] }, { expect: 10 }, { send: reply }, ...last])
  t.teardown(() => bad.close())
  const { dialer, poller } = open(t, bad.port)
  const heard: string[] = []
  const association = dialer.associate(CLIENT, {
    onAssociated: () => heard.push('associated'),
    onAssociationFailed: ({ message }) => heard.push(message),
    onDatagrams() {},
  })
  t.teardown(() => association.close())
  const isRelay = () => dialer.isUpstream({ address: Uint8Array.of(127, 0, 0, 1), port: relay.port })
  return { heard, poller, association, isRelay }
}

const ENDED = 'the proxy ended the association'

for (const [what, behindReply] of [
  ['reply and FIN', []],
  ['reply, other bytes and FIN', [1, 2, 3]],
] as const)
  test(`socks5: ${what} of the control connection come together: the association ends`, async t => {
    const { heard, poller, isRelay } = await associate(t, behindReply, ['end'])
    await until(() => heard.includes(ENDED), 'the end')
    t.deepEqual(heard, ['associated', ENDED])
    t.is(poller.used, 0)
    t.false(isRelay())
  })

test('socks5: reply without FIN: the association stands, and its relay counts as the proxy', async t => {
  const { heard, poller, association, isRelay } = await associate(t, [], ['silence'])
  await until(() => heard.length > 0, 'the association')
  t.deepEqual(heard, ['associated'])
  t.is(poller.used, 2)
  t.true(isRelay())
  association.close()
  t.false(isRelay())
})

test.after.always('socks5: no descriptor is left of any association', t => {
  t.is(addon.openDescriptors(), 0)
})
