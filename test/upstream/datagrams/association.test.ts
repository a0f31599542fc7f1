import test, { type ExecutionContext } from 'ava'
import { formatEndpoint, parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { Association, DatagramFields, DialError } from '../../../src/upstream/dialer.ts'
import { startBadSocks } from '../../helpers/bad-socks.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { scriptOf } from '../../helpers/socks-faults.ts'
import { CLIENT, DATA, DEST, DEST6, FOUND, GREETED, open, type Rig, SCRATCH } from '../rig.ts'

type Heard = { associated: number; failed: DialError[]; datagrams: number }

function associate(t: ExecutionContext, { dialer }: Rig, name?: string) {
  const heard: Heard = { associated: 0, failed: [], datagrams: 0 }
  let made: Association | undefined
  const associating = dialer.associate(
    CLIENT,
    {
      onAssociated(association) {
        heard.associated++
        made = association
      },
      onAssociationFailed: error => heard.failed.push(error),
      onDatagrams: () => heard.datagrams++,
    },
    name,
  )
  t.teardown(() => (made ?? associating).close())
  return { associating, association: () => made!, heard }
}

const relayReply = (address: Uint8Array, port: number) => [
  5,
  0,
  0,
  address.length === 4 ? 1 : 4,
  ...address,
  port >> 8,
  port & 255,
]

const relays: readonly [string, (port: number) => number[], string, number][] = [
  ['its own address', port => relayReply(parseAddress('127.0.0.1')!, port), '127.0.0.1', 65_507],
  ['0.0.0.0: the address of the proxy', port => relayReply(new Uint8Array(4), port), '127.0.0.1', 65_507],
  [':: : the address of the proxy', port => relayReply(new Uint8Array(16), port), '127.0.0.1', 65_507],
  ['another address', port => relayReply(parseAddress('127.0.0.9')!, port), '127.0.0.9', 65_507],
  ['an IPv6 address', port => relayReply(parseAddress('::1')!, port), '::1', 65_527],
  ['a name', port => [5, 0, 0, 3, 9, ...Buffer.from('127.0.0.1'), port >> 8, port & 255], '127.0.0.1', 65_507],
]

for (const [name, reply, host, maxBytes] of relays)
  test(`socks5: the relay is at ${name}`, async t => {
    const relay = await udpEnd(t, host)
    const bad = await startBadSocks([...GREETED, { send: reply(relay.port) }, 'silence'])
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { association: made, heard } = associate(t, rig)
    await until(() => heard.associated === 1, 'the association')
    const association = made()
    t.is(association.maxBytes, maxBytes)
    t.deepEqual([...bad.received[0]!.subarray(3)], [5, 3, 0, 1, 0, 0, 0, 0, 0, 0])

    rig.bytes.set(DEST.address, SCRATCH)
    const header = association.writeHeader(DATA, SCRATCH, 4, 443, 2)
    t.is(header, 10)
    rig.bytes.set(Buffer.from('hi'), DATA + header)
    rig.words.set([0, 1, 0, DATA, header + 2], SCRATCH / 4)
    t.is(association.send(SCRATCH, SCRATCH + 12, 1), 1)
    const { message, peer } = await relay.next()
    t.deepEqual([...message], [0, 0, 0, 1, 203, 0, 113, 7, 1, 0xbb, ...Buffer.from('hi')])

    relay.send(message, peer.port, peer.address)
    await until(() => heard.datagrams > 0, 'the answer')
    if (host !== '127.0.0.1') return
    const stranger = await udpEnd(t)
    const before = receive(rig, association)
    t.is(before, message.length)
    stranger.send(Uint8Array.of(0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 9), peer.port)
    relay.send(Uint8Array.of(0, 0, 0, 1, 2, 2, 2, 2, 0, 1), peer.port)
    const got: number[] = []
    await until(() => got.push(receive(rig, association)) > 0 && got.at(-1)! > 0, 'the next answer')
    t.is(got.at(-1), 10, 'the stranger is not heard')
  })

/** The length of the next datagram from the relay, 0 when there is none. */
function receive(rig: Rig, association: Association): number {
  rig.words.set([DATA, 0], SCRATCH / 4)
  const got = association.receive(SCRATCH, 1, 65_536, FOUND)
  return got === 1 ? rig.words[FOUND / 4 + 1]! : 0
}

test('socks5: datagrams from the relay: IPv4, IPv6, and what is dropped', async t => {
  const relay = await udpEnd(t)
  const bad = await startBadSocks([...GREETED, { send: relayReply(parseAddress('127.0.0.1')!, relay.port) }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const { association, heard } = associate(t, rig)
  await until(() => heard.associated === 1, 'the association')
  const fields: DatagramFields = { family: 0 as 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  const parse = (...bytes: number[]) => {
    rig.bytes.set(bytes, DATA)
    return association().parseDatagram(DATA, bytes.length, fields)
  }
  t.true(parse(0, 0, 0, 1, 192, 0, 2, 1, 0, 53, 7, 8))
  t.deepEqual(fields, { family: 4, sourceAt: DATA + 4, port: 53, payloadAt: DATA + 10, payloadBytes: 2 })
  t.true(parse(0, 0, 0, 4, ...DEST6.address, 1, 0))
  t.deepEqual(fields, { family: 6, sourceAt: DATA + 4, port: 256, payloadAt: DATA + 22, payloadBytes: 0 })
  t.false(parse(0, 0, 1, 1, 192, 0, 2, 1, 0, 53, 7), 'FRAG')
  t.false(parse(0, 0, 0, 3, 1, 97, 0, 53, 7), 'a name')
  t.false(parse(0, 0, 0, 2, 192, 0, 2, 1, 0, 53), 'no address type')
  for (let length = 0; length < 10; length++) t.false(parse(...[0, 0, 0, 1, 192, 0, 2, 1, 0, 53].slice(0, length)))
  for (let length = 0; length < 22; length++) t.false(parse(...[0, 0, 0, 4, ...DEST6.address, 1, 0].slice(0, length)))
})

test('socks5: an association to a name: each datagram has it, and who answers may be called so', async t => {
  const relay = await udpEnd(t)
  const bad = await startBadSocks([...GREETED, { send: relayReply(parseAddress('127.0.0.1')!, relay.port) }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const name = `${'b'.repeat(63)}.tést`
  const { association: made, heard } = associate(t, rig, name)
  await until(() => heard.associated === 1, 'the association')
  const association = made()
  rig.bytes.set(DEST.address, SCRATCH)
  const bytes = Buffer.from(name)
  for (const port of [443, 53]) {
    t.is(association.writeHeader(DATA, SCRATCH, 4, port, 1), 7 + bytes.length)
    const header = [0, 0, 0, 3, bytes.length, ...bytes, port >> 8, port & 255]
    t.deepEqual([...rig.bytes.subarray(DATA, DATA + 7 + bytes.length)], header)
  }
  const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  rig.bytes.set([0, 0, 0, 3, 1, 97, 0, 53, 7, 8], DATA)
  t.true(association.parseDatagram(DATA, 10, fields))
  t.deepEqual([fields.port, fields.payloadAt, fields.payloadBytes], [53, DATA + 8, 2])
})

for (const [name, last] of [
  ['its end', 'end'],
  ['its reset', 'reset'],
] as const)
  test(`socks5: the association ends with its control connection: ${name}`, async t => {
    const relay = await udpEnd(t)
    const reply = relayReply(parseAddress('127.0.0.1')!, relay.port)
    const bad = await startBadSocks([...GREETED, { send: reply }, { waitMs: 30 }, last])
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { heard } = associate(t, rig)
    await until(() => heard.failed.length === 1, 'the end')
    t.is(heard.associated, 1)
    t.is(heard.failed[0]!.failure, 'upstream-down')
    t.is(rig.poller.used, 0)
  })

test('socks5: bytes on the control connection mean nothing', async t => {
  const relay = await udpEnd(t)
  const reply = relayReply(parseAddress('127.0.0.1')!, relay.port)
  const bad = await startBadSocks([
    ...GREETED,
    { send: reply },
    { waitMs: 10 },
    { send: [1, 2, 3] },
    { waitMs: 30 },
    'end',
  ])
  t.teardown(() => bad.close())
  const { heard } = associate(t, open(t, bad.port))
  await until(() => heard.failed.length === 1, 'the end')
  t.is(heard.associated, 1)
})

test('socks5: an association that is given up while the name of its relay is looked up says so', async t => {
  const bad = await startBadSocks([...GREETED, { send: [5, 0, 0, 3, 9, ...Buffer.from('127.0.0.1'), 1, 2] }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const { associating, heard } = associate(t, rig)
  let error: DialError | undefined
  const endTurn = () => {
    // the turn of the reply, in which no look-up ends
    if (rig.proxy.health.isUp) error ??= associating.expire()
  }
  rig.poller.attend({ beginTurn() {}, endTurn })
  await until(() => error !== undefined, 'the end')
  t.is(error!.failure, 'timeout')
  t.is(error!.message, "the relay's name is still being looked up")
  await new Promise(resolve => setTimeout(resolve, 50))
  t.deepEqual(heard, { associated: 0, failed: [], datagrams: 0 })
  t.is(rig.poller.used, 0)
})

for (const [what, place] of [
  ['port 0', 'port 0'],
  ['a group', 'multicast'],
] as const)
  test(`socks5: a relay at ${what} is none, and says so`, async t => {
    const bad = await startBadSocks(scriptOf(['relay', 'echo', place]))
    t.teardown(() => bad.close())
    const rig = open(t, bad.port)
    const { heard } = associate(t, rig)
    await until(() => heard.failed.length === 1, 'the end')
    t.is(heard.failed[0]!.failure, 'general')
    t.regex(heard.failed[0]!.message, /^the proxy says that its relay is [0-9.]+:\d+, which cannot be$/)
    t.is(heard.associated, 0)
    t.is(rig.poller.used, 0)
    await until(() => bad.left() === 1, 'the end of the control connection')
  })

test('socks5: an association that the proxy refuses', async t => {
  const bad = await startBadSocks([...GREETED, { send: [5, 7, 0, 1, 0, 0, 0, 0, 0, 0] }, 'end'])
  t.teardown(() => bad.close())
  const { heard } = associate(t, open(t, bad.port))
  await until(() => heard.failed.length === 1, 'the refusal')
  t.is(heard.failed[0]!.failure, 'unsupported')
  t.is(heard.associated, 0)
})

test('socks5: close of an association closes both its sockets, and calls nothing', async t => {
  const relay = await udpEnd(t)
  const bad = await startBadSocks([...GREETED, { send: relayReply(parseAddress('127.0.0.1')!, relay.port) }, 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port)
  const { association, heard } = associate(t, rig)
  await until(() => heard.associated === 1, 'the association')
  t.is(rig.poller.used, 2)
  association().close()
  association().close()
  t.is(rig.poller.used, 0)
  await until(() => bad.left() === 1, 'the end of the control connection')
  t.deepEqual(heard.failed, [])
})

test.after('socks5: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0, formatEndpoint(DEST))
})
