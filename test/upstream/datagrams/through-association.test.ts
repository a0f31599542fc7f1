/** Datagrams through several real proxies on loopback. */
import test, { type ExecutionContext } from 'ava'
import { type SocksServer, type SocksServerOptions, startSocksServer } from '../../../src/demo/socks-server.ts'
import { parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { Association, DatagramFields, DialError } from '../../../src/upstream/dialer.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { CLIENT, DATA, FOUND, openInput, SCRATCH } from '../rig.ts'

async function socks(t: ExecutionContext, options: SocksServerOptions = {}): Promise<SocksServer> {
  const server = await startSocksServer(options)
  t.teardown(() => server.close())
  return server
}

const url = ({ host, port }: SocksServer) => `socks5://${host}:${port}`

function open(t: ExecutionContext, proxy: readonly string[], name?: string) {
  const rig = openInput(t, { proxy })
  const heard = { made: undefined as Association | undefined, failed: [] as DialError[], datagrams: 0 }
  const associating = rig.dialer.associate(
    CLIENT,
    {
      onAssociated: association => {
        heard.made = association
      },
      onAssociationFailed: error => heard.failed.push(error),
      onDatagrams: () => heard.datagrams++,
    },
    name,
  )
  t.teardown(() => (heard.made ?? associating).close())
  const stands = async () => {
    await until(() => heard.made !== undefined || heard.failed.length > 0, 'the association')
    t.deepEqual(heard.failed, [])
    return heard.made!
  }
  /** Bytes of the headers, or 0 when it is not carried. */
  const send = (association: Association, host: string, port: number, text: string): number => {
    const address = parseAddress(host)!
    rig.bytes.set(address, SCRATCH)
    const header = association.writeHeader(DATA, SCRATCH, address.length === 4 ? 4 : 6, port, text.length)
    if (header === 0) return 0
    rig.bytes.set(Buffer.from(text), DATA + header)
    rig.words.set([0, 1, 0, DATA, header + text.length], SCRATCH / 4)
    t.is(association.send(SCRATCH, SCRATCH + 12, 1), 1)
    return header
  }
  const receive = (association: Association): string | undefined => {
    rig.words.set([DATA, 0], SCRATCH / 4)
    if (association.receive(SCRATCH, 1, 65_536, FOUND) !== 1) return undefined
    const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
    const [at, length] = rig.words.subarray(FOUND / 4)
    if (!association.parseDatagram(at!, length!, fields)) return 'dropped'
    const text = Buffer.from(rig.bytes.slice(fields.payloadAt, fields.payloadAt + fields.payloadBytes)).toString()
    return `${rig.bytes.slice(fields.sourceAt, fields.sourceAt + 4).join('.')}:${fields.port} ${text}`
  }
  const answer = async (association: Association) => {
    const got: string[] = []
    await until(() => {
      const one = receive(association)
      if (one !== undefined) got.push(one)
      return got.length > 0
    }, 'the answer')
    return got[0]
  }
  return { ...rig, heard, stands, send, answer }
}

for (const hops of [2, 3])
  test(`through: ${hops} proxies, and each has an association`, async t => {
    const servers = await Promise.all(Array.from({ length: hops }, (_, at) => socks(t, { host: `127.0.0.${at + 1}` })))
    const end = await udpEnd(t)
    const rig = open(t, servers.map(url))
    const association = await rig.stands()
    t.is(rig.send(association, '127.0.0.1', end.port, 'ping'), 10 * hops)
    const { message, peer } = await end.next()
    t.is(message.toString(), 'ping')
    end.send(Buffer.from('pong'), peer.port)
    t.is(await rig.answer(association), `127.0.0.1:${end.port} pong`)
    t.deepEqual(
      servers.map(({ counters }) => counters.associates),
      servers.map(() => 1),
    )
    association.close()
    await until(() => servers.every(({ counters }) => counters.liveConnections === 0), 'the end of all')
  })

test('through: IPv6 by relays of IPv4; more headers than there is room for are not carried', async t => {
  const [a, b] = [await socks(t), await socks(t)]
  const end = await udpEnd(t, '::1')
  const rig = open(t, [url(a), url(b)])
  const association = await rig.stands()
  t.is(rig.send(association, '::1', end.port, 'six'), 32)
  t.is((await end.next()).message.toString(), 'six')
  const [c, d, e] = [await socks(t), await socks(t), await socks(t)]
  const longer = open(t, [url(c), url(d), url(e)])
  t.is(longer.send(await longer.stands(), '::1', end.port, 'six'), 42)
  t.is((await end.next()).message.toString(), 'six')
  const [f, g, h, i] = [await socks(t), await socks(t), await socks(t), await socks(t)]
  const longest = open(t, [url(f), url(g), url(h), url(i)], 'n'.repeat(255))
  t.is(longest.send(await longest.stands(), '127.0.0.1', end.port, 'to a name'), 0)
})

test('through: a relay that is told by zeros, or as loopback, is the proxy itself, by its name', async t => {
  for (const told of ['0.0.0.0', '127.0.0.9']) {
    const a = await socks(t)
    const b = await socks(t, { relayAddress: { address: parseAddress(told)!, port: 0 } })
    const end = await udpEnd(t)
    const rig = open(t, [url(a), `socks5://localhost:${b.port}`])
    const association = await rig.stands()
    rig.send(association, '127.0.0.1', end.port, told)
    t.is((await end.next()).message.toString(), told)
  }
})

test('through: all goes to a name where one is given, which the last proxy looks up', async t => {
  const [a, b] = [await socks(t), await socks(t)]
  const end = await udpEnd(t)
  const rig = open(t, [url(a), url(b)], 'localhost')
  const association = await rig.stands()
  rig.send(association, '198.18.5.5', end.port, 'mapped')
  t.is((await end.next()).message.toString(), 'mapped')
})

test('through: what another than the relay sends is dropped', async t => {
  const [a, b] = [await socks(t), await socks(t)]
  const end = await udpEnd(t)
  const rig = open(t, [url(a), url(b)])
  const association = await rig.stands()
  rig.send(association, '127.0.0.1', end.port, 'ping')
  await end.next()
  // as if it came from the first proxy's relay, but from somebody else behind it: a whole datagram within a datagram
  const forged = [0, 0, 0, 1, 127, 0, 0, 1, 0, 9, 0, 0, 0, 1, 203, 0, 113, 7, 0, 53, 7]
  rig.bytes.set(forged, DATA)
  const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  t.false(association.parseDatagram(DATA, forged.length, fields))
})

test('through: a first proxy without UDP ends it, and is named', async t => {
  const [a, b] = [await socks(t, { udp: false }), await socks(t)]
  const rig = open(t, [url(a), url(b)])
  await until(() => rig.heard.failed.length === 1, 'the refusal')
  t.is(rig.heard.failed[0]!.failure, 'unsupported')
  await until(() => b.counters.liveConnections === 0, 'the end of the second')
})

test('through: directly to a proxy, whose relay is a destination like others', async t => {
  const b = await socks(t)
  const end = await udpEnd(t)
  const rig = open(t, ['direct://', url(b)])
  const association = await rig.stands()
  rig.send(association, '127.0.0.1', end.port, 'ping')
  const { message, peer } = await end.next()
  t.is(message.toString(), 'ping')
  end.send(Buffer.from('pong'), peer.port)
  t.is(await rig.answer(association), `127.0.0.1:${end.port} pong`)
})

test('through: the end of either control connection is the end', async t => {
  for (const which of [0, 1]) {
    const servers = [await socks(t), await socks(t)]
    const rig = open(t, servers.map(url))
    await rig.stands()
    await servers[which]!.close()
    await until(() => rig.heard.failed.length === 1, 'the end')
    await until(() => servers.every(({ counters }) => counters.liveConnections === 0), 'the end of both')
  }
})

test.after.always('through: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
