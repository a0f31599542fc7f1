/** Segments that are not acceptable: RFC 5961, RFC 9293 §3.10.7.4, RFC 1337. */
import type { ExecutionContext } from 'ava'
import { Flag, type Packet } from '../helpers/packets.ts'
import type { Rig } from './rig.ts'
import { Client, forBoth, LINUX_OPTIONS, pattern, stackTest, V4, V6 } from './rig.ts'

/** TCP_WND: what a client may send ahead. */
const WINDOW = 1 << 20
/** What the client has announced at most: 65,535 << 7. */
const PEER_WINDOW = 65_535 << 7
const CHALLENGE_MS = 500

/** `out` is one ACK that says where the connection stands. */
function isChallenge(t: ExecutionContext, client: Client, out: readonly Packet[], what: string): void {
  t.is(out.length, 1, what)
  const tcp = out[0]?.tcp
  t.is(tcp?.flags, Flag.ack, what)
  t.is(tcp?.ack, client.seq, what)
  t.is(tcp?.payload.length, 0, what)
}

/** Another challenge may be sent. Delayed ACKs are over before. */
function wait(rig: Rig): void {
  rig.tick(CHALLENGE_MS)
}

/** Bytes go both ways. */
function works(t: ExecutionContext, rig: Rig, client: Client): void {
  const before = rig.received(client.id).length
  client.data(Buffer.from('alive'))
  t.is(rig.received(client.id).subarray(before).toString(), 'alive')
  const { out } = rig.write(client.id, Buffer.from('down'))
  t.is(client.take(out).data.toString(), 'down')
}

/** Sends 2,920 bytes to the client; of how many was the largest segment? */
function largest(t: ExecutionContext, rig: Rig, client: Client): number {
  const { out } = rig.write(client.id, pattern(2_920))
  const seen: number[] = []
  const got: Buffer[] = []
  for (let packets = out; packets.length > 0; ) {
    seen.push(...packets.map(packet => packet.tcp!.payload.length))
    const { data, answers } = client.take(packets)
    got.push(data)
    packets = answers
  }
  t.true(Buffer.concat(got).equals(pattern(2_920)))
  return Math.max(...seen)
}

forBoth('sequence: RST counts only with the very next sequence (RFC 5961 3.2)', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const { seq } = client
  for (const [name, ahead] of [
    ['the next but one', 1],
    ['the last in the window', WINDOW - 1],
    ['the window’s edge', WINDOW],
  ] as const) {
    isChallenge(t, client, client.send(Flag.rst, { seq: seq + ahead }), name)
    wait(rig)
  }
  for (const away of [-1, -1000, WINDOW + 1, 0x7fff_ffff, 0x8000_0000])
    for (const flags of [Flag.rst, Flag.rst | Flag.ack])
      t.deepEqual(client.send(flags, { seq: seq + away }), [], `${away} from the next`)
  works(t, rig, client)
  t.deepEqual(client.send(Flag.rst), [])
  t.true(rig.has(client.id, rig.stack.abi.eventGone))
  t.is(rig.error(client.id), rig.stack.abi.errorReset)
  rig.tell('release', client.id)
})

forBoth('sequence: SYN on an open connection is challenged, wherever it is (RFC 5961 4.2)', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  for (const flags of [Flag.syn, Flag.syn | Flag.ack, Flag.syn | Flag.fin, Flag.syn | Flag.psh | Flag.ack])
    for (const away of [0, -1, 1, WINDOW - 1, WINDOW + 1000, 0x8000_0000]) {
      const out = client.send(flags, { seq: client.seq + away, options: LINUX_OPTIONS, payload: pattern(10) })
      isChallenge(t, client, out, `flags ${flags} at ${away}`)
      wait(rig)
    }
  t.is(rig.received(client.id).length, 0)
  works(t, rig, client)
  client.close()
})

forBoth('sequence: a client that lost its memory is free again: SYN, challenge, RST, SYN', {}, (t, rig, pair) => {
  const old = new Client(rig, pair).open()
  const client = new Client(rig, pair, old.port, old.toPort, 0x7000_0000)
  const [challenge] = client.send(Flag.syn, { ack: 0, options: LINUX_OPTIONS })
  t.deepEqual(client.send(Flag.rst, { seq: challenge!.tcp!.ack }), [])
  t.is(rig.error(old.id), rig.stack.abi.errorReset)
  rig.tell('release', old.id)
  client.open()
  works(t, rig, client)
  client.close()
})

forBoth('sequence: an ACK of what was never sent is dropped with its payload (RFC 5961 5.2)', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  rig.write(client.id, pattern(1_000))
  for (const beyond of [1, 1000, 0x4000_0000]) {
    const out = client.send(Flag.ack, { ack: client.ack + 1_000 + beyond, payload: pattern(100) })
    isChallenge(t, client, out, `${beyond} too far`)
    wait(rig)
  }
  t.is(rig.received(client.id).length, 0)
  t.true(rig.tick(3_000).some(packet => packet.tcp!.payload.length === 1_000)) // still unacknowledged
  client.ack += 1_000
  client.send(Flag.ack)
  works(t, rig, client)
  client.close()
})

