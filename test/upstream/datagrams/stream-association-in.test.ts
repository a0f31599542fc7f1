/** UDP in TCP: what comes, and the end. */
import test from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { Connection } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { filler } from '../../helpers/socks-faults.ts'
import { frame } from '../../helpers/udp-in-tcp.ts'
import type { Rig } from '../rig.ts'
import {
  ASKED,
  type Heard,
  ONE,
  PATIENCE_MS,
  receive,
  SLOT,
  SLOT_BYTES,
  STANDS,
  stand,
  TOLD,
  TWO,
} from './frames-rig.ts'

for (const piece of [1, 2, 3, 4, 9, 11, 13, 14, 100])
  test(`stream-association: frames that come ${piece} bytes at a time are told whole`, async t => {
    const { rig, heard, association } = await stand(t, [
      ...STANDS,
      { send: Buffer.concat([ONE, TWO, ONE]), piece },
      'silence',
    ])
    const got: string[] = []
    await until(
      () => {
        if (heard.datagrams > 0) got.push(...receive(rig, association))
        return got.length >= 3
      },
      'the datagrams',
      PATIENCE_MS,
    )
    t.deepEqual(got, [...TOLD, TOLD[0]])
  })

test('stream-association: frames that come with the reply are told', async t => {
  const [reply] = STANDS.slice(-1) as [{ send: number[] }]
  const { rig, heard, association } = await stand(t, [
    ...ASKED,
    { send: Buffer.concat([Uint8Array.from(reply.send), ONE, TWO.subarray(0, 7)]) },
    { waitMs: 30 },
    { send: TWO.subarray(7) },
    'silence',
  ])
  await until(() => heard.datagrams > 0, 'the event')
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) >= 2, 'the datagrams')
  t.deepEqual(got, TOLD)
})

test('stream-association: more frames than there are rows: the rest is told by the next calls, and of an event', async t => {
  const all = Buffer.concat(Array.from({ length: 200 }, () => ONE))
  const { rig, heard, association } = await stand(t, [...STANDS, { send: all }, 'silence'])
  await until(() => heard.datagrams > 0, 'the event')
  const counts: number[] = []
  await until(() => {
    const got = receive(rig, association)
    t.true(got.every(told => told === TOLD[0]))
    counts.push(got.length)
    return counts.reduce((sum, count) => sum + count) === 200
  }, 'all of them')
  t.is(Math.max(...counts), 64)
})

test('stream-association: of what does not fit its slot nothing is told but that, and the next frame is found', async t => {
  const large = frame('203.0.113.7', 53, filler(20_000))
  const { rig, association } = await stand(t, [
    ...STANDS,
    { send: Buffer.concat([ONE, large, TWO, large]), piece: 3_000 },
    { send: ONE },
    'silence',
  ])
  const got: string[] = []
  await until(() => got.push(...receive(rig, association, 4_096)) >= 5, 'the datagrams', PATIENCE_MS)
  t.deepEqual(got, [TOLD[0], 'too large', TOLD[1], 'too large', TOLD[0]])
})

/** Receives as a flow does: by events alone, each time until there are fewer than asked for. */
function receiveByEvents(rig: Rig, heard: Heard, slotBytes: number): string[] {
  const got: string[] = []
  const most = 32
  heard.onDatagrams = () => {
    for (let rows = most; rows >= most && heard.failed.length === 0; ) {
      const more = receive(rig, heard.made[0]!, slotBytes, most)
      rows = more.length
      got.push(...more)
    }
  }
  heard.onDatagrams()
  return got
}

test('stream-association: whoever reads by events misses nothing, and nothing is written behind the slot', async t => {
  const payload = filler(900)
  const all = Buffer.concat(Array.from({ length: 100 }, () => frame('203.0.113.7', 53, payload)))
  const { rig, heard } = await stand(t, [...STANDS, { send: all }, 'silence'])
  const got = receiveByEvents(rig, heard, 8_192)
  await until(() => got.length === 100, 'all of them')
  t.true(got.every(told => told === 'cb007107:53 900'))
  t.true(rig.bytes.subarray(SLOT + 8_192, SLOT + 20_000).every(byte => byte === 0))
})

test('stream-association: an end that comes with datagrams, in one event, is not missed', async t => {
  const last = ({ socket }: Connection) => void socket.end(ONE)
  const { rig, heard } = await stand(t, [...STANDS, last])
  await until(() => heard.datagrams > 0, 'the event')
  const got = receiveByEvents(rig, heard, SLOT_BYTES)
  await until(() => heard.failed.length === 1, 'the end')
  t.deepEqual(got, [TOLD[0]])
})

test('stream-association: a datagram that the server has cut, perhaps, is dropped, and so is one from a name', async t => {
  const name = Buffer.from([0, 1, 9, 3, 2, ...Buffer.from('ab'), 0, 53, 7])
  const { rig, association } = await stand(t, [
    ...STANDS,
    {
      send: Buffer.concat([frame('203.0.113.7', 1, filler(1_499)), frame('203.0.113.7', 2, filler(1_500)), name, ONE]),
    },
    'silence',
  ])
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) >= 4, 'the datagrams')
  t.deepEqual(got, ['cb007107:1 1499', 'dropped', 'dropped', TOLD[0]])
})

for (const [name, last, message] of [
  ['its end', 'end', /^the proxy closed the connection with UDP in TCP$/],
  ['its reset', 'reset', /^the proxy broke off \(ECONNRESET\) the connection with UDP in TCP$/],
  ['a frame that is none', { send: [0, 1, 2, 1, 1, 1, 1, 1, 1] }, /^what the proxy sends as UDP in TCP has no frames$/],
] as const)
  test(`stream-association: it ends with its connection: ${name}`, async t => {
    const { rig, heard, association } = await stand(t, [...STANDS, { send: ONE }, { waitMs: 30 }, last, 'silence'])
    const got: string[] = []
    await until(() => {
      if (heard.failed.length === 0) got.push(...receive(rig, association))
      return heard.failed.length > 0
    }, 'the end')
    t.deepEqual(got, [TOLD[0]])
    t.is(heard.failed.length, 1)
    t.is(heard.failed[0]!.failure, 'upstream-down')
    t.regex(heard.failed[0]!.message, message)
    t.is(rig.poller.used, 0)
  })

test('stream-association: what comes with the end is told before it', async t => {
  const last = ({ socket }: Connection) => void socket.end(ONE)
  const { rig, heard, association } = await stand(t, [...STANDS, last])
  await until(() => heard.datagrams > 0, 'the event')
  const got: string[] = []
  await until(() => got.push(...receive(rig, association)) > 0 && heard.failed.length > 0, 'the end')
  t.deepEqual(got, [TOLD[0]])
})

test.after.always('stream-association: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
