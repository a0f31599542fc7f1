/** What scanners and busy clients of old do to a gateway, with real kernels and programs on both sides. */
import test from 'ava'
import { isInstalled } from '../helpers/servers.ts'
import { createWorld, DEST4, endsWithFile, type GatewayProcess, PROXY4, untilAtRest, type World } from './world.ts'

const OPEN_PORTS = [7001, 7101, 7333, 7777, 7999]
const FIRST_PORT = 7000
const SCANNED = 1000

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: PROXY4 })
  for (const port of OPEN_PORTS) await world.far.call('listen', `echo${port}`, '0.0.0.0', port, 'echo')
  await world.far.call('startHttp', ['0.0.0.0'], 8080)
  gateway = await world.gateway()
})
endsWithFile(() => ({ world, gateway }))

test.serial(`attack: nmap finds exactly the ${OPEN_PORTS.length} open ports of ${SCANNED}`, async t => {
  t.true(isInstalled('nmap'), 'nmap is not installed: make test installs it')
  const args = ['-n', '-Pn', '-sT', '-T4', '-p', `${FIRST_PORT}-${FIRST_PORT + SCANNED - 1}`, '-oG', '-', DEST4]
  const out = await world.client.mustRun('nmap', args)
  const open = [...out.matchAll(/(\d+)\/open\/tcp/g)].map(([, port]) => Number(port))
  t.deepEqual(open, OPEN_PORTS)
  t.false(out.includes('/filtered/'), out)
  t.regex(out, new RegExp(`closed \\(${SCANNED - OPEN_PORTS.length}\\)`))
  await untilAtRest(gateway)
})

test.serial('attack: 1,000 HTTP/1.0 requests over 10 source ports, each under 1 s', async t => {
  // below what the kernel picks from: nmap's connections may still hold one of those
  const ports = Array.from({ length: 10 }, (_, at) => 20_000 + at)
  const { good, slowestMs, errors } = await world.near.call('requestsFromPorts', DEST4, 8080, ports, 100)
  t.deepEqual(errors, [])
  t.is(good, 1_000)
  t.log(`the slowest took ${Math.round(slowestMs)} ms`)
  t.true(slowestMs < 1_000, `${slowestMs} ms`)
  await untilAtRest(gateway)
})
