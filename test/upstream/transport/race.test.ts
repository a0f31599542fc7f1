/** Several addresses of one name: loopback ones with one port, of which some answer. */
import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { Poller } from '../../../src/io/poller.ts'
import { ProxyAddress } from '../../../src/upstream/proxy/proxy-address.ts'
import { ProxyDialer } from '../../../src/upstream/proxy/proxy-dialer.ts'
import { interleaved } from '../../../src/upstream/transport/race.ts'
import { TcpTransport } from '../../../src/upstream/transport/transport-tcp.ts'
import { type BadSocks, startBadSocks } from '../../helpers/bad-socks.ts'
import { fullServer } from '../../helpers/full-server.ts'
import { proxyParts, socks5State } from '../../helpers/proxy-parts.ts'
import { closedPort, until } from '../../helpers/sockets.ts'
import { dial, GREETED, OK, openWith, outcomeOf, silent } from '../rig.ts'

const GOOD = [...GREETED, { send: OK }]

/** A SOCKS5 dialer to a name with these addresses. */
async function open(t: ExecutionContext, port: number, addresses: readonly string[]) {
  const lookedUp: string[] = []
  const resolve = async (host: string) => {
    lookedUp.push(host)
    return addresses
  }
  const address = new ProxyAddress('proxy.test', port, () => undefined, resolve)
  await address.lookUp()
  const state = socks5State({ host: 'proxy.test', port }, 'strict', silent)
  const make = (poller: Poller, arena: Parameters<typeof proxyParts>[1]) =>
    new ProxyDialer({
      ...proxyParts(poller, arena, state, 0, silent),
      transport: new TcpTransport(poller, address, { interface: '', mark: 0 }),
    })
  return { ...openWith(t, make, {}), address, lookedUp }
}

async function proxyAt(t: ExecutionContext, host: string, port: number): Promise<BadSocks> {
  const bad = await startBadSocks(GOOD, host, port)
  t.teardown(() => bad.close())
  return bad
}

const text = (address: ProxyAddress) => address.endpoint?.address.join('.')

test('race: an address that refuses is followed by the next at once, which is the first from then on', async t => {
  const good = await proxyAt(t, '127.0.0.60', 0)
  const addresses = Array.from({ length: 60 }, (_, at) => `127.0.0.${at + 1}`)
  const rig = await open(t, good.port, addresses)
  // with the delays it would take 15 s, and nobody waits so long for an outcome
  t.truthy((await outcomeOf(t, rig)).connected)
  t.is(text(rig.address), '127.0.0.60')
  t.truthy((await outcomeOf(t, rig)).connected)
})

test('race: an address that does not answer has 250 ms before the next', async t => {
  const full = await fullServer(t, [], '127.0.0.1')
  await proxyAt(t, '127.0.0.2', full.port)
  const rig = await open(t, full.port, ['127.0.0.1', '127.0.0.2'])
  const before = full.connecting()
  const began = performance.now()
  t.truthy((await outcomeOf(t, rig)).connected)
  const ms = performance.now() - began
  t.true(ms >= 245, `${ms} ms`)
  t.is(text(rig.address), '127.0.0.2')
  await until(() => full.connecting() === before, 'the end of the other')
})

test('race: one that is slow and answers in time is the one', async t => {
  const first = await proxyAt(t, '127.0.0.1', 0)
  const second = await proxyAt(t, '127.0.0.2', first.port)
  const rig = await open(t, first.port, ['127.0.0.1', '127.0.0.2'])
  t.truthy((await outcomeOf(t, rig)).connected)
  t.deepEqual([first.received.length, second.received.length], [1, 0])
})

test('race: when all have failed that is told, and the name is looked up again', async t => {
  const port = await closedPort()
  const rig = await open(t, port, ['127.0.0.1', '127.0.0.2'])
  t.is(rig.lookedUp.length, 1)
  const { error } = await outcomeOf(t, rig)
  t.is(error?.failure, 'upstream-down')
  t.regex(error!.message, /ECONNREFUSED/)
  // not more than once in two seconds
  await until(
    () => {
      dial(t, rig)
      return rig.lookedUp.length > 1
    },
    'another look-up',
    5_000,
  )
})

test('race: what an address has answered is told, and not that there is no way to the next', async t => {
  const rig = await open(t, await closedPort(), ['127.0.0.1', '255.255.255.255'])
  t.regex((await outcomeOf(t, rig)).error!.message, /ECONNREFUSED/)
})

test('race: a proxy that does not speak at one address is tried at the next', async t => {
  const wrong = await startBadSocks([{ send: Buffer.from('SSH-2.0') }], '127.0.0.1')
  t.teardown(() => wrong.close())
  await proxyAt(t, '127.0.0.2', wrong.port)
  const rig = await open(t, wrong.port, ['127.0.0.1', '127.0.0.2'])
  t.is((await outcomeOf(t, rig)).error?.failure, 'upstream-down')
  t.truthy((await outcomeOf(t, rig)).connected)
})

test('race: one that is given up leaves nothing', async t => {
  const full = await fullServer(t, [], '127.0.0.1')
  const rig = await open(t, full.port, ['127.0.0.1', '127.0.0.2'])
  const before = full.connecting()
  const { dial: started, outcome } = dial(t, rig)
  t.is(full.connecting(), before + 1)
  t.regex(started.expire().message, /does not answer/)
  await until(() => full.connecting() === before, 'the end')
  t.is(outcome.calls, 0)
})

test('race: families take turns, the first one first', t => {
  const of = (addresses: string[]) =>
    interleaved(addresses.map(address => ({ address: parseAddress(address)!, port: 1 }))).map(
      ({ address }) => `${address.length}.${address.at(-1)}`,
    )
  t.deepEqual(of(['::1', '::2', '::3', '0.0.0.1']), ['16.1', '4.1', '16.2', '16.3'])
  t.deepEqual(of(['0.0.0.1', '::1', '::2', '::3']), ['4.1', '16.1', '16.2', '16.3'])
  t.deepEqual(of(['0.0.0.1', '0.0.0.2']), ['4.1', '4.2'])
  t.deepEqual(of([]), [])
})

test.after.always('race: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
