import { fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { createNamespace, type NamespaceOptions } from '../../src/demo/namespace.ts'
import { connectNamespaces } from '../helpers/namespaces.ts'
import { runRootless } from '../helpers/rootless.ts'

const isRoot = process.geteuid?.() === 0

async function make(t: ExecutionContext, options?: NamespaceOptions) {
  const namespace = await createNamespace(options)
  t.teardown(() => namespace.close())
  return namespace
}

for (const rights of isRoot ? (['root', 'rootless'] as const) : (['rootless'] as const)) {
  test(`namespace: ${rights}: a network of its own, connected by veth, with a tun and routes`, async t => {
    const a = await make(t, { rights })
    const b = await make(t, { within: a })
    t.is(a.rootless, rights === 'rootless')
    t.not(readlinkSync(`/proc/${a.pid}/ns/net`), readlinkSync('/proc/self/ns/net'))
    const addresses = { a: ['10.9.0.1/24', 'fd09::1/64'], b: ['10.9.0.2/24', 'fd09::2/64'] }
    await connectNamespaces(a, b, { addresses })
    const routes = await b.mustRun('ip', ['-6', 'route', 'get', 'fd09::1'])
    t.regex(routes, /dev veth0/)
    await a.ip(['tuntap add dev tun0 mode tun', 'link set tun0 up'])
    await a.routeAllInto('tun0')
    t.regex(await a.mustRun('ip', ['route', 'get', '8.8.8.8']), /dev tun0/)
    t.regex(await a.mustRun('ip', ['route', 'get', '2001:db8::1']), /dev tun0/)
    t.regex(await a.mustRun('ip', ['route', 'get', '10.9.0.2']), /dev veth0/)
  })

  test(`namespace: ${rights}: files are bound for its processes alone`, async t => {
    const namespace = await make(t, { rights })
    const before = readFileSync('/etc/resolv.conf', 'utf8')
    const users = readFileSync('/etc/passwd', 'utf8')
    await Promise.all([
      namespace.useResolver(['198.18.0.53', 'fd00::53']),
      namespace.bindFile('/etc/passwd', 'x:x:0:0::/:/bin/sh\n', '600'),
    ])
    t.is(await namespace.mustRun('cat', ['/etc/resolv.conf']), 'nameserver 198.18.0.53\nnameserver fd00::53\n')
    t.is(await namespace.mustRun('cat', ['/etc/passwd']), 'x:x:0:0::/:/bin/sh\n')
    t.is(readFileSync('/etc/resolv.conf', 'utf8'), before)
    t.is(readFileSync('/etc/passwd', 'utf8'), users)
  })
}

test('namespace: run gives code and output, takes input, ends at the time-out; mustRun says what went wrong', async t => {
  const namespace = await make(t)
  const result = await namespace.run('sh', ['-c', 'cat; echo err >&2; exit 7'], { input: 'in' })
  t.deepEqual(result, { code: 7, signal: null, stdout: 'in', stderr: 'err\n' })
  t.is((await namespace.run('sleep', ['60'], { timeoutMs: 50 })).signal, 'SIGKILL')
  await t.throwsAsync(namespace.ip(['link set nothing up']), { code: 'NAMESPACE_COMMAND', message: /nothing/ })
})

test('namespace: close kills what runs inside, also what went into the background, and is idempotent', async t => {
  const namespace = await make(t)
  const background = await namespace.mustRun('sh', ['-c', 'setsid sleep 300 >/dev/null 2>&1 & echo $!'])
  const foreground = namespace.spawn('sleep', ['300'], { stdio: 'ignore' })
  const ended = once(foreground, 'exit')
  t.true(existsSync(`/proc/${background.trim()}`))
  await Promise.all([namespace.close(), namespace.close()])
  await ended
  t.false(isAlive(Number(background)))
  t.false(existsSync(`/proc/${namespace.pid}/ns/net`))
})

test('namespace: it ends with the process that made it, also by SIGKILL', async t => {
  const source = `
    const { createNamespace } = await import(process.argv[1])
    const namespace = await createNamespace()
    const background = await namespace.mustRun('sh', ['-c', 'setsid sleep 300 >/dev/null 2>&1 & echo $!'])
    process.send([namespace.pid, Number(background)])
    setInterval(() => undefined, 1000)`
  const child = fork('--', [], {
    execPath: process.execPath,
    execArgv: ['--input-type=module', '-e', source, new URL('../../src/demo/namespace.js', import.meta.url).href],
  })
  const [pids] = (await once(child, 'message')) as [number[]]
  t.true(pids.every(isAlive))
  child.kill('SIGKILL')
  for (const deadline = Date.now() + 5000; pids.some(isAlive) && Date.now() < deadline; ) await delay(10)
  t.deepEqual(pids.filter(isAlive), [])
})

/** A zombie is dead: it waits for its parent alone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

test('rootless: an unprivileged user gets a tun in a namespace of its own, and the machine keeps its node', async t => {
  if (!isRoot) {
    t.log('skipped: only root can become somebody else')
    t.pass()
    return
  }
  const before = existsSync('/dev/net/tun')
  const script = 'id -u; unshare -Urnm sh -c "ip tuntap add dev t0 mode tun && ip -o link show t0"'
  const result = await runRootless('sh', ['-c', script])
  t.is(result.code, 0, result.stderr)
  t.regex(result.stdout, /^65534\n.*t0: <POINTOPOINT/s)
  t.is(existsSync('/dev/net/tun'), before)
  t.is((await runRootless('sh', ['-c', 'exit 9'])).code, 9)
})
