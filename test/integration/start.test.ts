/** The library's start() when it fails: what it rejects with, and that nothing is left. */
import dns from 'node:dns/promises'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import { createGateway, type GatewayInput, SystemError } from '../../src/gateway.ts'
import { addon } from '../../src/io/addon.ts'
import { temporaryFolder } from '../commands/tungate.ts'
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

/** Runs a program of the library in the namespace, with 80 files at most; its words, one a line. */
async function words(program: string, ...args: (string | number)[]): Promise<string[]> {
  const entry = new URL('../../src/', import.meta.url).href
  const text = `import { createGateway, GatewayError } from '${entry}gateway.js'
import { addon } from '${entry}io/addon.js'
import { closeSync, openSync } from 'node:fs'
const say = (...words) => console.log(words.join(' '))
${program}
process.exit()`
  const node = [process.execPath, '--input-type=module', '-e', text, '--', ...args.map(String)]
  const stdout = await space.mustRun('prlimit', ['--nofile=80', ...node])
  return stdout.trim().split('\n')
}

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

test.serial('start: rules that were given before it are those that it begins with', async t => {
  const file = join(temporaryFolder(t), 'rules.mjs')
  writeFileSync(file, 'export default () => undefined')
  const gateway = createGateway(input())
  t.teardown(() => gateway.close())
  await gateway.reloadRules(file)
  await gateway.start()
  t.is(gateway.counters().script_asked, 0)
})

/** What inotify(7) watches for this process; the descriptor of the list itself is gone by then. */
const watched = () =>
  readdirSync('/proc/self/fdinfo')
    .filter(fd => existsSync(`/proc/self/fdinfo/${fd}`))
    .flatMap(fd => readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').split('\n'))
    .filter(line => line.startsWith('inotify ')).length

test.serial('start: where no device can be made, no rules are watched either', async t => {
  const file = join(temporaryFolder(t), 'rules.yaml')
  writeFileSync(file, '- to: direct')
  const before = watched()
  const gateway = createGateway(input({ rules: file, tun: { name: 'tgs', pid: 2 ** 22 + 1 } }))
  await t.throwsAsync(gateway.start(), { instanceOf: SystemError })
  t.is(watched(), before)
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

for (const workers of [1, 2])
  test.serial(
    `start: out of files, whenever it is: EMFILE with its advice, and nothing is left (workers: ${workers})`,
    async t => {
      const program = `
for (const left of [0, 1, 2, 3, 5, 8, 12, 16, 20, 28]) {
  const gateway = createGateway({ proxy: { host: '127.0.0.1', port: 1080 }, tun: { name: 'tgf' }, workers: ${workers} })
  const files = []
  try { for (;;) files.push(openSync('/dev/null')) } catch {}
  for (let count = 0; count < left; count++) closeSync(files.pop())
  let told = 'started'
  try { await gateway.start() } catch (error) {
    told = [error instanceof GatewayError, error.constructor.name, error.code, error.errno, error.message].join(' ')
  }
  await gateway.close()
  for (const file of files) closeSync(file)
  say(left, addon.openDescriptors(), told)
}`
      const said = await words(program)
      t.is(said.length, 10)
      t.regex(said[0]!, /^0 0 true SystemError EMFILE 24 /)
      if (workers === 1) t.regex(said[2]!, /^2 0 started$/)
      for (const line of said.filter(line => !line.endsWith(' started'))) {
        t.regex(line, /^\d+ 0 true SystemError EMFILE 24 /)
        if (workers === 2) t.regex(line, /EMFILE 24 workers 2 needs more open files \(ulimit -n\): /)
      }
      if (workers === 2) t.true(said.filter(line => !line.endsWith(' started')).length >= 6, said.join('\n'))
    },
  )

test.serial('start: no file for its epoll is told as the kernel tells it', async t => {
  const said = await words(`
const files = []
try { for (;;) files.push(openSync('/dev/null')) } catch {}
try { new addon.Io(new ArrayBuffer(4096), new Int32Array(64), () => {}) } catch (error) {
  closeSync(files.pop())
  say(error.code, error.errno, error.syscall, error.message)
}`)
  t.regex(said[0]!, /^EMFILE 24 epoll_create1 epoll_create1: EMFILE \(.*\)\. The process may open no more files\.$/)
})

test.serial('start: a descriptor that was inherited is a queue of a device that others may share', async t => {
  const said = await words(`
const options = { name: 'tgm', offload: false, multiQueue: true }
const queues = [addon.tunOpen(options), addon.tunOpen(options)]
addon.linkConfigure({ name: 'tgm', mtu: 1500, addresses: [], up: true })
const proxy = { host: '127.0.0.1', port: 1080 }
const named = createGateway({ proxy, tun: { name: 'tgm' } })
await named.start().then(() => say('started'), error => say(error.code))
const gateway = createGateway({ proxy, tun: { fd: queues[0].fd } })
await gateway.start().then(() => say('started', gateway.tunName), error => say(error.code, error.message))
await gateway.close()
for (const { fd } of queues) addon.close(fd, false)`)
  t.deepEqual(said, ['EBUSY', 'started tgm'])
})
