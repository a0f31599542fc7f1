import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { startBadSocks } from '../../helpers/bad-socks.ts'
import { closedPort, udpEnd, until } from '../../helpers/sockets.ts'
import { scriptOf } from '../../helpers/socks-faults.ts'
import { CLIENT, open, openUrl, SCRATCH } from '../rig.ts'
import { ASKED, associate, receive, SENT, send } from './frames-rig.ts'

test('udp-climb: a proxy without relay is asked for UDP in TCP by the same client, and by the next one first', async t => {
  const bad = await startBadSocks(scriptOf(['udp in tcp', 'full cone']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const end = await udpEnd(t)
  const heard = associate(t, rig)
  await until(() => heard.made.length === 1, 'the association')
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 5],
  )
  const second = associate(t, rig)
  await until(() => second.made.length === 1, 'the next association')
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 5, 5],
  )
  const address = parseAddress('127.0.0.1')!
  rig.bytes.set(address, SENT)
  const header = second.made[0]!.writeHeader(SENT + 64, SENT, 4, end.port, 2)
  rig.bytes.set(Buffer.from('hi'), SENT + 64 + header)
  rig.words.set([0, 1, 0, SENT + 64, header + 2], SCRATCH / 4)
  t.is(second.made[0]!.send(SCRATCH, SCRATCH + 12, 1), 1)
  const { message, peer } = await end.next()
  t.is(message.toString(), 'hi')
  end.send(Buffer.from('answer'), peer.port)
  const got: string[] = []
  await until(() => got.push(...receive(rig, second.made[0]!)) > 0, 'the answer')
  t.deepEqual(got, [`7f000001:${end.port} answer`])
})

test('udp-climb: a proxy without either is asked once; then each fails at once, without a connection', async t => {
  const bad = await startBadSocks(scriptOf(['reply', 7]))
  t.teardown(() => bad.close())
  const lines: string[] = []
  const line = (message = '') => void lines.push(message)
  const rig = open(t, bad.port, {}, { info: line, warn: line })
  const first = associate(t, rig)
  await until(() => first.failed.length === 1, 'the refusal')
  t.is(first.failed[0]!.failure, 'unsupported')
  t.is(first.failed[0]!.message, 'the proxy answered 7 (command not supported)')
  t.is(bad.received.length, 2)
  const second = associate(t, rig)
  t.is(second.failed.length, 1, 'within the call')
  t.is(second.failed[0]!.failure, 'unsupported')
  t.is(bad.received.length, 2)
  t.deepEqual(lines, ['upstream up', 'the proxy carries no UDP: datagrams are answered with port unreachable'])
})

for (const kind of ['http', 'socks4', 'socks4a'])
  test(`udp-climb: ${kind} has no UDP: nobody is asked, and one line says so`, async t => {
    const port = await closedPort()
    const lines: string[] = []
    const line = (message = '') => void lines.push(message)
    const rig = openUrl(t, `${kind}://127.0.0.1:${port}`, { info: line, warn: line })
    const failed: DialError[] = []
    const listener = {
      onAssociated: () => t.fail(),
      onAssociationFailed: (error: DialError) => failed.push(error),
      onDatagrams() {},
    }
    for (let count = 1; count <= 3; count++) {
      rig.dialer.associate(CLIENT, listener)
      t.is(failed.length, count, 'within the call')
      t.is(failed.at(-1)!.failure, 'unsupported')
    }
    t.is(rig.poller.used, 0)
    t.deepEqual(lines, ['the proxy carries no UDP: datagrams are answered with port unreachable'])
  })

test('udp-climb: a proxy that closes in place of a reply is taken for one without relay at the third time', async t => {
  const bad = await startBadSocks([...ASKED, 'end'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  rig.proxy.health.answered()
  for (let count = 1; count <= 3; count++) {
    const heard = associate(t, rig)
    await until(() => heard.failed.length === 1, 'the failure')
    t.is(heard.failed[0]!.failure, count < 3 ? 'upstream-down' : 'unsupported')
  }
  t.deepEqual(
    bad.received.map(bytes => bytes[4]),
    [3, 3, 3, 5],
  )
})

test('udp-climb: a proxy that cannot be reached any more is asked anew when it is back', async t => {
  const port = await closedPort()
  const bad = await startBadSocks(scriptOf(['reply', 7]), '127.0.0.1', port)
  const rig = open(t, port)
  const first = associate(t, rig)
  await until(() => first.failed.length === 1, 'the refusal')
  t.is(rig.proxy.ladder.way, undefined)
  await bad.close()
  rig.dialer.connect({ address: parseAddress('203.0.113.7')!, port: 1 }, CLIENT, { onConnected() {}, onFailed() {} })
  await until(() => !rig.proxy.health.isUp, 'the failure')
  t.is(rig.proxy.ladder.way, 'associate')
})

test('udp-climb: giving up closes whatever is being tried', async t => {
  const bad = await startBadSocks(at => (at === 0 ? scriptOf(['reply', 7]) : scriptOf(['silent after the request'])))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const failed: DialError[] = []
  const associating = rig.dialer.associate(CLIENT, {
    onAssociated: () => t.fail(),
    onAssociationFailed: error => failed.push(error),
    onDatagrams() {},
  })
  await until(() => bad.received.length === 2 && bad.received[1]!.length === 13, 'the second request')
  t.is(associating.expire().message, 'the proxy has not answered the request: its destination does not answer, perhaps')
  t.is(rig.poller.used, 0)
  t.deepEqual(failed, [])
})

test('udp-climb: relays that stay silent are told to the ladder when their associations end', async t => {
  const bad = await startBadSocks(scriptOf(['relay', 'echo']))
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const ask = async () => {
    const heard = associate(t, rig)
    await until(() => heard.made.length === 1, 'the association')
    t.is(send(rig, heard.made[0]!, [['203.0.113.7', Buffer.from('x')]]), 1)
    return heard.made[0]!
  }
  for (let count = 0; count < 8; count++) (await ask()).close()
  t.is(rig.proxy.ladder.way, 'associate', 'they had no time for an answer')
  const made = [await ask(), await ask(), await ask(), await ask()]
  await delay(2_050)
  for (const association of made) association.close()
  t.is(rig.proxy.ladder.way, 'tcp')

  rig.proxy.ladder.forget()
  for (let count = 0; count < 6; count++) {
    const heard = associate(t, rig)
    await until(() => heard.made.length === 1, 'the association')
    if (count === 0) {
      send(rig, heard.made[0]!, [['203.0.113.7', Buffer.from('x')]])
      await until(() => heard.datagrams > 0, 'the echo')
      t.is(receive(rig, heard.made[0]!).length, 1)
    }
    heard.made[0]!.close()
  }
  t.is(rig.proxy.ladder.way, 'associate')
})

test.after.always('udp-climb: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
