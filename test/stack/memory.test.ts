/** All of the stack's memory is taken by what upstreams have not taken. */
import type { ExecutionContext } from 'ava'
import { Flag, fragments, tcp, udp } from '../helpers/packets.ts'
import { Client, pattern, type Rig, stackTest, V4, V6 } from './rig.ts'

const OPTIONS = { mtu: 65_535, vnetHdr: true, maxFlows: 20_000, maxEndpoints: 64, echo: true }
const BYTES = 60_000

/** Addresses and ports, each once. */
function names(at: number): { pair: typeof V4; port: number } {
  const pair = { from: `198.18.${1 + Math.floor(at / 50_000)}.1`, to: V4.to }
  return { pair, port: 10_000 + (at % 50_000) }
}

/** Opens flows of one host and leaves their bytes, until the memory is full and some have given way. */
function fill(rig: Rig): Client[] {
  rig.reading = false
  const clients: Client[] = []
  while (rig.counter('drop_memory') === 0) {
    const { pair, port } = names(clients.length)
    const client = new Client(rig, pair, port).open()
    clients.push(client)
    client.data(pattern(BYTES))
    rig.flows.clear()
  }
  return clients
}

/** Opens flows that hold nothing, until there is no memory for the next, which is the last of those given back. */
function crowd(rig: Rig): Client[] {
  const clients: Client[] = []
  for (let at = 15_000; ; at++) {
    const { pair, port } = names(at)
    const client = new Client(rig, pair, port)
    clients.push(client)
    rig.flows.clear()
    try {
      client.open()
    } catch {
      return clients // no SYN-ACK
    }
  }
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

stackTest(
  'memory: full of what upstreams leave: no trap, who holds the most gives way, others live',
  OPTIONS,
  (t, rig) => {
    const { abi, exports } = rig.stack
    t.is(exports.tg_memory_used(), 0)
    rig.reading = false
    const others = Array.from({ length: 5 }, (_, at) => new Client(rig, V4, 9_000 + at).open())
    for (const other of others) other.data(pattern(3_000))
    const clients = fill(rig)
    t.true(clients.length > 500, `${clients.length} flows`)
    t.true(exports.tg_memory_used() / exports.tg_memory_size() > 0.9)

    pester(rig, clients)
    const gone = clients.filter(({ id }) => rig.error(id) === abi.errorMemory)
    t.true(gone.length > 0 && gone.length < clients.length / 2, `${gone.length} gave way`)
    const live = clients.find(({ id }) => rig.state(id) === abi.stateOpen)!
    t.true(rig.read(live.id).subarray(0, BYTES).equals(pattern(BYTES)), 'the bytes of who lives are whole')
    for (const other of others) t.true(rig.read(other.id).equals(pattern(3_000)), 'and those of others')

    empty(rig)
    t.is(exports.tg_memory_used(), 0)
    serves(t, rig, 8_000)
  },
)

stackTest(
  'memory: a flow whose bytes cannot be kept is reset to both sides, never ended in order',
  OPTIONS,
  (t, rig) => {
    const { abi, words } = rig.stack
    rig.reading = false
    const slow = new Client(rig, names(0).pair, 9_000).open()
    slow.data(pattern(BYTES), Flag.ack | Flag.psh | Flag.fin)
    t.true(rig.has(slow.id, abi.eventFin))
    const clients = fill(rig)
    const out = clients.at(-1)!.data(pattern(1))
    t.is(rig.error(slow.id), abi.errorMemory)
    const waiting = words[(abi.flows + slow.id * abi.flowBytes + abi.flowRxBytes) / 4]
    t.is(waiting, BYTES, 'to the host they were never delivered')
    t.is(rig.stack.exports.tg_tcp_peek(slow.id), 0)
    void out
    empty(rig)
  },
)

stackTest('memory: a dial that finds no memory for its connection has ended', OPTIONS, (t, rig) => {
  fill(rig)
  const failed = crowd(rig).at(-1)!
  t.true(failed.id >= 0, 'its SYN had been held')
  t.is(rig.error(failed.id), rig.stack.abi.errorMemory)
  t.is(rig.stack.exports.tg_dials(), 0)
  empty(rig)
})

stackTest('memory: connections in TIME_WAIT give theirs to new ones', OPTIONS, (t, rig) => {
  const MANY = 64
  for (let at = 0; at < MANY; at++) {
    const client = new Client(rig, V4, 1_000 + at).open()
    client.take(rig.tell('finish', client.id))
    client.data(new Uint8Array(), Flag.fin | Flag.ack)
    rig.tell('release', client.id)
  }
  t.is(rig.held().pcbs, MANY)
  const { abi } = rig.stack
  const clients = [...fill(rig), ...crowd(rig)]
  const open = clients.filter(({ id }) => rig.state(id) === abi.stateOpen)
  t.is(rig.held().pcbs, open.length, 'none waits any more, and no time has passed')
  empty(rig)
})