forBoth('sequence: an ACK older than the largest window is dropped, a younger one is taken', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  const out = client.send(Flag.ack, { ack: client.ack - PEER_WINDOW - 1, payload: pattern(100) })
  isChallenge(t, client, out, 'too old')
  t.is(rig.received(client.id).length, 0)
  client.send(Flag.ack, { ack: client.ack - PEER_WINDOW, payload: pattern(100) })
  client.seq += 100
  t.is(rig.received(client.id).length, 100)
  works(t, rig, client)
  client.close()
})

forBoth('sequence: segments without ACK are dropped without a word (RFC 9293 3.10.7.4)', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  for (const flags of [0, Flag.psh, Flag.fin, Flag.fin | Flag.psh, 0x20])
    t.deepEqual(client.send(flags, { payload: pattern(10) }), [])
  t.is(rig.counter('drop_sequence'), 5)
  t.is(rig.received(client.id).length, 0)
  t.false(rig.has(client.id, rig.stack.abi.eventFin))
  works(t, rig, client)
  client.close()
})

forBoth('sequence: what is further than a window away changes nothing, its ACK included', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  rig.write(client.id, pattern(1_000))
  for (const away of [WINDOW + 1, 0x4000_0000, -WINDOW - 1, 0x8000_0000]) {
    const out = client.send(Flag.ack, { seq: client.seq + away, ack: client.ack + 1_000, window: 0 })
    isChallenge(t, client, out, `${away}`)
    wait(rig)
  }
  t.true(rig.tick(3_000).some(packet => packet.tcp!.payload.length === 1_000))
  client.ack += 1_000
  client.send(Flag.ack)
  works(t, rig, client)
  client.close()
})

stackTest('sequence: one flow has two challenges a second, however many segments ask for them', {}, (t, rig) => {
  const client = new Client(rig).open()
  const bad = client.segment(Flag.rst, { seq: client.seq + 5 })
  let answers = 0
  for (let round = 0; round < 100; round++) {
    answers += rig.send(Array.from({ length: 20 }, () => bad)).length
    answers += rig.tick(40).length
  }
  t.true(answers >= 7 && answers <= 9, `${answers} in 4 s`)
  t.is(rig.counter('challenge_acks'), answers)
  t.is(rig.counter('drop_sequence'), 2_000)
  works(t, rig, client)
  client.close()
})

stackTest('sequence: all flows together have 500 to 1,500 challenges a second', { maxFlows: 2_000 }, (t, rig) => {
  const clients = Array.from({ length: 1_600 }, (_, at) => new Client(rig, V4, 10_000 + at).open())
  const bad = clients.map(client => client.segment(Flag.rst, { seq: client.seq + 5 }))
  const seconds = [0, 1, 2].map(() => {
    const answers = rig.send(bad).length
    rig.tick(1_000)
    return answers
  })
  for (const answers of seconds) t.true(answers >= 500 && answers <= 1_500, `${answers}`)
  t.true(new Set(seconds).size > 1, `the same number each second: ${seconds}`)
  for (const client of clients) client.send(Flag.rst)
  for (const client of clients) rig.tell('release', client.id)
})

forBoth('sequence: while the SYN-ACK is under way: SYN again, other SYN, RST', {}, (t, rig, pair) => {
  const client = new Client(rig, pair)
  client.knock()
  const [synAck] = rig.tell('accept', client.id)
  const repeat = () => client.send(Flag.syn, { ack: 0, seq: client.isn, options: LINUX_OPTIONS })
  t.is(repeat()[0]?.tcp?.flags, Flag.syn | Flag.ack)
  t.deepEqual(repeat(), []) // not each time: lwIP counts them, and gives up
  wait(rig)
  client.seq = client.isn + 1
  for (const away of [1, 1_000_000]) {
    isChallenge(t, client, client.send(Flag.syn, { ack: 0, seq: client.isn + away }), `SYN at ${away}`)
    wait(rig)
  }
  isChallenge(t, client, client.send(Flag.rst, { seq: client.isn + 2 }), 'RST')
  t.is(rig.state(client.id), rig.stack.abi.stateOpening)
  client.ack = (synAck!.tcp!.seq + 1) >>> 0
  client.send(Flag.ack)
  works(t, rig, client)
  client.close()
})

stackTest(
  'sequence: while the SYN-ACK is under way a wrong ACK gets RST, and the right one is still taken',
  {},
  (t, rig) => {
    const client = new Client(rig)
    client.knock()
    const [synAck] = rig.tell('accept', client.id)
    client.seq = client.isn + 1
    for (const off of [-1, 1, 77_777]) {
      const [answer] = client.send(Flag.ack, { ack: synAck!.tcp!.seq + 1 + off, payload: pattern(10) })
      t.is((answer?.tcp?.flags ?? 0) & Flag.rst, Flag.rst)
    }
    client.ack = (synAck!.tcp!.seq + 1) >>> 0
    client.send(Flag.ack)
    t.is(rig.received(client.id).length, 0)
    works(t, rig, client)
    client.close()
  },
)

