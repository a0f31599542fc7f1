/** Whoever reads the log stands still, and goes away. */
import test from 'ava'
import { startSocksAndEchoes } from './destinations.ts'
import { DEST4, gatewayForEach, type World } from './world.ts'

let world: World
const startGateway = gatewayForEach(startSocksAndEchoes, made => {
  world = made
})

test.serial('log: a reader that stands still, then goes away: the gateway goes on, and ends in order', async t => {
  const gateway = await startGateway()
  const { stderr } = gateway.child
  stderr!.pause()
  // 300 bytes each, more than a pipe and its reader take
  t.is(await world.near.call('shortConnections', DEST4, 7001, 800, 8), 800)
  const { ms } = await world.near.call('dial', DEST4, 7001)
  t.true(ms < 1000, `${ms} ms`)
  stderr!.destroy()
  t.is(await world.near.call('shortConnections', DEST4, 7001, 100, 8), 100)
  const end = await gateway.stop()
  t.is(end.code, 0)
  t.true(end.ms < 2000, `${end.ms} ms`)
  t.false(await world.hasDevice('tg0'))
})
