/** SYNs and datagrams of invented sources: those that have spoken before, and what is open, must not notice. */
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ECHO_PORT, startLoad, startLoadServers } from './load.ts'
import { createWorld, DEST4, type GatewayProcess, until, untilAtRest, type World } from './world.ts'

/** `make test-long` says 20,000 for 30 s. */
const RATE = Number(process.env.TEST_FLOOD_RATE ?? 5_000)
const SECONDS = Number(process.env.TEST_FLOOD_SECONDS ?? 3)
/** Nobody answers there, so the proxy does not either. */
const SILENT4 = '192.0.2.9'
const DIALS = 1_024
const ASSOCIATIONS = 1_024
const GROWN_BYTES = 64 << 20
const BULK_BYTES_PER_SECOND = 4_000_000
/** A client that was never heard of. */
const STRANGER4 = '198.18.0.99'

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await startLoadServers(world)
  await world.server.ip([`route add ${SILENT4}/32 dev lo`])
  await world.far.call('startHttp', ['0.0.0.0'], 8080)
})
test.beforeEach(async () => {
  gateway = await world.gateway({ args: ['--tcp-connect-timeout', '3s'] })
  await world.client.ip([`address replace ${STRANGER4}/32 dev lo`])
  await world.near.call('shortConnections', DEST4, ECHO_PORT, 200, 16)
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateway.text.slice(-1000))
  await gateway?.stop()
})
test.after.always(() => world?.close())

interface Seen {
  readonly known: number[]
  readonly cpuMs: number
  readonly rss: number
  readonly inFlight: number
  readonly descriptors: number
}

/** The slowest connection of a known client, and what the gateway has at most, until `ended`. */
async function watch(ended: Promise<unknown>): Promise<Seen> {
  let over = false
  const end = () => {
    over = true
  }
  ended.then(end, end)
  const known: number[] = []
  let [rss, inFlight, descriptors] = [0, 0, 0]
  const cpuMs = gateway.cpuMs()
  await until(async () => (await gateway.counter('dial_limit')) > 0, 'the flood')
  while (!over) {
    const { code, ms, id } = await world.near.call('dial', DEST4, ECHO_PORT, 5_000)
    known.push(code === '' ? ms : Number.POSITIVE_INFINITY)
    await world.near.call('destroy', [id])
    const { counters } = await gateway.status()
    inFlight = Math.max(inFlight, counters.dials_in_flight!)
    descriptors = Math.max(descriptors, counters.open_descriptors!)
    rss = Math.max(rss, gateway.rss())
    await delay(50)
  }
  return { known, cpuMs: gateway.cpuMs() - cpuMs, rss, inFlight, descriptors }
}

async function untilConstant(counter: string): Promise<void> {
  let before = -1
  const isConstant = async () => {
    const now = await gateway.counter(counter)
    const same = now === before
    before = now
    return same
  }
  await until(isConstant, `a constant ${counter}`)
}

function startBulk(): Promise<{ sha256: string; ms: number }> {
  const start = performance.now()
  const bytes = BULK_BYTES_PER_SECOND * (SECONDS + 1)
  const url = `http://${DEST4}:8080/bytes/${bytes}`
  const script = `curl -sS -m 100 --limit-rate ${BULK_BYTES_PER_SECOND} "$1" | sha256sum | cut -d' ' -f1`
  return world.client
    .mustRun('sh', ['-c', script, 'sh', url], { timeoutMs: 110_000 })
    .then(text => ({ sha256: text.trim(), ms: performance.now() - start }))
}

async function survives(t: ExecutionContext, kind: 'syn' | 'udp', destination: string): Promise<void> {
  const bytes = BULK_BYTES_PER_SECOND * (SECONDS + 1)
  const wanted = await world.server.mustRun('curl', ['-sS', `http://127.0.0.1:8080/sha256/${bytes}`])
  const rss = gateway.rss()
  const bulk = startBulk()
  const packets = RATE * SECONDS
  const flood = startLoad(world, `flood-${kind}`, '-d', destination, '-n', packets, '-t', SECONDS * 1000).result
  const seen = await watch(flood)
  await untilConstant('dial_limit') // what the device still queued has been read
  const stranger = await world.near.call('dial', DEST4, ECHO_PORT, 5_000, STRANGER4)
  t.is((await flood).sent, packets)
  const slowest = Math.max(...seen.known)
  const late = seen.known.filter(ms => ms >= 1_000)
  const cpu = (seen.cpuMs * 1000) / packets
  t.log(
    `${RATE}/s for ${SECONDS} s: ${seen.known.length} connections meanwhile, the slowest ${slowest.toFixed(0)} ms, ${late.length} over 1 s, stranger after it ${stranger.ms.toFixed(0)} ms`,
  )
  t.log(
    `${cpu.toFixed(1)} µs of CPU a packet, +${((seen.rss - rss) / 2 ** 20).toFixed(0)} MiB, ${seen.inFlight} dials, ${seen.descriptors} descriptors`,
  )
  // on a machine that starves the gateway for 0.1 s the device's queue is full, and whose SYN is lost sends it again after a second
  t.true(late.length <= seen.known.length / 50 && slowest < 4_000, `known: ${seen.known.map(Math.round).join(' ')}`)
  t.is(stranger.code, '')
  t.true(stranger.ms < 1_000, `stranger: ${stranger.ms} ms`)
  t.true(seen.inFlight <= DIALS)
  t.true(seen.descriptors <= (kind === 'syn' ? 1.1 * DIALS : 2 * ASSOCIATIONS + DIALS))
  t.true(seen.rss - rss < GROWN_BYTES)
  const got = await bulk
  t.is(got.sha256, wanted.trim())
  t.true(got.ms < 2_000 * (SECONDS + 1), `${got.ms} ms`)
  t.true((await gateway.counter('dial_limit')) > 0)
  await world.near.call('destroy', [stranger.id])
  await untilAtRest(gateway)
}

test.serial('flood: SYNs of invented sources, to where the proxy connects', t => survives(t, 'syn', DEST4))
test.serial('flood: SYNs of invented sources, to where the proxy stays silent', t => survives(t, 'syn', SILENT4))
test.serial('flood: datagrams of invented sources', t => survives(t, 'udp', DEST4))
