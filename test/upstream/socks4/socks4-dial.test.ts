/** Dials through a SOCKS4 proxy that answers as told. */
import test from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { CLIENT, DEST, DEST6, openUrl, outcomeOf, read, silent } from '../rig.ts'

const GRANTED = [0, 90, 0, 0, 0, 0, 0, 0]
/** CONNECT to DEST, without a user. */
const REQUEST = [4, 1, 1, 0xbb, ...DEST.address, 0]
const GOOD: readonly Step[] = [{ expect: 9 }, { send: GRANTED }]

test('socks4: one request, whose reply opens the tunnel', async t => {
  const bad = await startBadSocks(GOOD)
  t.teardown(() => bad.close())
  t.truthy((await outcomeOf(t, openUrl(t, `socks4://127.0.0.1:${bad.port}`))).connected)
  t.deepEqual([...bad.received[0]!], REQUEST)
})

test('socks4: the user goes with it, and may carry the client', async t => {
  const bad = await startBadSocks([{ expect: 10 }, { send: GRANTED }])
  t.teardown(() => bad.close())
  t.truthy((await outcomeOf(t, openUrl(t, `socks4://{source}@127.0.0.1:${bad.port}`))).connected)
  t.deepEqual([...bad.received[0]!.subarray(8)], [...Buffer.from('198.18.0.2'), 0])
  t.deepEqual(CLIENT.address, Uint8Array.of(198, 18, 0, 2))
})

test('socks4a: the proxy looks names up', async t => {
  const bad = await startBadSocks([{ expect: 21 }, { send: GRANTED }])
  t.teardown(() => bad.close())
  const rig = openUrl(t, `socks4a://127.0.0.1:${bad.port}`)
  t.truthy((await outcomeOf(t, rig, { name: 'example.org', port: 443 })).connected)
  t.deepEqual([...bad.received[0]!], [4, 1, 1, 0xbb, 0, 0, 0, 1, 0, ...Buffer.from('example.org\0')])
})

for (const [what, url, destination, pattern] of [
  ['names', 'socks4', { name: 'example.org', port: 80 }, /names.*socks4a/],
  ['IPv6', 'socks4a', DEST6, /no IPv6/],
  ['0.0.0.7', 'socks4', { address: Uint8Array.of(0, 0, 0, 7), port: 80 }, /stand for a name/],
  ['a name with NUL', 'socks4a', { name: 'a\0b', port: 80 }, /without NUL/],
] as const)
  test(`socks4: ${what} with ${url}:// is refused, and nothing is sent`, async t => {
    const bad = await startBadSocks(GOOD)
    t.teardown(() => bad.close())
    const { error } = await outcomeOf(t, openUrl(t, `${url}://127.0.0.1:${bad.port}`), destination)
    t.is(error?.failure, 'unsupported')
    t.regex(error!.message, pattern)
    t.is(bad.received.length, 0)
  })

for (const piece of [1, 3, 100])
  test(`socks4: bytes behind the reply are the client's first, in pieces of ${piece}`, async t => {
    const bad = await startBadSocks([{ expect: 9 }, { send: [...GRANTED, ...Buffer.from('SSH-2.0')], piece }])
    t.teardown(() => bad.close())
    const rig = openUrl(t, `socks4://127.0.0.1:${bad.port}`)
    const { connected } = await outcomeOf(t, rig)
    t.is(await read(rig, connected!, 7), 'SSH-2.0')
  })

for (const [code, failure] of [
  [91, 'general'],
  [92, 'authentication'],
  [93, 'authentication'],
  [7, 'general'],
] as const)
  test(`socks4: reply ${code} is ${failure}, also when it is cut short`, async t => {
    const bad = await startBadSocks([{ expect: 9 }, { send: [0, code] }, 'end'])
    t.teardown(() => bad.close())
    const { error } = await outcomeOf(t, openUrl(t, `socks4://127.0.0.1:${bad.port}`))
    t.is(error?.failure, failure)
    t.true(error!.message.includes(String(code)))
  })

for (const [what, answer, pattern] of [
  ['HTTP', Buffer.from('HTTP/1.1 400'), /does not speak SOCKS4.*HTTP proxy/],
  ['SOCKS5', [5, 255], /does not speak SOCKS4.*SOCKS5 proxy\?/],
  ['nothing', [], /closed the connection before its reply/],
  ['half a reply', [0, 90, 0], /closed the connection within its reply/],
] as const)
  test(`socks4: an answer that is ${what}`, async t => {
    const bad = await startBadSocks([{ expect: 9 }, { send: answer }, 'end'])
    t.teardown(() => bad.close())
    const { error } = await outcomeOf(t, openUrl(t, `socks4://127.0.0.1:${bad.port}`))
    t.is(error?.failure, 'upstream-down')
    t.regex(error!.message, pattern)
  })

test('socks4: an association is refused at once', t => {
  const failures: string[] = []
  openUrl(t, 'socks4://127.0.0.1:1').dialer.associate(CLIENT, {
    onAssociated: () => t.fail(),
    onAssociationFailed: ({ message }) => failures.push(message),
    onDatagrams() {},
  })
  t.deepEqual(failures, ['a SOCKS4 proxy carries no UDP'])
})

test('socks4: the next dial finds a connection that stands', async t => {
  const bad = await startBadSocks(GOOD)
  t.teardown(() => bad.close())
  const rig = openUrl(t, `socks4://127.0.0.1:${bad.port}`, silent, 1)
  t.truthy((await outcomeOf(t, rig)).connected)
  await until(() => rig.dialer.counters().pool_ready === 1 && bad.received.length === 2, 'a connection that waits')
  t.is(bad.received[1]!.length, 0)
  t.truthy((await outcomeOf(t, rig)).connected)
  t.is(rig.dialer.counters().pool_hits, 1)
  t.deepEqual([...bad.received[1]!], REQUEST)
})

test.after.always('socks4: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
