import { type EventEmitter, once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import { SocksClient } from 'socks'
import type { SocksClientEstablishedEvent } from 'socks/typings/common/constants.js'
import { type SocksServerOptions, startSocksServer } from '../../src/demo/socks-server.ts'
import { startUdpEcho } from '../../src/demo/udp-echo.ts'
import { readBytes, tcpConnect, udpEnd, until } from '../helpers/sockets.ts'

const loopback6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
const port16 = (port: number) => [port >> 8, port & 255]
const header4 = (port: number, address = [127, 0, 0, 1]) => [0, 0, 0, 1, ...address, ...port16(port)]
const header6 = (port: number) => [0, 0, 0, 4, ...loopback6, ...port16(port)]
const ASSOCIATE = [5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]

async function associate(t: ExecutionContext, options: SocksServerOptions = {}) {
  const proxy = await startSocksServer(options)
  t.teardown(() => proxy.close())
  const control = await tcpConnect(t, proxy.port, proxy.host)
  control.write(Uint8Array.from(ASSOCIATE))
  const reply = await readBytes(control, 12)
  const client = await udpEnd(t)
  return { proxy, control, reply, relay: reply.readUInt16BE(10), client }
}

async function echo(t: ExecutionContext, hosts = ['127.0.0.1']) {
  const server = await startUdpEcho({ hosts })
  t.teardown(() => server.close())
  return server.port
}

const datagram = (header: number[], payload: Uint8Array) => Buffer.concat([Uint8Array.from(header), payload])

test('socks-associate: datagrams of 0 to 65,497 bytes come back whole, with the header of the peer', async t => {
  const { client, relay, reply, proxy } = await associate(t)
  const port = await echo(t)
  t.deepEqual([...reply.subarray(0, 10)], [5, 0, 5, 0, 0, 1, 127, 0, 0, 1])
  for (const size of [0, 1, 1472, 65_000, 65_497]) {
    const message = datagram(header4(port), Buffer.alloc(size, size & 255))
    client.send(message, relay)
    const answer = await client.next()
    t.true(answer.message.equals(message), `${size} bytes`)
    t.is(answer.peer.port, relay)
  }
  t.like(proxy.counters, { associates: 1, liveAssociations: 1, datagramsUp: 5, datagramsDown: 5, datagramsDropped: 0 })
})

test('socks-associate: IPv6 and named destinations are served by the same association', async t => {
  const { client, relay } = await associate(t)
  const port = await echo(t, ['127.0.0.1', '::1'])
  const six = datagram(header6(port), Buffer.from('six'))
  client.send(six, relay)
  t.true((await client.next()).message.equals(six))
  const name = [...Buffer.from('localhost')]
  client.send(datagram([0, 0, 0, 3, name.length, ...name, ...port16(port)], Buffer.from('name')), relay)
  const { message } = await client.next()
  t.is(message.subarray(-4).toString(), 'name')
  t.is(message.length - 4, message[3] === 1 ? 10 : 22)
})

test('socks-associate: a client and a relay on IPv6', async t => {
  const proxy = await startSocksServer({ host: '::1' })
  t.teardown(() => proxy.close())
  const control = await tcpConnect(t, proxy.port, '::1')
  control.write(Uint8Array.from(ASSOCIATE))
  const reply = await readBytes(control, 24)
  t.deepEqual([...reply.subarray(2, 22)], [5, 0, 0, 4, ...loopback6])
  const client = await udpEnd(t, '::1')
  const message = datagram(header4(await echo(t)), Buffer.from('4 over 6'))
  client.send(message, reply.readUInt16BE(22))
  t.true((await client.next()).message.equals(message))
})

test('socks-associate: it is full cone: all peers see one port, and a peer that was never asked is heard', async t => {
  const { client, relay } = await associate(t)
  const [first, second, stranger] = [await udpEnd(t), await udpEnd(t), await udpEnd(t)]
  client.send(datagram(header4(first.port), Buffer.from('1')), relay)
  client.send(datagram(header4(second.port), Buffer.from('2')), relay)
  const mapped = (await first.next()).peer.port
  t.is((await second.next()).peer.port, mapped)
  stranger.send(Buffer.from('unasked'), mapped)
  const { message } = await client.next()
  t.deepEqual([...message.subarray(0, 10)], header4(stranger.port))
  t.is(message.subarray(10).toString(), 'unasked')
})

test('socks-associate: fragments, malformed headers and other source ports are dropped', async t => {
  const { client, relay, proxy } = await associate(t)
  const port = await echo(t)
  const good = datagram(header4(port), Buffer.from('good'))
  const stranger = await udpEnd(t)
  client.send(good, relay)
  await client.next()
  const fragment = Buffer.from(good)
  fragment[2] = 1
  const drops = [
    fragment,
    good.subarray(0, 9),
    Buffer.alloc(0),
    datagram([0, 0, 0, 9, 1, 1, 1, 1, 0, 1], Buffer.from('x')),
  ]
  for (const bad of drops) client.send(bad, relay)
  stranger.send(good, relay)
  await until(() => proxy.counters.datagramsDropped === drops.length + 1, 'all drops')
  client.send(good, relay)
  t.true((await client.next()).message.equals(good))
  t.is(proxy.counters.datagramsUp, 2)
})

test('socks-associate: rewritten destinations answer as the address that was asked for, also when two become one', async t => {
  const port = await echo(t)
  const { client, relay } = await associate(t, {
    rewrite: destination => (destination.port === 53 ? { address: Uint8Array.of(127, 0, 0, 1), port } : undefined),
  })
  for (const address of [
    [8, 8, 8, 8],
    [1, 1, 1, 1],
    [8, 8, 8, 8],
  ]) {
    const message = datagram(header4(53, address), Buffer.from(`for ${address}`))
    client.send(message, relay)
    t.true((await client.next()).message.equals(message))
  }
})

test('socks-associate: the association ends with its control connection', async t => {
  for (const way of ['end', 'resetAndDestroy'] as const) {
    const { client, relay, control, proxy } = await associate(t)
    const port = await echo(t)
    const message = datagram(header4(port), Buffer.from('x'))
    client.send(message, relay)
    await client.next()
    control[way]()
    await until(() => proxy.counters.liveAssociations === 0, 'the end')
    client.send(message, relay)
    await t.throwsAsync(client.next(100))
  }
})

test('socks-associate: associations beyond the bound get a general failure', async t => {
  const { proxy, control } = await associate(t, { maxAssociations: 1 })
  const second = await tcpConnect(t, proxy.port)
  second.write(Uint8Array.from(ASSOCIATE))
  t.is((await readBytes(second, 12))[3], 1)
  control.destroy()
  await until(() => proxy.counters.liveAssociations === 0, 'the end')
  const third = await tcpConnect(t, proxy.port)
  third.write(Uint8Array.from(ASSOCIATE))
  t.is((await readBytes(third, 12))[3], 0)
})

test('socks-associate: the address told to clients can be another, an IPv6 one or a name', async t => {
  const any = await associate(t, { relayAddress: { address: new Uint8Array(4), port: 0 } })
  t.deepEqual([...any.reply.subarray(5, 10)], [1, 0, 0, 0, 0])
  const other = await associate(t, { relayAddress: { address: Uint8Array.of(192, 0, 2, 9), port: 9 } })
  t.deepEqual([...other.reply.subarray(5, 12)], [1, 192, 0, 2, 9, 0, 9])
  const named = await associate(t, { relayAddress: { name: 'relay', port: 0 } })
  t.deepEqual([...named.reply.subarray(5, 12)], [3, 5, ...Buffer.from('relay')])
})

test('socks-associate: the npm package socks gets through', async t => {
  const proxy = await startSocksServer({ username: 'me', password: 'secret' })
  t.teardown(() => proxy.close())
  const port = await echo(t)
  const socks = new SocksClient({
    proxy: { host: proxy.host, port: proxy.port, type: 5, userId: 'me', password: 'secret' },
    command: 'associate',
    destination: { host: '0.0.0.0', port: 0 },
  })
  socks.connect()
  const [{ socket, remoteHost }] = (await once(socks as EventEmitter, 'established')) as [SocksClientEstablishedEvent]
  t.teardown(() => socket.destroy())
  const client = await udpEnd(t)
  const frame = SocksClient.createUDPFrame({ remoteHost: { host: '127.0.0.1', port }, data: Buffer.from('framed') })
  client.send(frame, remoteHost!.port)
  const answer = SocksClient.parseUDPFrame((await client.next()).message)
  t.is(answer.data.toString(), 'framed')
  t.deepEqual(answer.remoteHost, { host: '127.0.0.1', port })
})
