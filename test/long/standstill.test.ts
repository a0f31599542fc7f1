/** Slow, because it is a minute of standing still that is asked for, with one worker and with two. */
import test from 'ava'
import { serveStandstill, survivesPause } from '../integration/standstill.ts'
import { createWorld, endsWithFile, type GatewayProcess, type World } from '../integration/world.ts'

const ARGS = ['--tcp-idle-timeout', '20s', '--tcp-connect-timeout', '20s', '--tcp-keep-alive', '20s']

let world: World
let gateway: GatewayProcess | undefined

endsWithFile(() => ({ world, gateway }))
test.before(async () => {
  world = await createWorld()
  await serveStandstill(world)
})
test.afterEach.always(async () => {
  gateway?.child.kill('SIGCONT')
  await gateway?.stop()
})

for (const workers of [1, 2])
  test.serial(`standstill: SIGSTOP for 60 s, and nothing is closed (workers: ${workers})`, async t => {
    t.timeout(120_000)
    gateway = await world.gateway({ workers, args: [...ARGS, '--udp-idle-timeout', '20s'] })
    await survivesPause(t, world, gateway, 60_000)
  })
