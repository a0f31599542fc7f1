import { Flag } from '../helpers/packets.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern, type Rig, stackTest, V4 } from './rig.ts'

forBoth('receive: bytes in order are read as they were sent, and acknowledged', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const data = pattern(50_000)
  for (let at = 0; at < data.length; at += 1440) client.data(data.subarray(at, at + 1440))
  t.deepEqual(rig.received(client.id), data)
  const acks = rig.tick(100)
  t.is(acks.at(-1)?.tcp?.ack, client.seq)
  client.close()
})

forBoth('receive: segments in reverse order, doubled and overlapping give the bytes once', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const data = pattern(8000)
  const part = (from: number, to: number) =>
    client.segment(Flag.ack, { seq: client.seq + from, payload: data.subarray(from, to) })
  rig.send([part(7000, 8000), part(5000, 6500), part(6000, 7500), part(3000, 5200), part(3000, 4000)])
  t.is(rig.received(client.id).length, 0)
  rig.send([part(1000, 3500), part(0, 500), part(400, 1100)])
  t.deepEqual(rig.received(client.id), data)
  client.seq += data.length
  client.close()
})

for (const seed of [1, 2, 3, 4, 5, 6])
  stackTest(`receive: 60 random pieces in random order give the bytes once, seed ${seed}`, {}, (t, rig) => {
    const client = new Client(rig).open()
    const data = pattern(20_000)
    let state = seed
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff
      return (state >> 8) % below
    }
    const segments: Buffer[] = []
    const put = (from: number, length: number) =>
      segments.push(client.segment(Flag.ack, { seq: client.seq + from, payload: data.subarray(from, from + length) }))
    for (let count = 0; count < 60; count++) put(random(data.length - 1), 1 + random(1400))
    const order = segments.map(segment => ({ segment, key: random(1_000_000) })).sort((a, b) => a.key - b.key)
    rig.send(order.map(one => one.segment))
    // what chance left out comes by retransmission
    segments.length = 0
    for (let at = 0; at < data.length; at += 1400) put(at, 1400)
    rig.send(segments)
    t.deepEqual(rig.received(client.id), data)
    client.seq += data.length
    client.close()
  })

stackTest('receive: FIN ahead of its data is known only when the data has come', {}, (t, rig) => {
  const client = new Client(rig).open()
  const { abi } = rig.stack
  client.send(Flag.fin | Flag.ack, { seq: client.seq + 5, payload: Buffer.from('world') })
  t.false(rig.has(client.id, abi.eventFin))
  client.send(Flag.ack, { payload: Buffer.from('hello') })
  t.true(rig.has(client.id, abi.eventFin))
  t.is(rig.received(client.id).toString(), 'helloworld')
  client.seq += 11
  client.take(rig.tell('finish', client.id))
  rig.tell('release', client.id)
})

stackTest('receive: data beyond the window is not taken, and 1 MiB is the window', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.reading = false
  const chunk = pattern(64_000)
  const limit = 1 << 20
  let sent = 0
  for (; sent < limit + 200_000; sent += chunk.length) client.data(chunk)
  const { abi, words } = rig.stack
  const waiting = words[(abi.flows + client.id * abi.flowBytes + abi.flowRxBytes) / 4]!
  t.true(waiting <= limit, `${waiting} bytes wait`)
  t.true(waiting > limit - chunk.length)
  t.true(rig.held().receiveBytes! >= waiting, 'they are in blocks')
  t.is(rig.held().slots, 0, 'and hold no slot')
  rig.tell('abort', client.id)
  rig.tell('release', client.id)
})

stackTest('receive: the window opens only for bytes that were consumed', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.reading = false
  const data = pattern(600_000)
  const windowOf = () => {
    const [answer] = client.send(Flag.ack | Flag.psh, { payload: pattern(1) })
    client.seq += 1
    const acks = answer ? [answer] : rig.tick(80)
    return acks.at(-1)!.tcp!.window << 5
  }
  const before = windowOf()
  for (let at = 0; at < data.length; at += 60_000) client.data(data.subarray(at, at + 60_000))
  rig.tick(80)
  const full = windowOf()
  t.true(before - full >= data.length - 64, `${before} → ${full}`)
  rig.drain()
  const got = rig.read(client.id, 1 + 500_000)
  t.is(got.length, 1 + 500_000)
  t.deepEqual(got.subarray(1), data.subarray(0, 500_000))
  rig.flush()
  const opened = windowOf()
  t.true(Math.abs(opened - full - 500_000) < 128, `${full} → ${opened}`)
  t.deepEqual(rig.read(client.id).subarray(0, 100_000), data.subarray(500_000))
  client.close()
})

stackTest('receive: consumed little by little, bytes stay in order and whole', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.reading = false
  const data = pattern(300_000)
  for (let at = 0; at < data.length; at += 1460) client.data(data.subarray(at, at + 1460))
  const pieces: Buffer[] = []
  for (let step = 1; ; step = ((step * 7) % 5003) + 1) {
    const got = rig.read(client.id, step)
    if (got.length === 0) break
    pieces.push(got)
  }
  t.true(data.equals(Buffer.concat(pieces)))
  t.is(rig.held().receiveBytes, 0)
  client.close()
})

