import { Flag } from '../helpers/packets.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern } from './rig.ts'

/** Of the data segments that leave when `bytes` are written. */
const lengths = (packets: readonly { tcp?: { payload: Buffer } | undefined }[]) =>
  packets.map(packet => packet.tcp?.payload.length ?? 0).filter(length => length > 0)

forBoth('tcp: an MSS in a later segment changes nothing', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  client.send(Flag.ack, { options: [2, 4, 0, 1] })
  const mss = pair.from.includes(':') ? 1440 : 1460
  const { out } = rig.write(client.id, pattern(2 * mss))
  t.deepEqual(lengths(out), [mss, mss])
  client.take(out)
  client.close()
})

forBoth('tcp: a SYN again, behind the answer, agrees on nothing new', { mtu: 1280 }, (t, rig, pair) => {
  const client = new Client(rig, pair)
  client.knock([2, 4, 1, 0])
  const [answer] = rig.tell('accept', client.id)
  client.send(Flag.syn, { ack: 0, options: LINUX_OPTIONS, seq: client.isn })
  client.seq = client.isn + 1
  client.ack = (answer!.tcp!.seq + 1) >>> 0
  client.window = 512 // with the scale that was not agreed on it would be 65,536
  client.send(Flag.ack)
  const { out } = rig.write(client.id, pattern(2000))
  t.deepEqual(lengths(out), [256, 256])
  client.window = 65_535
  const rest = rig.tick(80)
  client.take([...out, ...rest])
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
})

forBoth('tcp: a FIN out of order keeps no slot of the tun', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  client.send(Flag.fin | Flag.ack, { seq: client.seq + 3 })
  t.is(rig.held().slots, 0)
  client.data(Buffer.from('abc'))
  t.is(rig.received(client.id).toString(), 'abc')
  t.true(rig.has(client.id, rig.stack.abi.eventFin))
  client.seq++
  client.take(rig.tell('finish', client.id))
  rig.tell('release', client.id)
})

forBoth('tcp: what reaches beyond the window out of order is cut off, and the stack goes on', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open([2, 4, 5, 180]) // no scale: the window is 65,535
  const sent = pattern(70_000)
  const at = (from: number, to: number) =>
    client.segment(Flag.ack, { seq: client.seq + from, payload: sent.subarray(from, to) })
  rig.send([at(65_000, 66_460)])
  for (let from = 0; from < 65_000; from += 1300) rig.send([at(from, from + 1300)])
  t.true(sent.subarray(0, 65_535).equals(rig.received(client.id)))
  client.seq += 65_535
  client.close()
})

for (const vnetHdr of [false, true])
  forBoth(`tcp: a window that opens only later, vnet ${vnetHdr}: bytes exact`, { vnetHdr }, (t, rig, pair) => {
    const client = new Client(rig, pair)
    client.window = 0
    client.open()
    const sent = pattern(20_000)
    let written = rig.write(client.id, sent.subarray(0, 8_000)).written
    client.window = 4 // scaled: 512 bytes
    let packets = client.send(Flag.ack)
    written += rig.write(client.id, sent.subarray(written)).written
    const taken: Buffer[] = []
    for (let ms = 0; ms < 60_000 && Buffer.concat(taken).length < written; ms += 80) {
      const { data, answers } = client.take(packets)
      taken.push(data)
      packets = [...answers, ...rig.tick(80)]
    }
    t.true(written > 8_000)
    t.true(sent.subarray(0, written).equals(Buffer.concat(taken)))
    client.close()
  })
