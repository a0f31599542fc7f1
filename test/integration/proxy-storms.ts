/**
 * A proxy that stops, dies, comes back or is cut off while there is much to do: the same for the quick form and for
 * test/long, which differ in how much and how long.
 */
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { Agent } from './agent.ts'
import { ECHO_PORT } from './destinations.ts'
import { DEST4, type GatewayProcess, PROXY4, until, untilAtRest, type World } from './world.ts'

const MIB = 1 << 20
const WORD = 'what is sent is what comes back; '

/** The proxy in a process of its own. */
export async function startProxy(world: World): Promise<Agent> {
  const proxy = await Agent.start(world.server)
  await proxy.call('startSocks', { host: PROXY4 })
  return proxy
}

/** The proxy in the process of the far ends, until the test is over. */
export async function startFarProxy(t: ExecutionContext, world: World): Promise<void> {
  await world.far.call('startSocks', { host: PROXY4 })
  t.teardown(() => world.far.call('stop', 'socks'))
}

/** Lines that a user sees without asking for more. */
export function told(gateway: GatewayProcess): string[] {
  const seen = gateway.lines().filter(({ level, message }) => level === 'warn' || message.startsWith('upstream '))
  return seen.map(({ message }) => message)
}

/** `flows` echoes of `bytes` each; the proxy is stopped for `ms` in the middle. */
export async function stopInMidTransfer(
  t: ExecutionContext,
  world: World,
  gateway: GatewayProcess,
  proxy: Agent,
  { flows, bytes, ms }: { flows: number; bytes: number; ms: number },
): Promise<void> {
  const ids = await world.near.call('dialMany', DEST4, ECHO_PORT, flows)
  const times = Math.floor(bytes / WORD.length)
  const total = times * WORD.length
  const before = gateway.rss()
  for (const id of ids) await world.near.call('write', id, WORD, times)
  const views = () => Promise.all(ids.map(id => world.near.call('view', id)))
  const sum = async () => (await views()).reduce((all, view) => all + view.bytes, 0)
  await until(async () => (await sum()) > 0, 'the first bytes')
  process.kill(proxy.pid, 'SIGSTOP')
  let most = 0
  try {
    for (const end = performance.now() + ms; performance.now() < end; await delay(100)) {
      most = Math.max(most, gateway.rss())
    }
    t.true((await sum()) < total * flows, 'it was stopped in the middle')
  } finally {
    process.kill(proxy.pid, 'SIGCONT')
  }
  t.log(`RSS grew by ${Math.round((most - before) / MIB)} MiB, stopped for ${ms} ms`)
  // what the stack keeps for all upstreams and all clients together: 128 and 96 MiB (ARCHITECTURE.md, Bounds)
  t.true(most - before < 240 * MIB, `${most - before} bytes`)
  await until(async () => (await sum()) === total * flows, 'all bytes', 60_000)
  const wanted = createHash('sha256').update(WORD.repeat(times)).digest('hex')
  for (const { sha256, error } of await views()) t.deepEqual({ sha256, error }, { sha256: wanted, error: '' })
  for (const id of ids) await world.near.call('end', id)
  await untilAtRest(gateway)
}

/** The proxy ends and comes back `cycles` times, while a client tries without a pause. */
export async function comeAndGo(t: ExecutionContext, world: World, gateway: GatewayProcess, cycles: number) {
  const { codes } = await world.near.call('dialUntil', DEST4, ECHO_PORT, 5_000)
  t.deepEqual(codes, {})
  const took: number[] = []
  while (took.length < cycles) {
    await world.far.call('stop', 'socks')
    const tries = world.near.call('dialUntil', DEST4, ECHO_PORT, 10_000)
    await until(async () => (await gateway.counter('tcp_refused')) > took.length, 'a refusal')
    const at = await world.far.call('startSocks', { host: PROXY4 })
    took.push((await tries).at - at)
  }
  took.sort((a, b) => a - b)
  t.log(`ms to the first success: median ${took[cycles >> 1]}, at most ${took.at(-1)}`)
  t.true(took.at(-1)! <= 100, `${took}`)
  await untilAtRest(gateway)
}

/** What goes to the proxy is dropped, by a link-layer address that nobody has, until the function that this gives is called. */
export async function cutPath(t: ExecutionContext, world: World): Promise<() => Promise<void>> {
  await world.client.ip([`neigh replace ${PROXY4} lladdr 02:00:00:00:00:99 dev veth0 nud permanent`])
  let isCut = true
  const restore = async () => {
    if (isCut) await world.client.ip([`neigh del ${PROXY4} dev veth0`])
    isCut = false
  }
  t.teardown(restore)
  return restore
}

