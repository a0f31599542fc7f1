/** Windows of all sizes, the client's and ours: bytes are exact, and nothing is killed. */
import { Flag, type Packet } from '../helpers/packets.ts'
import { fill, WINDOW } from './pieces.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern, type Rig } from './rig.ts'

/** Takes what comes, acknowledges it with `window`, and lets time pass until `total` bytes are there or `ms` are over. */
function download(rig: Rig, client: Client, first: Packet[], total: number, window: number, ms: number): Buffer {
  const got: Buffer[] = []
  let length = 0
  let packets = first
  client.window = window
  for (const end = rig.now + ms; length < total && rig.now < end; ) {
    const { data, answers } = client.take(packets)
    got.push(data)
    length += data.length
    const again = packets.some(one => one.tcp!.payload.length > 0) && data.length === 0 ? client.send(Flag.ack) : []
    packets = [...answers, ...again]
    if (packets.length === 0) packets = rig.tick(40)
  }
  return Buffer.concat(got)
}

for (const window of [1, 2, 47, 100])
  forBoth(`window: of ${window}: the bytes come, in order, and nothing is killed`, {}, (t, rig, pair) => {
    const client = new Client(rig, pair)
    client.window = window
    client.open([2, 4, 0x05, 0xb4])
    const data = pattern(20 * window)
    const { out } = rig.write(client.id, data)
    t.true(download(rig, client, out, data.length, window, 600_000).equals(data))
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    client.window = 65_535
    client.close()
  })

forBoth('window: silly steps, a byte more each time, and back: the bytes are exact', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  client.open([2, 4, 0x05, 0xb4])
  const data = pattern(100_000)
  const got: Buffer[] = []
  let { out } = rig.write(client.id, data.subarray(0, 60_000))
  for (let round = 0; Buffer.concat(got).length < 60_000 && round < 20_000; round++) {
    client.window = [0, 1, 3_000, 2, 65_535, 7, 0, 1_459, 1_461][round % 9]!
    const { data: part, answers } = client.take(out)
    got.push(part)
    out = answers.length > 0 ? answers : client.send(Flag.ack)
    if (out.length === 0) out = rig.tick(40)
  }
  t.true(Buffer.concat(got).equals(data.subarray(0, 60_000)))
  client.window = 65_535
  client.close()
})

forBoth(
  'window: closed for ten minutes: probes go on, nothing is killed, and then the bytes come',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open([2, 4, 0x05, 0xb4])
    client.window = 0
    for (const byte of ['a', 'b']) client.data(Buffer.from(byte))
    const data = pattern(10_000)
    let { out } = rig.write(client.id, data)
    t.deepEqual(out, [])
    let probes = 0
    let longest = 0
    for (let last = rig.now; rig.now < 600_000; ) {
      out = rig.tick(40)
      for (const packet of out) {
        probes++
        longest = Math.max(longest, rig.now - last)
        last = rig.now
        t.true(packet.tcp!.payload.length <= 1)
      }
      if (out.length > 0) client.send(Flag.ack)
      t.true(rig.held().sendBytes! <= 128 << 10)
    }
    t.true(probes >= 30, `${probes} probes`)
    t.true(longest <= 60_000, `${longest} ms without a probe`)
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    client.window = 65_535
    out = client.send(Flag.ack)
    t.true(download(rig, client, out, data.length, 65_535, 30_000).equals(data))
    client.close()
  },
)

forBoth(
  'window: ours closed for minutes: a client’s probes are answered, its bytes neither lost nor doubled',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open(LINUX_OPTIONS)
    fill(client, 0)
    rig.tick(1_000)
    for (let minute = 0; minute < 5; minute++) {
      for (const [seq, payload] of [
        [client.seq - 1, pattern(0)], // Linux
        [client.seq, pattern(1)], // BSD
      ] as const) {
        const [answer, ...more] = client.send(Flag.ack, { seq, payload })
        t.deepEqual(more, [])
        t.is(answer?.tcp?.ack, client.seq)
        t.is(answer?.tcp?.window, 0)
      }
      rig.tick(60_000)
    }
    t.is(rig.state(client.id), rig.stack.abi.stateOpen)
    rig.reading = true
    rig.read(client.id)
    rig.flush()
    client.data(Buffer.from('more'))
    t.is(rig.received(client.id).length, WINDOW + 4)
    t.is(rig.received(client.id).subarray(WINDOW).toString(), 'more')
    client.close()
  },
)
