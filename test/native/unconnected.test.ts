/** UDP sockets without a peer: a header in front of each datagram says whom it is to or from. */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../src/endpoint.ts'
import { addon } from '../../src/io/addon.ts'
import { isRoot, openRig, owned, type Rig, SLOT_BYTES, until } from './rig.ts'

const EAGAIN = -11

/** RFC 1928 §7. */
function header(host: string, port: number): Buffer {
  const address = parseAddress(host)!
  return Buffer.from([0, 0, 0, address.length === 4 ? 1 : 4, ...address, port >> 8, port & 255])
}

async function peer(t: ExecutionContext, host: string) {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const received: Buffer[] = []
  const sources = new Set<number>()
  socket.on('message', (message, from) => {
    received.push(message)
    sources.add(from.port)
  })
  socket.bind(0, host)
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  const { port } = socket.address()
  return { socket, port, received, sources, header: header(host, port) }
}

/** What has come, one Buffer a datagram; undefined for one that is too long. */
async function take(rig: Rig, fd: number, count: number): Promise<(Buffer | undefined)[]> {
  const all: (Buffer | undefined)[] = []
  await until('all came', () => {
    const got = rig.io.recvDatagramsFrom(fd, ...rig.landing(8))
    for (let at = 0; at < got; at++)
      all.push(rig.foundLength(at) === 0xffff_ffff ? undefined : Buffer.from(rig.found(at)))
    return all.length >= count
  })
  return all
}

for (const [family, host] of [
  [4, '127.0.0.1'],
  [6, '::1'],
] as const)
  test(`openUdp: datagrams to several peers over IPv${family}, from one port, and their answers with their sources`, async t => {
    const rig = openRig(t)
    const [a, b] = [await peer(t, host), await peer(t, host)]
    const fd = owned(t, addon.openUdp(family, 0, ''))
    const batch = [
      [a.header, Buffer.from('to a')],
      [Buffer.concat([b.header, Buffer.from('to b, in one')])],
      [b.header],
      [a.header, Buffer.from('agai'), Buffer.from('n')],
    ]
    t.is(rig.io.recvDatagramsFrom(fd, ...rig.landing(8)), EAGAIN)
    t.is(rig.io.sendDatagramsTo(fd, ...rig.messages(...batch)), 4)
    await until('all arrived', () => a.received.length === 2 && b.received.length === 2)
    t.deepEqual(a.received.map(String), ['to a', 'again'])
    t.deepEqual(b.received.map(String), ['to b, in one', ''])
    t.deepEqual([...a.sources], [...b.sources])

    const own = [...a.sources][0]!
    a.socket.send('from a', own, host)
    b.socket.send('', own, host)
    const got = await take(rig, fd, 2)
    const expected = [Buffer.concat([a.header, Buffer.from('from a')]), b.header]
    t.deepEqual(new Set(got.map(each => each!.toString('hex'))), new Set(expected.map(each => each.toString('hex'))))
  })

test('openUdp: what does not fit its slot is told, the next one is whole', async t => {
  const rig = openRig(t)
  const a = await peer(t, '127.0.0.1')
  const fd = owned(t, addon.openUdp(4, 0, ''))
  rig.io.sendDatagramsTo(fd, ...rig.messages([a.header]))
  await until('a port', () => a.sources.size === 1)
  const own = [...a.sources][0]!
  const room = SLOT_BYTES - 22
  for (const size of [room, room + 1, 3]) a.socket.send(Buffer.alloc(size, 0x61), own, '127.0.0.1')
  t.deepEqual(
    (await take(rig, fd, 3)).map(each => each?.length),
    [10 + room, undefined, 13],
  )
})

test('openUdp: many datagrams of one size, to two peers in turns and in rows, all arrive in order', async t => {
  const rig = openRig(t)
  const peers = [await peer(t, '127.0.0.1'), await peer(t, '127.0.0.1')] as const
  const fd = owned(t, addon.openUdp(4, 0, ''))
  const turns = Array.from({ length: 100 }, (_, at) => (at < 50 ? at & 1 : at < 75 ? 0 : 1))
  const batch = turns.map((to, at) => [peers[to]!.header, Buffer.alloc(600, at + 1)])
  t.is(rig.io.sendDatagramsTo(fd, ...rig.messages(...batch)), 100)
  await until('all arrived', () => peers[0].received.length + peers[1].received.length === 100)
  for (const [index, { received }] of peers.entries()) {
    const expected = turns.flatMap((to, at) => (to === index ? [at + 1] : []))
    t.deepEqual(
      received.map(datagram => datagram[0]),
      expected,
    )
    t.true(received.every(datagram => datagram.length === 600))
  }
})

test('openUdp: a header that names no address ends the batch before it, and is an error in its own turn', async t => {
  const rig = openRig(t)
  const a = await peer(t, '127.0.0.1')
  const fd = owned(t, addon.openUdp(4, 0, ''))
  const name = Buffer.from([0, 0, 0, 3, 3, 0x61, 0x62, 0x63, 0, 53])
  const fragment = Buffer.from([0, 0, 1, 1, 127, 0, 0, 1, 0, 53])
  for (const wrong of [[name], [fragment], [a.header.subarray(0, 9)], [], [header('::1', 53).subarray(0, 21)]]) {
    t.is(rig.io.sendDatagramsTo(fd, ...rig.messages([a.header, Buffer.from('good')], wrong)), 1)
    t.is(addon.errnoName(rig.io.sendDatagramsTo(fd, ...rig.messages(wrong))), 'EINVAL')
  }
  t.true(rig.io.sendDatagramsTo(fd, ...rig.messages([header('::1', a.port)])) < 0, 'another family')
  await until('the good ones arrived', () => a.received.length === 5)
})

test('openUdp: what cannot be opened is a negative errno, and nothing stays open', t => {
  const before = addon.openDescriptors()
  t.is(addon.errnoName(addon.openUdp(5 as 4, 0, '')), 'EINVAL')
  t.is(addon.errnoName(addon.openUdp(4, 0, 'none0')), 'ENODEV')
  t.is(addon.errnoName(addon.openUdp(4, 0, 'a-name-that-is-too-long')), 'ENODEV')
  t.is(addon.openDescriptors(), before)
})

test('openUdp: slots too small for a header are refused', t => {
  const rig = openRig(t)
  const fd = owned(t, addon.openUdp(4, 0, ''))
  const [slots, count, , found] = rig.landing(1)
  t.is(addon.errnoName(rig.io.recvDatagramsFrom(fd, slots, count, 22, found)), 'EINVAL')
})

const rootTest = isRoot ? test : test.skip
rootTest('openUdp: a mark and a device are set', async t => {
  const rig = openRig(t)
  const a = await peer(t, '127.0.0.1')
  const fd = owned(t, addon.openUdp(4, 0x1234, 'lo'))
  rig.io.sendDatagramsTo(fd, ...rig.messages([a.header]))
  await until('a port', () => a.sources.size === 1)
  const line = execFileSync('ss', ['-HuaneO', 'sport', '=', `:${[...a.sources][0]}`], { encoding: 'utf8' })
  t.regex(line, /%lo:/)
  t.regex(line, /fwmark:0x1234/)
})