/**
 * What goes to the proxy is dropped for `ms`, while `perSecond` connections are begun. The gateway was started with a
 * connect time-out shorter than that, and without lines of level debug, which would be measured.
 */
export async function cutOff(
  t: ExecutionContext,
  world: World,
  gateway: GatewayProcess,
  { perSecond, ms, dials }: { perSecond: number; ms: number; dials: number },
): Promise<void> {
  await world.near.call('dialUntil', DEST4, ECHO_PORT, 5_000)
  const [rss, cpu, start] = [gateway.rss(), gateway.cpuMs(), performance.now()]
  const restore = await cutPath(t, world)
  const crowd = await Agent.start(world.client)
  t.teardown(() => crowd.end())
  const knocking = crowd.call('knock', DEST4, ECHO_PORT, perSecond, ms)
  await until(async () => (await gateway.counter('dial_limit')) > 0, 'the bound of dials')
  const { code } = await world.near.call('dial', DEST4, ECHO_PORT, 500)
  t.is(code, 'STILL_CONNECTING', 'silence, as on any such path')
  const line = await gateway.untilLog('upstream down', 2 * ms + 10_000)
  let mostDials = 0
  for (; performance.now() - start < ms - 300; await delay(100)) {
    mostDials = Math.max(mostDials, await gateway.counter('dials_in_flight'))
  }
  const share = (gateway.cpuMs() - cpu) / (performance.now() - start)
  const grown = gateway.rss() - rss
  const opened = await gateway.counter('tcp_opened')
  await restore()
  // of the crowd: how soon one client has its turn among a thousand is a matter of the proxy's speed
  const backMs = await until(async () => (await gateway.counter('tcp_opened')) > opened, 'a connection', 10_000)
  const begun = await knocking
  await world.near.call('dialUntil', DEST4, ECHO_PORT, 10_000)
  t.log(
    `${begun} begun, ${Math.round(share * 100)} % CPU, ${Math.round(grown / MIB)} MiB, back after ${Math.round(backMs)} ms`,
  )
  t.true(begun > 0.5 * perSecond * (ms / 1000), `${begun}`)
  t.true(mostDials <= dials, `${mostDials} dials in flight`)
  t.true(share < 0.6, `${share} of a core`)
  t.true(grown < 64 * MIB, `${grown} bytes`)
  t.true(backMs < 1_000, `${backMs} ms`)
  t.true(told(gateway).length <= 5, told(gateway).join('\n'))
  t.regex(String(line.reason), /does not answer: is it running, and does a firewall drop its packets\?/)
  await untilAtRest(gateway, 15_000)
}

/** `count` client endpoints send one datagram each within `ms`; the gateway may keep `associations`. */
export async function manyEndpoints(
  t: ExecutionContext,
  world: World,
  gateway: GatewayProcess,
  { count, ms, associations }: { count: number; ms: number; associations: number },
): Promise<void> {
  const rss = gateway.rss()
  let most = 0
  let over = false
  const watch = async () => {
    for (; !over; await delay(100)) most = Math.max(most, await gateway.counter('udp_flows'))
  }
  const watching = watch()
  const start = performance.now()
  const sent = await world.near.call('sendFromPorts', 10_000, count, ms, 7, DEST4)
  const tookMs = performance.now() - start
  over = true
  await watching
  const begun = await gateway.counter('udp_associations')
  const grown = gateway.rss() - rss
  t.log(
    `${sent} sent in ${Math.round(tookMs)} ms, ${begun} associations begun, RSS ${Math.round(grown / MIB)} MiB more`,
  )
  t.true(sent > 0.98 * count, `${sent}`)
  t.true(most <= associations, `${most} at once`)
  t.true(begun > associations, `${begun}`)
  t.true(grown < 96 * MIB, `${grown} bytes`)
  t.true(told(gateway).length <= 4, told(gateway).join('\n'))
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  const isAnswered = async () => {
    await world.near.call('sendUdp', id, 20, 7, DEST4) // a stranger's first may meet the bound of dials that the storm has left
    return (await world.near.call('viewUdp', id)).got.length > 0
  }
  await until(isAnswered, 'an answer to the next', 3_000)
  await world.near.call('closeUdp', id)
  await until(async () => (await gateway.counter('udp_flows')) === 0, 'the end of all', 15_000)
  const rest = async () => (await gateway.counter('open_descriptors')) - (await gateway.counter('pool_ready'))
  await until(async () => (await rest()) === gateway.workers, 'all descriptors', 15_000)
}
