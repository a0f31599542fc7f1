import test from 'ava'
import { GatewayError } from '../../src/errors.ts'
import { Stack } from '../../src/stack/stack.ts'
import { RuntimeError } from '../../src/stack/webassembly.ts'
import { Flag, type Packet } from '../helpers/packets.ts'
import { Client, pattern, Rig, V4, V6 } from './rig.ts'

const OPTIONS = { mtu: 1500, vnetHdr: false, uso: false, echo: false, maxFlows: 8, maxEndpoints: 8, keepAliveMs: 0 }

/** Spoils the reference count of a held SYN: lwIP asserts it when the SYN is freed. */
function trapped(rig: Rig): unknown {
  const id = new Client(rig).knock()
  const { abi, words, bytes } = rig.stack
  const syn = words[(abi.flows + id * abi.flowBytes + abi.flowError) / 4 + 2]!
  bytes[syn + 14] = 0 // struct pbuf: next, payload, tot_len, len, type, flags, ref
  try {
    rig.tell('release', id)
  } catch (error) {
    return error
  }
  return undefined
}

test('trap: it is a RuntimeError, which becomes STACK_TRAP with the cause', t => {
  const rig = new Rig()
  const error = trapped(rig)
  t.true(error instanceof RuntimeError)
  const explained = rig.stack.explain(error)
  t.true(explained instanceof GatewayError)
  t.is((explained as GatewayError).code, 'STACK_TRAP')
  t.is((explained as GatewayError).cause, error)
  t.regex((explained as GatewayError).message, /^lwIP stopped: pbuf_free: p->ref > 0$/)
})

test('trap: another error is given back as it is', t => {
  const error = new TypeError('ours')
  t.is(new Stack(OPTIONS).explain(error), error)
})

test('trap: another instance is not touched', t => {
  const other = new Stack(OPTIONS)
  t.truthy(trapped(new Rig()))
  t.is(other.exports.tg_pcbs(), 0)
  t.is(other.exports.tg_tick(2000), 0)
})

test('trap: an instance is made in less than 50 ms, so that a new one takes the place of one that stopped', t => {
  const times = [1, 2, 3, 4, 5].map(() => {
    const start = performance.now()
    new Stack(OPTIONS)
    return performance.now() - start
  })
  t.true(Math.min(...times) < 50, times.join())
})

/** What a new stack sends when it takes the place of `stopped`. */
function adopted(stopped: Rig): { heir: Rig; out: Packet[] } {
  const heir = new Rig({ maxFlows: 512 })
  const out: Packet[] = []
  heir.stack.adopt(stopped.stack, () => out.push(...heir.flush()))
  return { heir, out }
}

for (const [family, pair] of [
  ['IPv4', V4],
  ['IPv6', V6],
] as const)
  test(`trap: the next stack resets each connection, with the sequences that its client expects (${family})`, t => {
    const rig = new Rig()
    const idle = new Client(rig, pair, 40_001).open()
    const behind = new Client(rig, pair, 40_002).open()
    const opening = new Client(rig, pair, 40_003)
    opening.knock()
    const [synAck] = rig.tell('accept', opening.id)
    rig.write(behind.id, pattern(1000)) // it is not acknowledged
    idle.data(pattern(10))
    new Client(rig, pair, 40_004).knock() // held: its SYN comes again
    t.truthy(trapped(rig))

    const { heir, out } = adopted(rig)
    const resets = out.map(({ tcp: got, from, to }) => ({ ...got!, from, to }))
    t.true(resets.every(({ flags }) => flags === (Flag.rst | Flag.ack)))
    t.true(resets.every(({ from, to, fromPort }) => from === pair.to && to === pair.from && fromPort === 80))
    t.deepEqual(
      resets.map(({ toPort, seq, ack }) => [toPort, seq, ack]),
      [
        [40_001, idle.ack, idle.seq],
        [40_002, behind.ack, behind.seq],
        [40_002, behind.ack + 1000, behind.seq],
        [40_003, synAck!.tcp!.seq, opening.isn + 1],
        [40_003, synAck!.tcp!.seq + 1, opening.isn + 1],
      ],
    )
    t.is(heir.held().flows, 0)
  })

test('trap: of many connections each is reset, also when some of their memory is spoilt', t => {
  const rig = new Rig({ maxFlows: 512 })
  const clients = Array.from({ length: 200 }, (_, at) => new Client(rig, V4, 30_000 + at).open())
  const { abi, words } = rig.stack
  const pcb = (abi.flowError + 4) / 4
  for (const [at, wrong] of [0, 2, 0xffff_fff0].entries())
    words[(abi.flows + clients[at]!.id * abi.flowBytes) / 4 + pcb] = wrong
  t.truthy(trapped(rig))
  const { out } = adopted(rig)
  const ports = out.map(({ tcp: got }) => got!.toPort)
  t.deepEqual(
    ports.sort((a, b) => a - b),
    clients.slice(3).map(({ port }) => port),
  )
})
