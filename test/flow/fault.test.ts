/** An upstream's socket that is fed by something which can break behind it: Socket.fault and Socket.onClose. */
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../src/io/addon.ts'
import { Socket } from '../../src/io/socket.ts'
import { Flag, type TcpFields } from '../helpers/packets.ts'
import { until } from '../helpers/sockets.ts'
import { open, segment, untilSent } from './rig.ts'

const FAULT = 'as the test says'

/** A flow whose upstream is one end of a pair; the test has the other. */
async function established(t: ExecutionContext) {
  const rig = await open(t)
  rig.send(segment(Flag.syn))
  const closes: boolean[] = []
  const [outer, inner] = Socket.pair(rig.poller, { onReady() {} }, { onReady() {} })
  t.teardown(() => inner.close())
  outer.onClose = reset => void closes.push(reset)
  rig.dialer.waiting[0]!.listener.onConnected({ socket: outer, early: undefined, readable: true })
  rig.plane.endTurn()
  const [answer] = await untilSent(rig)
  let ack = answer!.tcp!.seq + 1
  rig.send(segment(Flag.ack, { seq: 1001, ack }))
  /** What the client was sent until there is a flag of these, and all of them together. */
  const receive = async (flags: number) => {
    let text = ''
    let seen = 0
    await until(() => {
      for (const { tcp } of rig.take()) {
        text += tcp!.payload.toString()
        seen |= tcp!.flags
        ack = tcp!.seq + tcp!.payload.length + (tcp!.flags & Flag.fin ? 1 : 0)
        rig.send(segment(Flag.ack, { seq: 1001, ack }))
      }
      return (seen & flags) !== 0
    }, 'the end')
    return { text, seen }
  }
  const client = (flags: number, fields: Partial<TcpFields> = {}) =>
    rig.send(segment(flags, { seq: 1001, ack, ...fields }))
  return { rig, outer, inner, closes, receive, client }
}

test('socket: an end of stream with a fault is a reset, behind the bytes that came before', async t => {
  const { rig, outer, inner, receive, closes } = await established(t)
  addon.writeBytes(inner.fd, Buffer.from('the last bytes'))
  outer.fault = FAULT
  inner.close()
  const { text, seen } = await receive(Flag.rst | Flag.fin)
  t.is(text, 'the last bytes')
  t.is(seen & (Flag.rst | Flag.fin), Flag.rst)
  t.true(rig.lines.some(({ fields }) => fields.reason === FAULT))
  t.deepEqual(closes, [true])
})

test('socket: an end of stream without a fault is none', async t => {
  const { inner, receive } = await established(t)
  addon.writeBytes(inner.fd, Buffer.from('the last bytes'))
  inner.end()
  const { text, seen } = await receive(Flag.rst | Flag.fin)
  t.is(text, 'the last bytes')
  t.is(seen & (Flag.rst | Flag.fin), Flag.fin)
})

test('socket: a fault behind an end in order resets a client that still sends nothing', async t => {
  const { outer, inner, receive } = await established(t)
  inner.end()
  t.is((await receive(Flag.rst | Flag.fin)).seen & Flag.rst, 0)
  outer.fault = FAULT
  inner.close()
  t.is((await receive(Flag.rst)).seen & Flag.rst, Flag.rst)
})

test('socket: a fault while the upstream takes nothing is why the flow ends', async t => {
  const { rig, outer, inner, receive, client } = await established(t)
  client(Flag.ack | Flag.psh, { payload: Buffer.alloc(1000, 7) })
  outer.fault = FAULT
  inner.close() // with a thousand bytes unread
  t.is((await receive(Flag.rst)).seen & Flag.rst, Flag.rst)
  t.true(rig.lines.some(({ fields }) => fields.reason === FAULT))
})

test('socket: who feeds it hears whether it was reset or closed in order', async t => {
  const reset = await established(t)
  reset.client(Flag.rst)
  t.deepEqual(reset.closes, [true])
  const ended = await established(t)
  ended.client(Flag.fin | Flag.ack)
  ended.inner.end()
  await ended.receive(Flag.fin)
  t.deepEqual(ended.closes, [false])
})

test('socket: a pair is refused where there is room for one descriptor alone, and nothing stays open', async t => {
  const { rig } = await established(t)
  const before = addon.openDescriptors()
  Object.assign(rig.poller, { capacity: rig.poller.used + 1 })
  t.throws(() => Socket.pair(rig.poller, { onReady() {} }, { onReady() {} }), { code: 'EMFILE' })
  t.is(addon.openDescriptors(), before)
})
