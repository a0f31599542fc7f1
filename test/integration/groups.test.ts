/** Groups of real proxies, of which one is killed, or stops, while clients connect: 200 a second, and none of them may notice. */
import test, { type ExecutionContext } from 'ava'
import { type RealServer, startMicrosocks } from '../helpers/servers.ts'
import { Agent } from './agent.ts'
import { ECHO_PORT, startEchoes } from './destinations.ts'
import { createWorld, DEST4, endsWithFile, type GatewayProcess, PROXY4, until, type World } from './world.ts'

const PER_SECOND = 200
const PROBE_MS = 1_000
const PORTS = { a: 1081, b: 1082 }

let world: World
let gateway: GatewayProcess
let a: RealServer
let b: RealServer

const proxy = (name: 'a' | 'b') => startMicrosocks(world.server, { host: PROXY4, port: PORTS[name] })

async function startGateway(policy: string, workers: number): Promise<void> {
  const upstream = (name: 'a' | 'b') => `${name}: "socks5://${PROXY4}:${PORTS[name]}"`
  const any = `any: {group: ${policy}, members: [a, b], probe: ${PROBE_MS}ms}`
  const upstreams = `{${upstream('a')}, ${upstream('b')}, ${any}}`
  gateway = await world.gateway({ proxy: 'any', workers, args: ['--upstreams', upstreams, '--log-level', 'info'] })
}

test.before(async () => {
  world = await createWorld()
  await startEchoes(world)
  a = await proxy('a')
  b = await proxy('b')
  await startGateway('failover', 1)
})
endsWithFile(() => ({ world, gateway }))
test.after.always(() => Promise.all([a?.close(), b?.close()]))

async function crowd(t: ExecutionContext): Promise<Agent> {
  const agent = await Agent.start(world.client)
  t.teardown(() => agent.end())
  return agent
}

/** So many more connections have been answered. */
async function connectionsPass(count: number): Promise<void> {
  const before = await gateway.counter('tcp_opened')
  await until(async () => (await gateway.counter('tcp_opened')) >= before + count, `${count} connections`, 30_000)
}

const told = () =>
  gateway
    .lines()
    .filter(({ message }) => message.startsWith('group'))
    .map(({ message, member, serves }) => `${message}: ${member} → ${serves}`)

for (const [policy, workers, lines] of [
  ['failover', 1, ['group member down: a → b', 'group member up: a → a']],
  ['round-robin', 2, ['group member down: a → b', 'group member up: a → a, b']],
] as const)
  test.serial(
    `groups: the first of two proxies is killed under load: no client notices; it is used again when it is back (${policy}, workers: ${workers})`,
    async t => {
      await gateway.stop()
      await startGateway(policy, workers)
      const agent = await crowd(t)
      const calls = agent.call('callSteadily', DEST4, ECHO_PORT, PER_SECOND, 7_000)
      await connectionsPass(PER_SECOND)
      process.kill(a.pid, 'SIGKILL')
      const goneAt = performance.now()
      await gateway.untilLog('group member down')
      t.log(`found to be down after ${Math.round(performance.now() - goneAt)} ms`)
      await connectionsPass(PER_SECOND)
      await a.close()
      a = await proxy('a')
      const backAt = performance.now()
      await gateway.untilLog('group member up', 3 * PROBE_MS)
      const waitedMs = performance.now() - backAt
      await until(() => a.log().includes(DEST4), 'a client of the first proxy')
      const { begun, good, codes, broken, slowestMs } = await calls
      t.log(
        `${begun} connections, ${broken} broken that had been answered, the slowest took ${Math.round(slowestMs)} ms`,
      )
      t.log(`used again after ${Math.round(waitedMs)} ms`)
      t.deepEqual(codes, {}, 'none failed that had not been answered')
      t.is(good + broken, begun)
      t.true(begun > 0.8 * 7 * PER_SECOND, `${begun} begun`)
      t.true(broken < (PER_SECOND * Math.max(250, slowestMs)) / 1000, `${broken} broken: more than were under way`)
      t.true(waitedMs < PROBE_MS + 500, `${waitedMs} ms`)
      t.deepEqual(told(), [...lines])
      t.true((await gateway.counter('group_failovers')) > 0)
    },
  )

test.serial('groups: a proxy that stops is left after 2 s of silence, and nobody has to wait for longer', async t => {
  await gateway.stop()
  await startGateway('failover', 1)
  const agent = await crowd(t)
  const calls = agent.call('callSteadily', DEST4, ECHO_PORT, PER_SECOND, 8_000)
  await connectionsPass(PER_SECOND)
  process.kill(a.pid, 'SIGSTOP')
  try {
    await gateway.untilLog('group member down')
    await connectionsPass(PER_SECOND)
  } finally {
    process.kill(a.pid, 'SIGCONT')
  }
  await gateway.untilLog('group member up', 3 * PROBE_MS + 2_000)
  const { begun, codes, broken, slowestMs } = await calls
  t.log(`${begun} connections, ${broken} broken, the slowest took ${Math.round(slowestMs)} ms`)
  t.deepEqual(codes, {})
  t.is(broken, 0, 'those that it had answered go on when it does')
  t.true(slowestMs < 3_500, `${slowestMs} ms`)
  t.true((await gateway.counter('group_hedges')) > 0)
})
