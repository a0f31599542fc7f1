/** The library's start() when it fails: what it rejects with, and that nothing is left. */
import dns from 'node:dns/promises'
import { syncBuiltinESMExports } from 'node:module'
import test from 'ava'
import { createGateway, type GatewayInput, SystemError } from '../../src/gateway.ts'
import { addon } from '../../src/io/addon.ts'
import { createNamespace, type Namespace } from '../helpers/namespaces.ts'

let space: Namespace

test.before(async () => {
  space = await createNamespace()
})
test.after.always(() => space?.close())

const input = (more: Partial<GatewayInput> = {}): GatewayInput => ({
  proxy: { host: '127.0.0.1', port: 1080 },
  tun: { name: 'tgs', pid: space.pid },
  ...more,
})

const hasDevice = async () => (await space.run('ip', ['link', 'show', 'dev', 'tgs'])).code === 0

test.serial('start: close() while the name of the proxy is looked up: CLOSED, and nothing is left', async t => {
  const gateway = createGateway(input({ proxy: { host: 'no-such-host.invalid', port: 1080 } }))
  t.teardown(() => gateway.close())
  const started = gateway.start()
  await gateway.close()
  await t.throwsAsync(started, { code: 'CLOSED' })
  t.false(await hasDevice())
  t.is(addon.openDescriptors(), 0)
})

test.serial('start: bind.interface names no interface: ENODEV before a device is made', async t => {
  const gateway = createGateway(input({ bind: { interface: 'nosuchif0' } }))
  t.teardown(() => gateway.close())
  const error = await t.throwsAsync(gateway.start(), { instanceOf: SystemError, code: 'ENODEV' })
  t.regex(error!.message, /^bind\.interface: .* nosuchif0$/)
  t.false(await hasDevice())
  t.is(addon.openDescriptors(), 0)
})

test.serial('start: with an interface that there is the device is made, and close() takes it away', async t => {
  const gateway = createGateway(input({ bind: { interface: 'lo' } }))
  t.teardown(() => gateway.close())
  await gateway.start()
  t.true(await hasDevice())
  t.is(gateway.tunName, 'tgs')
  await gateway.close()
  t.false(await hasDevice())
})

test.serial('start: what breaks while it is under way rejects it, and is no event', async t => {
  const { lookup } = dns
  const restore = () => {
    dns.lookup = lookup
    syncBuiltinESMExports()
  }
  t.teardown(restore)
  dns.lookup = (() => new Promise(() => {})) as unknown as typeof lookup
  syncBuiltinESMExports()
  const gateway = createGateway(input({ proxy: { host: 'proxy.test', port: 1080 } }))
  t.teardown(() => gateway.close())
  gateway.on('error', error => t.fail(`event: ${error.message}`))
  const started = gateway.start()
  await space.ip(['link del tgs'])
  await t.throwsAsync(started, { code: 'TUN_GONE' })
  t.is(addon.openDescriptors(), 0)
})
