import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, forBoth, pattern, type Rig, stackTest, V6 } from './rig.ts'

/** Writes all of `data`, the client acknowledging whatever comes; the packets that carried data. */
function download(rig: Rig, client: Client, data: Buffer): { got: Buffer; packets: Packet[] } {
  const packets: Packet[] = []
  const got: Buffer[] = []
  const take = (out: readonly Packet[]) => {
    for (let next = [...out]; next.length > 0; ) {
      packets.push(...next.filter(packet => (packet.tcp?.payload.length ?? 0) > 0))
      const taken = client.take(next)
      got.push(taken.data)
      next = taken.answers
    }
  }
  for (let at = 0, idle = 0; at < data.length || got.reduce((sum, part) => sum + part.length, 0) < data.length; ) {
    const { written, out } = rig.write(client.id, data.subarray(at))
    at += written
    take(out)
    idle = written === 0 && out.length === 0 ? idle + 1 : 0
    if (idle > 0) take(rig.tick(40))
    if (idle > 500) throw new Error('the stack sends nothing more')
  }
  return { got: Buffer.concat(got), packets }
}

forBoth('send: plain mode: segments of the MSS, each with a good checksum', { mtu: 1500 }, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const data = pattern(400_000)
  const { got, packets } = download(rig, client, data)
  t.true(data.equals(got))
  const mss = pair === V6 ? 1440 : 1460
  t.is(Math.max(...packets.map(packet => packet.tcp!.payload.length)), mss)
  t.true(packets.every(packet => packet.bytes.length <= 1500))
  client.close()
})

forBoth('send: the MSS of the client is kept when it is the smaller one', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open([2, 4, 0x02, 0x18]) // 536
  const { got, packets } = download(rig, client, pattern(50_000))
  t.true(got.equals(pattern(50_000)))
  t.is(Math.max(...packets.map(packet => packet.tcp!.payload.length)), 536)
  client.close()
})

forBoth(
  'send: with vnet_hdr a super-segment, which its header tells the kernel to cut',
  { vnetHdr: true },
  (t, rig, pair) => {
    const client = new Client(rig, pair)
    client.window = 65_535
    client.open()
    const data = pattern(1_000_000)
    const { got, packets } = download(rig, client, data)
    t.true(data.equals(got))
    const mss = pair === V6 ? 1440 : 1460
    const [ipBytes, gsoType] = pair === V6 ? [40, 4] : [20, 1]
    const large = packets.filter(packet => packet.tcp!.payload.length > mss)
    t.true(large.length > 0, 'there are super-segments')
    t.true(large.some(packet => packet.tcp!.payload.length > 32 * mss))
    for (const { vnet, tcp } of packets) {
      const isLarge = tcp!.payload.length > mss
      const fields = { flags: 1, gsoType: isLarge ? gsoType : 0, gsoSize: isLarge ? mss : 0 }
      t.deepEqual(vnet, { ...fields, hdrLen: ipBytes + 20, csumStart: ipBytes, csumOffset: 16 })
    }
    client.close()
  },
)

stackTest('send: with vnet_hdr and an MSS of 536 the kernel cuts at 536', { vnetHdr: true }, (t, rig) => {
  const client = new Client(rig).open([2, 4, 0x02, 0x18])
  const { got, packets } = download(rig, client, pattern(30_000))
  t.true(got.equals(pattern(30_000)))
  const large = packets.filter(packet => packet.tcp!.payload.length > 536)
  t.true(large.length > 0)
  t.true(large.every(({ vnet }) => vnet!.gsoSize === 536 && vnet!.gsoType === 1))
  client.close()
})

for (const vnetHdr of [false, true])
  stackTest(`send: a lost segment is sent again, vnet ${vnetHdr}`, { vnetHdr }, (t, rig) => {
    const client = new Client(rig).open()
    const first = rig.write(client.id, Buffer.from('lost')).out
    t.is(first.length, 1)
    const again = rig.tick(3000)
    t.true(again.length >= 1)
    t.is(again[0]!.tcp!.seq, first[0]!.tcp!.seq)
    t.is(client.take(again.slice(0, 1)).data.toString(), 'lost')
    t.deepEqual(rig.tick(5000), [], 'once acknowledged it rests')
    client.close()
  })

for (const vnetHdr of [false, true])
  stackTest(`send: three duplicate ACKs bring the lost segment at once, vnet ${vnetHdr}`, { vnetHdr }, (t, rig) => {
    const client = new Client(rig).open([2, 4, 0x05, 0xb4])
    download(rig, client, pattern(200_000)) // the congestion window grows
    const start = client.ack
    const out: Packet[] = []
    for (let piece = 0; piece < 6; piece++) out.push(...rig.write(client.id, pattern(1460, piece * 1460)).out)
    const lost = out.find(packet => packet.tcp!.seq === start)!
    t.truthy(lost)
    t.true(out.length >= 4, `${out.length} packets`)
    const answers = [1, 2, 3].flatMap(() => client.send(Flag.ack))
    t.is(answers.find(packet => packet.tcp!.payload.length > 0)?.tcp?.seq, start)
    client.ack = (start + 6 * 1460) >>> 0
    client.send(Flag.ack)
    client.close()
  })

