import type { Socket } from 'node:net'
import test from 'ava'
import { addon } from '../../src/io/addon.ts'
import { Flag, type Packet } from '../helpers/packets.ts'
import { until } from '../helpers/sockets.ts'
import { pattern } from '../stack/rig.ts'
import { established, open, segment } from './rig.ts'

const PIECE = 1400
/** RFC 7323 2.2, shift 7: without it the stack offers 64 KiB. */
const WINDOW_SCALE = [1, 3, 3, 7]
/** More than this waits in the stack when the client closes. */
const WAITING_BYTES = 300_000
/** More than any pair of sockets on loopback takes unread. */
const MAX_BYTES = 32 << 20

test('tcp-flow: what a slow upstream has not taken when both sides have closed still reaches it', async t => {
  const got: Buffer[] = []
  let ended = false
  let peer: Socket | undefined
  const rig = await open(t, {}, socket => {
    peer = socket.pause()
    socket.end() // the server finishes first
  })
  let { ack } = await established(rig, undefined, WINDOW_SCALE)
  let finished = false
  const hear = (packets: readonly Packet[]) => {
    for (const { tcp } of packets) {
      if (!tcp || !(tcp.flags & Flag.fin) || finished) continue
      finished = true
      ack++
    }
  }
  await until(() => {
    hear(rig.take())
    return finished
  }, 'FIN of the server')
  let sent = 0
  const next = (flags: number, payload?: Buffer) =>
    hear(rig.send(segment(flags, { seq: 1001 + sent, ack, ...(payload && { payload }) })))
  while (rig.stack.exports.tg_receive_held() < WAITING_BYTES && sent < MAX_BYTES) {
    next(Flag.ack, pattern(PIECE, sent))
    sent += PIECE
    await new Promise(resolve => setImmediate(resolve)) // the upstream's socket says when it takes more
  }
  next(Flag.ack | Flag.fin)
  t.true(rig.stack.exports.tg_receive_held() >= WAITING_BYTES)
  t.is(rig.plane.counters().tcp_flows, 1, 'the flow lives on for its last bytes')
  peer!
    .on('data', chunk => got.push(chunk))
    .on('end', () => {
      ended = true
    })
  peer!.resume()
  await until(() => ended, 'the end at the server')
  t.is(Buffer.concat(got).length, sent)
  t.true(Buffer.concat(got).equals(pattern(sent)))
  await until(() => rig.plane.counters().tcp_flows === 0, 'the end of the flow')
  t.is(rig.lines.find(({ message }) => message === 'tcp flow ended')?.fields.bytesUp, sent)
})

test.after.always('tcp-flow: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