forBoth(
  'sequence: in TIME_WAIT RST is ignored (RFC 1337), an old SYN challenged, a new one opens',
  {},
  (t, rig, pair) => {
    const client = new Client(rig, pair).open()
    client.take(rig.tell('finish', client.id))
    client.data(new Uint8Array(), Flag.fin | Flag.ack)
    rig.tell('release', client.id)
    t.is(rig.held().pcbs, 1)
    t.deepEqual(client.send(Flag.rst), [])
    t.deepEqual(client.send(0, { payload: pattern(5) }), [])
    isChallenge(t, client, client.send(Flag.syn, { ack: 0, seq: client.seq - 1 }), 'an old SYN')
    wait(rig)
    isChallenge(t, client, client.send(Flag.syn | Flag.ack), 'SYN with ACK')
    t.is(rig.held().pcbs, 1)
    const next = new Client(rig, pair, client.port, client.toPort, client.seq).open()
    works(t, rig, next)
    next.close()
  },
)

forBoth('sequence: a SYN right behind the RST of its predecessor opens, in the same batch', {}, (t, rig, pair) => {
  const old = new Client(rig, pair).open()
  const next = new Client(rig, pair, old.port, old.toPort, 0x7000_0000)
  const out = rig.send([old.segment(Flag.rst), next.segment(Flag.syn, { ack: 0, options: LINUX_OPTIONS })])
  t.deepEqual(out, [])
  t.is(rig.error(old.id), rig.stack.abi.errorReset)
  rig.tell('release', old.id)
  const [id] = [...rig.flows.keys()].filter(key => rig.state(key) === rig.stack.abi.stateHeld)
  t.not(id, undefined)
  const [synAck] = rig.tell('accept', id!)
  t.is(synAck?.tcp?.ack, 0x7000_0001)
  rig.tell('release', id!)
})

forBoth('sequence: options of a SYN are taken from nothing else', {}, (t, rig, pair) => {
  const client = new Client(rig, pair).open()
  client.send(Flag.ack, { options: [2, 4, 0, 1, 3, 3, 14, 1] })
  client.send(Flag.ack, { options: [1, 1, 4, 2, 2, 4, 0xff, 0xff] })
  t.is(largest(t, rig, client), pair === V6 ? 1_440 : 1_460)
  client.close()
})

for (const [name, options, size] of [
  ['MSS 0', [2, 4, 0, 0], 1_460],
  ['MSS 1', [2, 4, 0, 1], 48],
  ['MSS 65535', [2, 4, 255, 255], 1_460],
  ['window scale 255', [2, 4, 0x05, 0xb4, 3, 3, 255, 1], 1_460],
  ['no option but timestamps', [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0], 536],
  ['an end of the list, and rubbish', [2, 4, 0x05, 0xb4, 0, 255, 0, 1], 1_460],
] as const)
  stackTest(`sequence: a SYN with ${name}`, {}, (t, rig) => {
    const client = new Client(rig).open(options)
    t.is(largest(t, rig, client), size)
    works(t, rig, client)
    client.close()
  })

stackTest('sequence: urgent data is data', {}, (t, rig) => {
  const client = new Client(rig).open()
  const segment = client.segment(Flag.ack | 0x20, { payload: Buffer.from('urgent') })
  rig.send([segment])
  t.is(rig.counter('drop_checksum'), 0)
  client.seq += 6
  t.is(rig.received(client.id).toString(), 'urgent')
  client.close()
})

const STATES = {
  'half-closed by the client': (client: Client) => void client.data(new Uint8Array(), Flag.fin | Flag.ack),
  'half-closed by us': (client: Client) => void client.take(client.rig.tell('finish', client.id)),
  'half-closed by us, unacknowledged': (client: Client) => void client.rig.tell('finish', client.id),
  'closing on both sides': (client: Client) => {
    client.rig.tell('finish', client.id)
    client.send(Flag.fin | Flag.ack)
    client.seq += 1
  },
} as const
for (const [name, enter] of Object.entries(STATES))
  stackTest(`sequence: ${name}: every combination of flags near and far does no harm`, {}, (t, rig) => {
    const client = new Client(rig).open()
    enter(client)
    for (let flags = 0; flags < 64; flags++)
      for (const away of [-WINDOW - 1, -1, 0, 1, WINDOW, 0x8000_0000])
        for (const ack of [-PEER_WINDOW - 1, -1, 0, 1, 0x8000_0000])
          for (const payload of [0, 1]) {
            const isEnd = away === 0 && (flags & Flag.rst) !== 0
            const isFin = away === 0 && (flags & Flag.fin) !== 0 && payload === 0
            if (isEnd || isFin) continue
            client.send(flags, { seq: client.seq + away, ack: client.ack + ack, payload: pattern(payload) })
          }
    for (const id of rig.flows.keys()) rig.tell('release', id)
    rig.tick(2_000)
    const next = new Client(rig, V4, 50_000).open()
    works(t, rig, next)
    next.close()
  })