for (const vnetHdr of [false, true])
  stackTest(`send: every third packet is lost, all bytes arrive, vnet ${vnetHdr}`, { vnetHdr }, (t, rig) => {
    const client = new Client(rig).open([2, 4, 0x05, 0xb4])
    const data = pattern(120_000)
    const got: Buffer[] = []
    let at = 0
    let count = 0
    let have = 0
    for (let rounds = 0; have < data.length; rounds++) {
      if (rounds > 4000) throw new Error(`stuck at ${have} of ${data.length}`)
      const { written, out } = rig.write(client.id, data.subarray(at))
      at += written
      for (let next = out.length > 0 ? out : rig.tick(40); next.length > 0; ) {
        const kept = next.filter(packet => (packet.tcp?.payload.length ?? 0) > 0 && ++count % 3 !== 0)
        const taken = client.take(kept)
        got.push(taken.data)
        have += taken.data.length
        next = kept.length > 0 && taken.data.length === 0 ? client.send(Flag.ack) : taken.answers
      }
    }
    t.true(data.equals(Buffer.concat(got)))
    client.close()
  })

stackTest('send: a closed window holds everything back, and nothing is lost', {}, (t, rig) => {
  const client = new Client(rig).open()
  client.window = 0
  client.data(pattern(1))
  client.data(pattern(1)) // RFC 9293 3.10.7.4: only a newer segment may shrink the window
  const data = pattern(100_000)
  const { written, out } = rig.write(client.id, data)
  t.true(written > 0)
  t.is(
    out.reduce((sum, packet) => sum + packet.tcp!.payload.length, 0),
    0,
  )
  const probes = rig.tick(3000)
  t.true(probes.length > 0, 'it asks whether the window is open')
  t.true(probes.every(packet => packet.tcp!.payload.length <= 1))
  client.window = 65_535
  const got: Buffer[] = []
  for (let next = client.send(Flag.ack), rounds = 0; rounds < 200; rounds++) {
    const taken = client.take(next)
    got.push(taken.data)
    next = taken.answers.length > 0 ? taken.answers : rig.tick(40)
  }
  t.true(data.subarray(0, written).equals(Buffer.concat(got)))
  client.close()
})

stackTest('send: reserve is bounded, says 0 when full, and ROOM follows the acknowledgement', {}, (t, rig) => {
  const client = new Client(rig).open()
  const { abi } = rig.stack
  let written = 0
  const out: Packet[] = []
  for (let more = 1; more > 0; ) {
    const step = rig.write(client.id, pattern(1 << 20))
    more = step.written
    written += more
    out.push(...step.out)
  }
  t.true(written <= 2 << 20, `${written} bytes taken of one flow`)
  t.true(written >= 256 << 10)
  t.false(rig.has(client.id, abi.eventRoom))
  const send = rig.held().sendBytes!
  t.true(send >= written && send <= written + (1 << 20), `${send} bytes held for ${written}`)
  let have = 0
  for (let next = out; have < written; ) {
    const taken = client.take(next)
    have += taken.data.length
    next = taken.answers.length > 0 ? taken.answers : rig.tick(40)
  }
  t.true(rig.has(client.id, abi.eventRoom))
  t.is(rig.held().sendBytes, 0)
  t.true(rig.write(client.id, pattern(1000)).written === 1000)
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
})

stackTest(
  'send: many flows whose clients do not read stay within the budget, and one that reads goes on',
  {},
  (t, rig) => {
    const stuck = Array.from({ length: 60 }, (_, at) => new Client(rig, undefined, 2000 + at).open())
    for (let round = 0; round < 4; round++)
      for (const client of stuck) while (rig.write(client.id, pattern(1 << 18)).written > 0);
    t.true(rig.held().sendBytes! <= 96 << 20, `${rig.held().sendBytes} bytes`)
    const live = new Client(rig, undefined, 1999).open()
    const { got } = download(rig, live, pattern(200_000))
    t.true(got.equals(pattern(200_000)))
    live.close()
    for (const client of stuck) {
      rig.tell('abort', client.id)
      rig.tell('release', client.id)
    }
  },
)

stackTest('send: an empty commit gives the room back', {}, (t, rig) => {
  const client = new Client(rig).open()
  t.true(rig.stack.exports.tg_tcp_reserve(client.id) > 0)
  t.true(rig.held().sendBytes! > 0)
  rig.stack.exports.tg_tcp_commit(client.id, 0)
  t.is(rig.held().sendBytes, 0)
  client.close()
})

stackTest('send: many small writes are not many small packets for ever, and give the same bytes', {}, (t, rig) => {
  const client = new Client(rig).open()
  const got: Buffer[] = []
  const data = pattern(20_000)
  for (let at = 0; at < data.length; at += 7) {
    const taken = client.take(rig.write(client.id, data.subarray(at, at + 7)).out)
    got.push(taken.data, client.take(taken.answers).data)
  }
  for (let rounds = 0; rounds < 20; rounds++) got.push(client.take(rig.tick(40)).data)
  t.true(data.equals(Buffer.concat(got)))
  client.close()
})
