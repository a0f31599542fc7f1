/** A client whose receive window is smaller than what is queued for it, and how the stream then ends. */
import type { ExecutionContext } from 'ava'
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, pattern, type Rig, stackTest } from './rig.ts'

/** MSS 1460 and no window scale: the window is what the header says. */
const UNSCALED = [2, 4, 0x05, 0xb4]

/** Takes whatever comes, in order, until FIN: the bytes before it. */
function takeToEnd(t: ExecutionContext, rig: Rig, client: Client, first: readonly Packet[]): Buffer {
  const got: Buffer[] = []
  for (let next = first, rounds = 0; ; rounds++) {
    const { data, fin, answers } = client.take(next)
    got.push(data)
    if (fin) return Buffer.concat(got)
    if (rounds > 400) return t.fail(`no FIN behind ${Buffer.concat(got).length} bytes`) as never
    next = answers.length > 0 ? answers : rig.tick(100)
  }
}

for (const vnetHdr of [false, true])
  for (const halfClosed of [false, true]) {
    const who = `${halfClosed ? 'a half-closed' : 'an open'} client, vnet ${vnetHdr}`
    stackTest(
      `slow-reader: FIN comes behind the last byte of a segment that was split: ${who}`,
      { vnetHdr },
      (t, rig) => {
        const client = new Client(rig).open(UNSCALED) // lwIP cuts for half of the largest window that it saw
        client.data(Buffer.from('x'))
        client.window = 1000
        client.data(Buffer.from('y'), Flag.ack | (halfClosed ? Flag.fin : 0))
        const data = pattern(1460) // one segment, which the window has no room for
        t.is(rig.write(client.id, data).written, data.length)
        const first = [...rig.tell('finish', client.id), ...rig.tick(3000)]
        const sent = first.filter(packet => packet.tcp!.payload.length > 0)
        t.true(sent.length > 0, 'the window is used')
        t.true(sent.every(packet => packet.tcp!.payload.length <= 1000))
        t.true(
          first.every(packet => !(packet.tcp!.flags & Flag.fin)),
          'the stream is not over',
        )
        client.window = 65_535
        const got = takeToEnd(t, rig, client, first)
        t.is(got.length, data.length)
        t.true(got.equals(data))
        if (!halfClosed) client.data(Buffer.alloc(0), Flag.ack | Flag.fin)
        t.true(rig.has(client.id, rig.stack.abi.eventGone))
        t.is(rig.error(client.id), rig.stack.abi.errorNone)
        rig.tell('release', client.id)
      },
    )
  }

for (const vnetHdr of [false, true])
  stackTest(
    `slow-reader: LAST_ACK waits for a client whose window is closed, vnet ${vnetHdr}`,
    { vnetHdr },
    (t, rig) => {
      const client = new Client(rig).open(UNSCALED)
      client.data(Buffer.from('x'), Flag.ack | Flag.fin)
      const data = pattern(3000)
      const out = [data.subarray(0, 1000), data.subarray(1000)].flatMap(part => rig.write(client.id, part).out)
      out.push(...rig.tell('finish', client.id))
      t.true(
        out.some(packet => packet.tcp!.flags & Flag.fin),
        'all is sent, FIN too: LAST_ACK',
      )
      // its buffer is full after 1000 bytes: the rest was dropped
      client.ack = (client.ack + 1000) >>> 0
      client.window = 0
      client.send(Flag.ack)
      for (let second = 0; second < 10; second++) {
        rig.tick(1000)
        if (second % 3 === 2) client.send(Flag.ack) // it answers probes, and its window stays closed
        t.false(rig.has(client.id, rig.stack.abi.eventGone), `given up in second ${second}`)
      }
      client.window = 65_535
      const got = takeToEnd(t, rig, client, client.send(Flag.ack))
      t.true(got.equals(data.subarray(1000)), `${got.length} bytes`)
      t.true(rig.has(client.id, rig.stack.abi.eventGone))
      t.is(rig.error(client.id), rig.stack.abi.errorNone)
      rig.tell('release', client.id)
    },
  )
