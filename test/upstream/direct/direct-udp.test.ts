/** Datagrams without a proxy, between one association and peers on loopback. */
import test, { type ExecutionContext } from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import type { Association, DatagramFields, DialError } from '../../../src/upstream/dialer.ts'
import { DirectDialer } from '../../../src/upstream/direct/direct-dialer.ts'
import { udpEnd, until } from '../../helpers/sockets.ts'
import { CLIENT, DATA, FOUND, openWith, SCRATCH } from '../rig.ts'

const SLOTS = 32
const SLOT_BYTES = 2048
const SLOT_TABLE = DATA - 4096

function open(t: ExecutionContext, name?: string) {
  const rig = openWith(t, (poller, arena) => new DirectDialer(poller, arena, { interface: '', mark: 0 }), {})
  const heard = { failed: [] as DialError[], datagrams: 0 }
  let made: Association | undefined
  const associating = rig.dialer.associate(
    CLIENT,
    {
      onAssociated: association => {
        made = association
      },
      onAssociationFailed: error => heard.failed.push(error),
      onDatagrams: () => heard.datagrams++,
    },
    name,
  )
  t.teardown(() => associating.close())
  const stands = async () => {
    await until(() => made !== undefined, 'the association')
    return made!
  }
  /** A batch of `text` to each. */
  const send = (association: Association, to: readonly { host: string; port: number; text: string }[]): number => {
    let at = DATA
    for (const [row, { host, port, text }] of to.entries()) {
      const address = parseAddress(host)!
      rig.bytes.set(address, SCRATCH + 2048)
      const header = association.writeHeader(at, SCRATCH + 2048, address.length === 4 ? 4 : 6, port, text.length)
      rig.bytes.set(Buffer.from(text), at + header)
      rig.words.set([row, 1, 0], SCRATCH / 4 + 3 * row)
      rig.words.set([at, header + text.length], (SCRATCH + 1024) / 4 + 2 * row)
      at += 256
    }
    return association.send(SCRATCH, SCRATCH + 1024, to.length)
  }
  /** `source:port text` of all that has come. */
  const receive = (association: Association): string[] => {
    for (let slot = 0; slot < SLOTS; slot++) rig.words.set([DATA + slot * SLOT_BYTES, 0], SLOT_TABLE / 4 + 2 * slot)
    const rows = association.receive(SLOT_TABLE, SLOTS, SLOT_BYTES, FOUND)
    const fields: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
    return Array.from({ length: Math.max(0, rows) }, (_, row) => {
      const [at, length] = rig.words.subarray(FOUND / 4 + 2 * row)
      t.true(association.parseDatagram(at!, length!, fields))
      const source = rig.bytes.subarray(fields.sourceAt, fields.sourceAt + (fields.family === 4 ? 4 : 16)).join('.')
      const text = Buffer.from(rig.bytes.slice(fields.payloadAt, fields.payloadAt + fields.payloadBytes)).toString()
      return `${source}:${fields.port} ${text}`
    })
  }
  return { ...rig, heard, associating, stands, send, receive }
}

test('direct-udp: from one port to many, and from whomever, also one who was not spoken to', async t => {
  const [a, b, stranger] = await Promise.all([udpEnd(t), udpEnd(t, '127.0.0.2'), udpEnd(t, '127.0.0.3')])
  const rig = open(t)
  const association = await rig.stands()
  const to = [
    { host: '127.0.0.1', port: a!.port, text: 'one' },
    { host: '127.0.0.2', port: b!.port, text: 'two' },
  ]
  t.is(rig.send(association, to), 2)
  const first = await a!.next()
  const second = await b!.next()
  t.deepEqual([first.message.toString(), second.message.toString()], ['one', 'two'])
  t.is(first.peer.port, second.peer.port)
  stranger!.send(Buffer.from('hello'), first.peer.port)
  b!.send(Buffer.from('answer'), first.peer.port)
  const got: string[] = []
  await until(() => got.push(...rig.receive(association)) === 2, 'both')
  t.deepEqual(got.sort(), [`127.0.0.2:${b!.port} answer`, `127.0.0.3:${stranger!.port} hello`])
})

test('direct-udp: a datagram that comes back as that of a client is known, by the port and an address of this machine', async t => {
  const peer = await udpEnd(t)
  const rig = open(t)
  const association = await rig.stands()
  const at = { address: parseAddress('127.0.0.1')!, port: peer.port }
  t.false(rig.dialer.isUpstream(at, { ...at, port: 0 }), 'nothing was sent')
  rig.send(association, [{ host: '127.0.0.1', port: peer.port, text: 'x' }])
  const { port } = (await peer.next()).peer
  t.true(rig.dialer.isUpstream(at, { ...at, port }))
  t.false(rig.dialer.isUpstream(at, { ...at, port: port ^ 1 }))
  t.false(rig.dialer.isUpstream(at, { address: parseAddress('192.0.2.77')!, port }), 'a client elsewhere')
  t.false(rig.dialer.isUpstream(at, { address: parseAddress('::1')!, port }), 'of the other family')
  association.close()
  t.false(rig.dialer.isUpstream(at, { ...at, port }))
})

test('direct-udp: both families in one batch, and answers of both', async t => {
  const v4 = await udpEnd(t)
  const v6 = await udpEnd(t, '::1')
  const rig = open(t)
  const association = await rig.stands()
  const to = [
    { host: '127.0.0.1', port: v4.port, text: 'four' },
    { host: '127.0.0.1', port: v4.port, text: 'four again' },
    { host: '::1', port: v6.port, text: 'six' },
    { host: '127.0.0.1', port: v4.port, text: 'four at last' },
  ]
  t.is(rig.send(association, to), 4)
  const sources = await Promise.all([v4, v6].map(async end => (await end.next()).peer))
  v4.send(Buffer.from('a'), sources[0]!.port)
  v6.send(Buffer.from('b'), sources[1]!.port, '::1')
  const got: string[] = []
  let seen = 0
  await until(() => {
    if (rig.heard.datagrams > seen) got.push(...rig.receive(association))
    seen = rig.heard.datagrams
    return got.length === 2
  }, 'both, one for each time that it was told')
  t.deepEqual(got.sort(), [`0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1:${v6.port} b`, `127.0.0.1:${v4.port} a`])
})

test('direct-udp: all goes to a name where one is given', async t => {
  const end = await udpEnd(t)
  const rig = open(t, '127.0.0.1')
  const association = await rig.stands()
  t.is(rig.send(association, [{ host: '198.18.5.5', port: end.port, text: 'mapped' }]), 1)
  t.is((await end.next()).message.toString(), 'mapped')
})

test('direct-udp: a name that there is not is told', async t => {
  const rig = open(t, 'no-such-host.invalid')
  await until(() => rig.heard.failed.length > 0, 'the failure')
  t.is(rig.heard.failed[0]!.failure, 'host-unreachable')
})

test('direct-udp: what cannot be sent is an errno, and the next goes out', async t => {
  const end = await udpEnd(t)
  const rig = open(t)
  const association = await rig.stands()
  t.true(rig.send(association, [{ host: '127.0.0.1', port: 0, text: 'nowhere' }]) < 0)
  t.is(rig.send(association, [{ host: '127.0.0.1', port: end.port, text: 'somewhere' }]), 1)
  t.is((await end.next()).message.toString(), 'somewhere')
})

test('direct-udp: one that is given up before it stands calls nobody', async t => {
  const rig = open(t)
  rig.associating.close()
  const later = open(t)
  await later.stands()
  t.is(rig.heard.failed.length, 0)
  t.is(rig.poller.used, 0)
})

test.after.always('direct-udp: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
