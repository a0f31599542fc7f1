/** All of the stack's memory is taken by what upstreams have not taken. */
import type { ExecutionContext } from 'ava'
import { Flag, fragments, tcp, udp } from '../helpers/packets.ts'
import { Client, pattern, type Rig, stackTest, V4, V6 } from './rig.ts'

const OPTIONS = { mtu: 65_535, vnetHdr: true, maxFlows: 20_000, maxEndpoints: 64, echo: true }
/** From one such step to the next less of the memory is left. */
const SIZES = [60_000, 20_000, 4_000, 500, 30, 1]

/** Addresses and ports, each once. */
function names(at: number): { pair: typeof V4; port: number } {
  const pair = { from: `198.18.${1 + Math.floor(at / 50_000)}.1`, to: V4.to }
  return { pair, port: 10_000 + (at % 50_000) }
}

/** Opens flows and leaves their bytes, until there is no memory for the next. What is open then, and how many were not. */
function fill(rig: Rig): { clients: Client[]; failed: number } {
  rig.reading = false
  const clients: Client[] = []
  let at = 0
  let failed = 0
  for (const bytes of SIZES) {
    for (let inARow = 0; inARow < 8; ) {
      const { pair, port } = names(at++)
      const client = new Client(rig, pair, port)
      if (openAndLeave(rig, client, bytes)) {
        clients.push(client)
        inARow = 0
      } else {
        inARow++
        failed++
        if (client.id >= 0) rig.tell('release', client.id)
      }
      rig.flows.clear()
    }
  }
  return { clients, failed }
}

function openAndLeave(rig: Rig, client: Client, bytes: number): boolean {
  try {
    client.open()
  } catch {
    return false // no SYN-ACK
  }
  client.data(pattern(bytes))
  return rig.state(client.id) === rig.stack.abi.stateOpen
}

/** Whatever a client may send while there is nothing left. */
function pester(rig: Rig, clients: readonly Client[]): void {
  const { exports, abi } = rig.stack
  for (const [at, client] of clients.slice(0, 200).entries()) {
    client.send(Flag.ack | Flag.psh, { seq: (client.seq + 5_000) >>> 0, payload: pattern(3_000) })
    client.send(Flag.ack, { payload: pattern(1) })
    if (at % 3 === 0) rig.write(client.id, pattern(70_000))
    if (at % 5 === 0) rig.tell('finish', client.id)
  }
  for (let port = 1; port <= 300; port++) {
    const pair = { from: `198.18.200.${1 + (port % 250)}`, to: V4.to }
    rig.send([tcp(pair, { fromPort: port, toPort: 80, seq: port, flags: Flag.syn })])
    rig.send(fragments(pair, 17, pattern(5_000), 1500, port).slice(0, 2))
    rig.send(fragments(V6, 17, pattern(5_000), 1500, port).slice(1))
    rig.send([udp(pair, port, 53, pattern(100))])
    exports.tg_udp_release()
    rig.send([tcp(pair, { fromPort: port, toPort: 81, seq: 1, flags: Flag.ack, payload: pattern(9) })])
  }
  for (const id of rig.flows.keys()) if (rig.state(id) === abi.stateHeld) rig.tell('accept', id)
  rig.tick(8_000)
}

/** Reads, ends and lets go of everything. */
function empty(rig: Rig): void {
  const { abi, exports } = rig.stack
  for (let id = 0; id < OPTIONS.maxFlows; id++) if (rig.state(id) !== 0) rig.tell('release', id)
  for (let endpoint = 0; endpoint < OPTIONS.maxEndpoints; endpoint++) {
    const row = (abi.endpoints + endpoint * abi.endpointBytes + abi.endpointUsed) / 4
    if (rig.stack.words[row] !== 0) exports.tg_udp_forget(endpoint)
  }
  rig.tick(20_000) // fragments
  rig.reading = true
}

function serves(t: ExecutionContext, rig: Rig, port: number): void {
  const client = new Client(rig, V4, port).open()
  client.data(pattern(1000))
  t.true(rig.received(client.id).equals(pattern(1000)))
  const { data } = client.take(rig.write(client.id, pattern(5_000)).out)
  t.true(data.equals(pattern(5_000)))
  client.close()
}

stackTest('memory: full of what upstreams leave: no trap, the next is refused, old flows live', OPTIONS, (t, rig) => {
  const { exports } = rig.stack
  t.is(exports.tg_memory_used(), 0)
  const { clients, failed } = fill(rig)
  t.true(clients.length > 500 && failed > 0, `${clients.length} flows, ${failed} failed`)
  t.true(rig.counter('drop_memory') > 0)
  t.true(exports.tg_memory_used() / exports.tg_memory_size() > 0.9)

  pester(rig, clients)
  const [first] = clients
  t.is(rig.state(first!.id), rig.stack.abi.stateOpen)
  t.true(rig.read(first!.id).subarray(0, 60_000).equals(pattern(60_000)), 'its bytes are whole')

  empty(rig)
  t.is(exports.tg_memory_used(), 0)
  serves(t, rig, 9_000)
})

stackTest(
  'memory: a flow whose bytes cannot be kept is reset to both sides, never ended in order',
  OPTIONS,
  (t, rig) => {
    const { abi, words } = rig.stack
    const slow = new Client(rig, V4, 9_000).open()
    fill(rig)
    rig.flows.set(slow.id, { id: slow.id, events: 0, received: [] })
    const out = slow.data(pattern(60_000), Flag.ack | Flag.psh | Flag.fin)
    t.true(
      out.some(({ tcp: got }) => (got!.flags & Flag.rst) !== 0),
      'RST to the client',
    )
    t.true(rig.has(slow.id, abi.eventGone))
    t.is(rig.error(slow.id), abi.errorMemory)
    const waiting = words[(abi.flows + slow.id * abi.flowBytes + abi.flowRxBytes) / 4]
    t.is(waiting, 60_000, 'to the host they were never delivered')
    t.is(rig.stack.exports.tg_tcp_peek(slow.id), 0)
    empty(rig)
  },
)

stackTest('memory: connections in TIME_WAIT give theirs to new ones', OPTIONS, (t, rig) => {
  const MANY = 64
  for (let at = 0; at < MANY; at++) {
    const client = new Client(rig, V4, 1_000 + at).open()
    client.take(rig.tell('finish', client.id))
    client.data(new Uint8Array(), Flag.fin | Flag.ack)
    rig.tell('release', client.id)
  }
  t.is(rig.held().pcbs, MANY)
  const { clients, failed } = fill(rig)
  t.true(failed > 0)
  t.is(rig.held().pcbs, clients.length, 'none waits any more, and no time has passed')
  empty(rig)
})