stackTest('receive: a flow that nobody reads does not starve another', {}, (t, rig) => {
  const stuck = new Client(rig, undefined, 1001).open()
  const live = new Client(rig, undefined, 1002).open()
  rig.reading = false
  for (let sent = 0; sent < 1 << 20; sent += 60_000) stuck.data(pattern(60_000))
  rig.reading = true
  const data = pattern(3_000_000)
  for (let at = 0; at < data.length; at += 60_000) live.data(data.subarray(at, at + 60_000))
  t.true(data.equals(rig.received(live.id)))
  live.close()
  rig.tell('abort', stuck.id)
  rig.tell('release', stuck.id)
})

stackTest('receive: data that comes with the ACK of the SYN-ACK is delivered', {}, (t, rig) => {
  const client = new Client(rig)
  const [answer] = rig.tell('accept', client.knock())
  client.seq++
  client.ack = answer!.tcp!.seq + 1
  client.data(Buffer.from('GET /'))
  t.is(rig.received(client.id).toString(), 'GET /')
  t.true(rig.has(client.id, rig.stack.abi.eventOpen | rig.stack.abi.eventData))
  client.close()
})

stackTest('receive: a super-segment of 64 KB with a partial checksum is taken whole', { vnetHdr: true }, (t, rig) => {
  const client = new Client(rig).open()
  const data = pattern(65_000)
  const packet = client.segment(Flag.ack, { payload: data })
  packet.writeUInt16BE(0xdead, 20 + 16) // to be completed by whoever needs it
  const vnet = Buffer.alloc(12)
  vnet.set([1, 1, 40, 0, 0xb4, 5, 20, 0, 16, 0])
  rig.send([packet], vnet)
  client.seq += data.length
  t.true(data.equals(rig.received(client.id)))
  rig.send([client.segment(Flag.ack, { payload: data.fill(1) }).fill(9, 56, 58)]) // the header does not vouch
  t.is(rig.counter('drop_checksum'), 1)
  t.is(rig.received(client.id).length, data.length)
  client.close()
})

stackTest('receive: a batch of segments is acknowledged once, when the host has seen it', {}, (t, rig) => {
  const client = new Client(rig).open()
  const segments = Array.from({ length: 8 }, (_, at) => {
    const segment = client.segment(Flag.ack, { payload: pattern(1460, at * 1460) })
    client.seq += 1460
    return segment
  })
  const out = rig.send(segments)
  t.deepEqual(
    out.map(({ tcp }) => tcp!.ack),
    [client.seq],
  )
  t.deepEqual(rig.tick(200), [])
  client.close()
})

stackTest(
  'receive: a super-segment is acknowledged at once, less than one segment within 40 ms',
  { vnetHdr: true },
  (t, rig) => {
    const client = new Client(rig).open()
    const whole = Buffer.alloc(12)
    whole[0] = 2 // VIRTIO_NET_HDR_F_DATA_VALID
    t.deepEqual(
      rig.send([client.segment(Flag.ack, { payload: pattern(14_600) })], whole).map(({ tcp }) => tcp!.ack),
      [client.seq + 14_600],
    )
    client.seq += 14_600
    t.deepEqual(client.data(pattern(100)), [])
    t.deepEqual(
      rig.tick(80).map(({ tcp }) => tcp!.ack),
      [client.seq],
    )
    t.deepEqual(client.data(pattern(100)), [])
    t.deepEqual(client.data(pattern(100)), [], 'two small ones are no whole segment')
    t.is(rig.tick(80).length, 1)
    client.close()
  },
)

const WITHOUT_SACK = [2, 4, 0x05, 0xb4, 1, 1, 1, 3, 3, 7]

/** Upstreams that read nothing, until no more is kept of clients that have over 64 KiB waiting. */
function fillBudget(rig: Rig): Client[] {
  rig.reading = false
  const clients: Client[] = []
  for (let at = 0; 2 * rig.stack.exports.tg_receive_held() <= rig.stack.exports.tg_memory_size(); at++) {
    const client = new Client(rig, { ...V4, from: '198.18.0.9' }, 10_000 + at).open()
    for (let part = 0; part < 17; part++) client.data(pattern(60_000))
    clients.push(client)
  }
  return clients
}

for (const [name, options] of [
  ['with SACK', LINUX_OPTIONS],
  ['without SACK', WITHOUT_SACK],
] as const)
  stackTest(
    `receive: over the budget data is dropped, and what its segment acknowledges counts (${name})`,
    { vnetHdr: true, maxFlows: 100 },
    (t, rig) => {
      const clients = fillBudget(rig)
      const client = new Client(rig).open(options)
      for (let part = 0; part < 2; part++) client.data(pattern(60_000))
      const { out } = rig.write(client.id, pattern(12_000))
      const before = rig.counter('drop_receive_budget')
      for (let times = 0; times < 5; times++) client.send(Flag.ack | Flag.psh, { payload: pattern(1000) })
      t.is(rig.counter('drop_receive_budget'), before + 5)
      t.is(rig.counter('tcp_retransmitted'), 0, 'segments with data are no duplicate acknowledgements')
      const end = client.ack + 12_000
      t.is(
        out.reduce((sum, { tcp }) => sum + tcp!.payload.length, 0),
        12_000,
      )
      client.send(Flag.ack | Flag.psh | Flag.fin, { payload: pattern(1000), ack: end >>> 0 })
      t.is(rig.counter('drop_receive_budget'), before + 6)
      t.false(rig.has(client.id, rig.stack.abi.eventFin), 'an end behind data that was dropped is none')
      t.false(
        rig.tick(5000).some(({ tcp }) => tcp!.payload.length > 0),
        'nothing is sent again',
      )
      for (const { id } of [...clients, client]) rig.tell('abort', id)
      for (const { id } of [...clients, client]) rig.tell('release', id)
    },
  )
