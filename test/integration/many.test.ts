/** Many flows at once, and what a new one costs beside them. */
import test from 'ava'
import { forgetEnded, startLoad, startLoadServers } from './load.ts'
import { createWorld, type GatewayProcess, until, untilAtRest, type World } from './world.ts'

/** `make test-long` says 10,000. */
const CONNECTIONS = Number(process.env.TEST_MANY_CONNECTIONS ?? 2_000)
const UDP_FLOWS = CONNECTIONS / 5
/** Each bears this many files of the 20,000 that a process may have on some machines. */
const CLIENTS = 2
const RATE = 500
/** Other programs of this machine may spoil some. */
const MAX_ROUNDS = 6
const ROUND_MS = CONNECTIONS >= 10_000 ? 10_000 : 2_000
const P99_MS = 50
const MAX_RSS = 400 << 20

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await forgetEnded(world)
  await startLoadServers(world)
  const limits = ['--limits-flows', `${CONNECTIONS + 2_000}`, '--udp-max-associations', `${UDP_FLOWS + 100}`]
  gateway = await world.gateway({ args: [...limits, '--udp-idle-timeout', '10m', '--log-level', 'info'] })
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway?.text.slice(-1000))
})
test.after.always(async () => {
  await gateway?.stop()
  await world?.close()
})

test(`many: ${CONNECTIONS} connections and ${UDP_FLOWS} UDP flows at once, and new ones beside them`, async t => {
  const shares = Array.from({ length: CLIENTS }, () => ['-n', CONNECTIONS / CLIENTS, '-k', 64, '-t', 1] as const)
  const held = shares.map(share => startLoad(world, 'idle', ...share))
  for (const { result } of held) t.is((await result).open, CONNECTIONS / CLIENTS)
  const datagrams = startLoad(world, 'udp-held', '-n', UDP_FLOWS, '-r', RATE)
  const first = await datagrams.result
  t.like(first, { count: UDP_FLOWS, failed: 0 })
  const { counters } = await gateway.status()
  t.is(counters.tcp_flows, CONNECTIONS)
  t.is(counters.udp_flows, UDP_FLOWS)

  const p99s: number[] = []
  for (let p99 = Number.POSITIVE_INFINITY; p99 > P99_MS && p99s.length < MAX_ROUNDS; ) {
    const paced = await startLoad(world, 'paced-connect', '-r', RATE, '-t', ROUND_MS).result
    t.like(paced, { count: (RATE * ROUND_MS) / 1_000, failed: 0 })
    p99 = paced.connectP99Ms!
    p99s.push(p99)
  }
  const rss = gateway.rss()
  t.log(`${(rss / 2 ** 20).toFixed(0)} MiB; connect at ${RATE}/s: p99 ${p99s.map(ms => ms.toFixed(1)).join(', ')} ms`)
  t.true(p99s.at(-1)! <= P99_MS)
  t.true(rss <= MAX_RSS, `${rss} bytes`)

  for (const { finish } of held) t.is((await finish()).open, CONNECTIONS / CLIENTS, 'each still answers')
  const second = await datagrams.finish()
  t.like(second, { count: UDP_FLOWS, failed: 0 })
  t.log(`datagrams asked again after 1 s: ${first.repeated} and ${second.repeated}`)
  const after = (await gateway.status()).counters
  t.is(after.udp_associations, UDP_FLOWS, 'no flow had to be made anew')
  for (const name of ['handshake_failures', 'drop_flow_limit', 'packets_lost', 'drop_memory'])
    t.is(after[name], 0, name)
  await until(async () => (await gateway.counter('tcp_flows')) === 0, 'the end of all', 20_000)
  await untilAtRest(gateway, 20_000)
})
