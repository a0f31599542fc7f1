/** SYNs and datagrams of invented sources: those that have spoken before, and what is open, must not notice. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ECHO_PORT, startLoad, startLoadServers, UDP_ECHO_PORT } from './load.ts'
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
/** Connections of a known client a second of flood, at least: fewer would show nothing. */
const KNOWN_A_SECOND = 3
/** A gateway that waits for a core this much of the time shares it with other work. The flood itself takes a tenth of one. */
const STARVED_SHARE = 0.25
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
  gateway = await world.gateway({ args: ['--tcp-connect-timeout', '3s', '--log-level', 'info'] })
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

/** Milliseconds that the gateway's main thread could have run, and another had the core (Documentation/scheduler/sched-stats.rst). */
function waitedMs(): number {
  return Number(readFileSync(`/proc/${gateway.child.pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
}

/** Packets that the device's queue had no room for: the gateway never saw them. */
async function droppedByDevice(): Promise<number> {
  const text = await world.client.mustRun('ip', ['-s', '-j', 'link', 'show', 'dev', gateway.tun])
  return JSON.parse(text)[0].stats64.tx.dropped
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
  const waited = waitedMs()
  const flood = startLoad(world, `flood-${kind}`, '-d', destination, '-n', packets, '-t', SECONDS * 1000).result
  const seen = await watch(flood)
  const stranger = await world.near.call('dial', DEST4, ECHO_PORT, 5_000, STRANGER4)
  const { sent, seconds, cpu_seconds } = (await flood) as { sent: number; seconds: number; cpu_seconds: number }
  const share = (waitedMs() - waited) / (seconds * 1000)
  const dropped = await droppedByDevice()
  const slowest = Math.max(...seen.known)
  const cpu = (seen.cpuMs * 1000) / packets
  t.log(
    `${(sent / seconds).toFixed(0)}/s for ${seconds.toFixed(1)} s: ${seen.known.length} connections meanwhile, the slowest ${slowest.toFixed(0)} ms, stranger after it ${stranger.ms.toFixed(0)} ms`,
  )
  t.log(
    `${cpu.toFixed(1)} µs of CPU a packet (${((cpu_seconds * 1e6) / packets).toFixed(1)} to send it), +${((seen.rss - rss) / 2 ** 20).toFixed(0)} MiB, ${seen.inFlight} dials, ${seen.descriptors} descriptors, ${dropped} packets dropped by the device, ${(100 * share).toFixed(0)} % of the time without a core`,
  )
  t.is(sent, packets)
  t.true(seen.known.length >= KNOWN_A_SECOND * SECONDS, `${seen.known.length} connections`)
  // whose packet the device has dropped sends it again after a second; that is the machine's doing where others take the cores
  const isCrowded = share > STARVED_SHARE
  const isStarved = isCrowded && dropped > 0
  if (isStarved) t.log('starved: others had the cores, and the device dropped what nobody read')
  const limitMs = isStarved ? 4_000 : 1_000
  t.true(isCrowded || sent / seconds > 0.8 * RATE, `${sent} in ${seconds} s`)
  t.true(slowest <= limitMs, `known: ${seen.known.map(Math.round).join(' ')}`)
  t.true(stranger.ms <= limitMs, `stranger: ${stranger.ms} ms`)
  t.is(stranger.code, '')
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

const RANGE = 'net.ipv4.ip_local_port_range'
/** Of these the pool and the associations that are kept have 144. Clients have others. */
const PORTS = 500
const CLIENTS = 2_000

test.serial('associations: those of known clients that give way leave no port behind', async t => {
  await gateway.stop()
  const before = (await world.client.mustRun('sysctl', ['-n', RANGE])).trim()
  t.teardown(() => world.client.run('sysctl', ['-qw', `${RANGE}=${before}`]))
  gateway = await world.gateway({ args: ['--udp-max-associations', '128'] })
  const { id } = await world.near.call('dial', DEST4, ECHO_PORT)
  await world.near.call('destroy', [id])
  await world.client.mustRun('sysctl', ['-qw', `${RANGE}=20000 ${20_000 + PORTS - 1}`])
  const answered = await world.near.call('askFromPorts', 30_000, CLIENTS, 32, UDP_ECHO_PORT, DEST4)
  const { counters } = await gateway.status()
  t.true(counters.udp_associations! >= CLIENTS, `${counters.udp_associations} associations`)
  t.is(counters.handshake_failures, 0)
  t.is(answered, CLIENTS)
  t.deepEqual(gateway.logged('datagrams cannot be relayed'), [])
})
