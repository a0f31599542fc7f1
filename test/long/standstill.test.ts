/** Slow, because it is a minute of standing still that is asked for, with one worker and with two. */
import test from 'ava'
import { prepareStandstill, survivesPause } from '../integration/standstill.ts'
import { gatewayForEach, type World } from '../integration/world.ts'

const ARGS = ['--tcp-idle-timeout', '20s', '--tcp-connect-timeout', '20s', '--tcp-keep-alive', '20s']

let world: World
const startGateway = gatewayForEach(prepareStandstill, made => {
  world = made
})

for (const workers of [1, 2])
  test.serial(`standstill: SIGSTOP for 60 s, and nothing is closed (workers: ${workers})`, async t => {
    t.timeout(120_000)
    const gateway = await startGateway({ workers, args: [...ARGS, '--udp-idle-timeout', '20s'] })
    await survivesPause(t, world, gateway, 60_000)
  })
