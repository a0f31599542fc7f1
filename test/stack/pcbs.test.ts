import { readFileSync } from 'node:fs'
import test from 'ava'
import { Module } from '../../src/stack/webassembly.ts'
import { METER, meterModule } from '../cost/wasm-meter.ts'
import { Flag } from '../helpers/packets.ts'
import { Client, pattern, Rig, stackTest } from './rig.ts'

const FLOWS = 60

stackTest('pcbs: open flows at rest need no timer, and one that sends gets it back', {}, (t, rig) => {
  const clients = Array.from({ length: FLOWS }, (_, at) => new Client(rig, undefined, 10_000 + at).open())
  rig.tick(200)
  t.is(rig.stack.exports.tg_tick(rig.now), 0, 'all are parked')
  t.is(rig.held().pcbs, FLOWS)
  const sleeper = clients[FLOWS / 2]!
  t.deepEqual(sleeper.data(Buffer.from('one segment, whose ACK is delayed')), [])
  t.is(rig.stack.exports.tg_tick(rig.now), 1)
  const acks = rig.tick(100)
  t.is(acks.length, 1)
  t.is(acks[0]!.tcp!.ack, sleeper.seq)
  rig.tick(100)
  t.is(rig.stack.exports.tg_tick(rig.now), 0)
  for (const client of clients) client.close()
})

stackTest('pcbs: what was written to a flow at rest is sent again until it is acknowledged', {}, (t, rig) => {
  const client = new Client(rig).open()
  rig.tick(500)
  t.is(rig.stack.exports.tg_tick(rig.now), 0)
  const { out } = rig.write(client.id, pattern(100))
  t.is(out.length, 1)
  const again = rig.tick(5_000)
  t.true(again.length >= 1, 'the retransmission')
  t.is(again[0]!.tcp!.seq, out[0]!.tcp!.seq)
  client.take(again.slice(0, 1))
  t.deepEqual(rig.tick(5_000), [])
  client.close()
})

stackTest('pcbs: keep-alive finds a client that is gone though no timer ran', { keepAliveMs: 5_000 }, (t, rig) => {
  const gone = new Client(rig, undefined, 10_000).open()
  const stays = new Client(rig, undefined, 10_001).open()
  rig.tick(1_000)
  t.is(rig.stack.exports.tg_tick(rig.now), 0)
  rig.now += 60_000
  t.is(rig.stack.exports.tg_tick(rig.now), 1, 'both are due')
  const probes = rig.tick(100)
  t.deepEqual(probes.map(({ tcp }) => tcp!.toPort).sort(), [10_000, 10_001])
  stays.send(Flag.ack)
  for (let round = 0; round < 40; round++) {
    const asked = rig.tick(500)
    if (asked.some(({ tcp }) => tcp!.toPort === stays.port)) stays.send(Flag.ack)
  }
  t.true(rig.has(gone.id, rig.stack.abi.eventGone))
  t.false(rig.has(stays.id, rig.stack.abi.eventGone))
  rig.tell('release', gone.id)
  stays.close()
})

stackTest('pcbs: segments of many flows, out of turn, reach each its own', {}, (t, rig) => {
  const clients = Array.from({ length: FLOWS }, (_, at) => new Client(rig, undefined, 10_000 + at).open())
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < FLOWS; at++) {
      const client = clients[(at * 7) % FLOWS]!
      client.data(Buffer.from(`${client.port}:${round};`))
    }
    if (round === 1) rig.tick(300)
  }
  for (const client of clients)
    t.is(rig.received(client.id).toString(), [0, 1, 2].map(round => `${client.port}:${round};`).join(''))
  for (const client of clients) client.close()
})

for (const keepAliveMs of [0, 5_000])
  stackTest(
    `pcbs: a flow that the upstream has half-closed rests too, keep-alive ${keepAliveMs}`,
    { keepAliveMs },
    (t, rig) => {
      const client = new Client(rig).open()
      client.take(rig.tell('finish', client.id))
      rig.tick(200)
      t.is(rig.stack.exports.tg_tick(rig.now), 0)
      for (let round = 0; round < 3; round++) {
        rig.now += 6_000
        rig.stack.exports.tg_tick(rig.now)
        rig.tick(100)
        t.is(rig.stack.exports.tg_tick(rig.now), 0, 'nothing is probed, and nothing waits')
      }
      client.data(Buffer.from('still talking'))
      t.is(rig.received(client.id).toString(), 'still talking')
      t.is(rig.tick(100).at(-1)?.tcp?.ack, client.seq)
      client.data(new Uint8Array(), Flag.fin | Flag.ack)
      rig.tell('release', client.id)
    },
  )

/** Opens a connection and ends it on both sides: it is in TIME_WAIT. */
function ended(rig: Rig, port: number): Client {
  const client = new Client(rig, undefined, port).open()
  client.take(rig.tell('finish', client.id))
  client.data(new Uint8Array(), Flag.fin | Flag.ack)
  rig.tell('release', client.id)
  rig.flows.clear()
  return client
}

test('pcbs: a segment of a connection in TIME_WAIT costs the same beside a thousand of them', t => {
  const module = new Module(meterModule(readFileSync(new URL('../../../wasm/lwip.wasm', import.meta.url))))
  const rig = new Rig({ maxFlows: 2_000 }, module)
  const meter = (rig.stack.exports as unknown as Record<string, { value: bigint }>)[METER.instructions]!
  const cost = (client: Client) => {
    const before = meter.value
    const out = client.send(Flag.fin | Flag.ack, { seq: client.seq - 1 })
    t.is(out.length, 1, 'the FIN came again, and is acknowledged')
    return Number(meter.value - before)
  }
  const alone = cost(ended(rig, 1_000))
  const first = ended(rig, 1_001)
  for (let port = 2_000; port < 3_000; port++) ended(rig, port)
  t.is(rig.held().pcbs, 1_002)
  const beside = cost(first)
  t.true(beside < 1.1 * alone, `${beside} instructions, ${alone} alone`)
})

stackTest(
  'pcbs: what a client repeats in TIME_WAIT is acknowledged twice a second, and it ends all the same',
  {},
  (t, rig) => {
    const client = ended(rig, 1_000)
    const fin = client.segment(Flag.fin | Flag.ack, { seq: client.seq - 1 })
    const data = client.segment(Flag.ack, { payload: pattern(100) })
    const answers = (batches: number) => {
      let count = 0
      for (let at = 0; at < batches; at++) count += rig.send([fin, data, data, fin]).length + rig.tick(32).length
      return count
    }
    t.is(answers(1), 1)
    t.true(answers(62) <= 4, 'of 248 in two seconds')
    t.is(rig.held().pcbs, 1)
    rig.tick(1_200)
    t.is(rig.held().pcbs, 0)
  },
)

/** Microseconds of a call between ticks, the best of many, beside so many flows with something in flight. */
function hurryUs(flows: number): number {
  const rig = new Rig({ maxFlows: flows })
  for (let at = 0; at < flows; at++) rig.write(new Client(rig, undefined, 10_000 + at).open().id, pattern(10))
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 50; round++) {
    const before = performance.now()
    for (let call = 0; call < 20; call++) rig.stack.exports.tg_hurry(rig.now)
    best = Math.min(best, (performance.now() - before) * 50)
  }
  return best
}

test('pcbs: a call between ticks looks only at flows that wait for their reordering window', t => {
  const few = hurryUs(20)
  const many = hurryUs(3000)
  t.true(many <= 10 * few + 5, `${few} us beside 20 flows, ${many} beside 3,000`)
})
