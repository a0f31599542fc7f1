/** A process that is stopped for a time, and a wall clock that jumps. */
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { prepareStandstill, survivesPause } from './standstill.ts'
import { DEST4, gatewayForEach, until, type World } from './world.ts'

const wildDate = fileURLToPath(new URL('../helpers/wild-date.cjs', import.meta.url))
const TIME_OUTS = ['--tcp-idle-timeout', '5s', '--tcp-connect-timeout', '5s', '--tcp-keep-alive', '5s']

let world: World
const startGateway = gatewayForEach(prepareStandstill, made => {
  world = made
})

test.serial('standstill: stopped for longer than every time-out, nothing is closed', async t => {
  const gateway = await startGateway({ args: [...TIME_OUTS, '--udp-idle-timeout', '5s'] })
  await survivesPause(t, world, gateway, 6_000)
})

test.serial('standstill: a wall clock that jumps by years changes nothing', async t => {
  const gateway = await startGateway({
    args: ['--tcp-idle-timeout', '5s'],
    environment: { NODE_OPTIONS: `--require=${wildDate}` },
  })
  const [id] = await world.near.call('dialMany', DEST4, 7001, 1)
  let text = ''
  for (let round = 0; round < 8; round++) {
    text += 'tick '
    await world.near.call('write', id!, 'tick ')
    await until(async () => (await world.near.call('view', id!)).text === text, 'the echo')
    await delay(100)
  }
  t.is((await gateway.status()).flows[0]?.state, 'open')
  t.is(gateway.logged('stood still').length, 0)
  const years = gateway.lines().map(line => new Date(String(line.time)).getFullYear())
  t.true(Math.max(...years) - Math.min(...years) >= 1, 'its clock did jump')
  await world.near.call('destroy', [id!])
})
