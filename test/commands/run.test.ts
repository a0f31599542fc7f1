import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { FLOW } from './fake-run.ts'
import { temporaryFolder, tungate } from './tungate.ts'

const program = fileURLToPath(new URL('./fake-run.js', import.meta.url))
const SECRET = 'hunter2secret'

interface Running {
  readonly child: ChildProcess
  readonly output: { stdout: string; stderr: string }
  /** Exit code; -1 when a signal ended it. */
  readonly ended: Promise<number>
}

function start(
  t: ExecutionContext,
  behaviour: string,
  args: string[],
  environment: Record<string, string> = {},
): Running {
  const child = spawn(process.execPath, [program, behaviour, `--proxy=socks5://me:${SECRET}@127.0.0.1`, ...args], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', text => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    output.stderr += text
  })
  const ended = new Promise<number>(resolve => child.on('close', code => resolve(code ?? -1)))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, output, ended }
}

async function until(t: ExecutionContext, what: string, holds: () => boolean): Promise<void> {
  const limit = Date.now() + 20_000
  while (!holds()) {
    if (Date.now() > limit) t.fail(`not within 20 s: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

async function started(
  t: ExecutionContext,
  args: string[],
  environment: Record<string, string> = {},
  behaviour = 'runs',
) {
  const running = start(t, behaviour, args, environment)
  await until(t, 'started', () => running.output.stderr.includes('gateway started') || running.child.exitCode !== null)
  return running
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`run: ${signal} closes in order and ends with 0 within 2 s`, async t => {
    const socket = join(temporaryFolder(t), 'x.sock')
    const { child, output, ended } = await started(t, ['--status-socket', socket])
    t.true(existsSync(socket))
    const at = Date.now()
    child.kill(signal)
    t.is(await ended, 0, 'else it was not closed within 1.7 s, by its own clock')
    t.true(Date.now() - at < 5000, 'the signal and the end of the process come as the machine has time for them')
    t.is(output.stdout, 'closed\n')
    t.regex(output.stderr, new RegExp(`info  stopping signal=${signal}\n$`))
    t.false(existsSync(socket))
  })
}

test('run: SIGHUP reads the rules again, and nothing ends', async t => {
  const { child, output, ended } = await started(t, ['--status-socket='])
  child.kill('SIGHUP')
  await until(t, 'rules', () => output.stdout === 'rules read again\n')
  t.regex(output.stderr, /info {2}reading the rules again signal=SIGHUP\n/)
  child.kill('SIGTERM')
  t.is(await ended, 0)
})

test('run: SIGHUP with a configuration that is wrong by now says why, and nothing ends', async t => {
  const file = join(temporaryFolder(t), 'gateway.yaml')
  writeFileSync(file, 'log:\n  format: text\n')
  const { child, output, ended } = await started(t, ['--status-socket='], { TUNGATE_CONFIG: file })
  writeFileSync(file, 'log:\n  format: tex\n')
  child.kill('SIGHUP')
  await until(t, 'the reason', () => output.stderr.includes('error'))
  t.regex(output.stderr, /error the rules stay as they were: \S*gateway\.yaml:2: log\.format: /)
  child.kill('SIGTERM')
  t.is(await ended, 0)
  t.is(output.stdout, 'closed\n')
})

test('run: SIGHUP because the terminal is gone closes in order', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  const command = `exec ${process.execPath} ${program} runs --status-socket=${socket} --proxy=socks5://127.0.0.1`
  const terminal = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env: { PATH: process.env.PATH, SHELL: '/bin/sh' },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let output = ''
  terminal.stdout.setEncoding('utf8').on('data', text => {
    output += text
  })
  const pid = () => Number(/pid=(\d+)/.exec(output)?.[1] ?? 0)
  t.teardown(() => {
    terminal.kill('SIGKILL')
    if (existsSync(socket) && pid() > 0) process.kill(pid(), 'SIGKILL')
  })
  await until(t, 'started', () => output.includes('gateway started') && existsSync(socket))
  process.kill(pid(), 'SIGHUP')
  await until(t, 'rules', () => output.includes('rules read again'))
  terminal.kill('SIGKILL')
  await until(t, 'the end', () => !existsSync(socket))
  t.pass()
})

test('run: a second Ctrl-C ends at once with 130', async t => {
  const { child, output, ended } = await started(t, ['--status-socket='], {}, 'close-hangs')
  child.kill('SIGINT')
  await until(t, 'stopping', () => output.stderr.includes('stopping'))
  const at = Date.now()
  child.kill('SIGINT')
  t.is(await ended, 130, 'else it waited for the gateway')
  t.true(Date.now() - at < 5000)
})

test('run: a gateway that does not close is ended within 2 s, and it is told', async t => {
  const { child, output, ended } = await started(t, ['--status-socket='], {}, 'close-hangs')
  const at = Date.now()
  child.kill('SIGTERM')
  t.is(await ended, 1)
  const [, from, to] =
    /^(\S+) info {2}stopping .*\n(\S+) error not closed within 1700 ms.* code=CLOSE_TIMEOUT\n$/m.exec(output.stderr)!
  const waited = Date.parse(to!) - Date.parse(from!)
  t.true(waited > 1600 && waited < 2000, `${waited} ms`)
  t.true(Date.now() - at < 5000, 'the signal and the end of the process come with it, as the machine has time for them')
})

test('run: a signal while the gateway starts closes it', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  const { child, output, ended } = start(t, 'start-hangs', ['--status-socket', socket])
  await until(t, 'status socket', () => existsSync(socket))
  child.kill('SIGTERM')
  t.is(await ended, 0)
  t.is(output.stdout, 'closed\n')
  t.notRegex(output.stderr, /gateway started/)
})

test('run: a start that fails is one line with its code, and exit code 1', async t => {
  const { output, ended } = start(t, 'start-fails', ['--status-socket='])
  t.is(await ended, 1)
  t.regex(output.stderr, /^\S+ info {2}starting .*\n\S+ error no right to open the device code=TUN_OPEN\n$/)
})

test('run: stack traces are for the level debug', async t => {
  const { output, ended } = start(t, 'start-fails', ['--status-socket=', '--log-level', 'debug'])
  t.is(await ended, 1)
  t.regex(output.stderr, /stack="SystemError: no right.*fake-run/)
})

for (const [behaviour, expected] of [
  ['fatal', /error no right to open the device code=TUN_OPEN\n/],
  ['throws', /error .*JSON.* code=INTERNAL\n/],
] as const) {
  test(`run: an error while running (${behaviour}) closes in order and ends with 1`, async t => {
    const { output, ended } = start(t, behaviour, ['--status-socket='])
    t.is(await ended, 1)
    t.regex(output.stderr, expected)
    t.is(output.stdout, 'closed\n')
  })
}

test('run: neither log nor status holds the password', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  const flags = ['--status-socket', socket, '--log-level', 'debug', '--log-format', 'json']
  const { child, output, ended } = await startedJson(t, flags)
  const { stdout } = await tungate(['status', '--json', '--status-socket', socket])
  child.kill('SIGTERM')
  await ended
  t.true(stdout.includes('socks5://me:***@127.0.0.1:1080'))
  t.false((stdout + output.stdout + output.stderr).includes(SECRET))
  for (const line of output.stderr.trim().split('\n')) t.notThrows(() => JSON.parse(line))
})

async function startedJson(t: ExecutionContext, args: string[]) {
  const running = start(t, 'runs', args)
  await until(t, 'started', () => running.output.stderr.includes('"message":"gateway started"'))
  return running
}

// By itself: it asks again and again, and others here have deadlines.
test.serial('run: the heap for new objects does not grow with load', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  await started(t, ['--status-socket', socket], {}, 'makes-garbage')
  let newSpaceBytes: number | undefined
  const limit = Date.now() + 20_000
  while (newSpaceBytes === undefined && Date.now() < limit) {
    const { code, stdout } = await tungate(['status', '--json', '--status-socket', socket])
    if (code === 0) newSpaceBytes = JSON.parse(stdout).counters.newSpaceBytes
  }
  t.true(newSpaceBytes! <= 8 * 2 ** 20, `${newSpaceBytes} bytes`)
})

test('status: a table and JSON of the running gateway', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  await started(t, ['--status-socket', socket])
  const table = await tungate(['status', '--status-socket', socket])
  t.is(table.code, 0)
  t.regex(table.stdout, /^gateway {2}tun-fake, pid \d+, version 9\.8\.7, up \d+s$/m)
  t.regex(table.stdout, /^proxy {4}socks5:\/\/me:\*\*\*@127\.0\.0\.1:1080$/m)
  t.regex(table.stdout, /^tcpFlows {11}12$/m)
  t.regex(table.stdout, /^ingressBytes {2}5\.0 MiB$/m)
  t.regex(
    table.stdout,
    /^tcp {4}198\.18\.0\.1:50000 {2}\[2001:db8::7\]:443 {2}established {2}1m 5s {2}1000 B {2}4\.8 MiB$/m,
  )
  const json = await tungate(['status', '--json', '--status-socket', socket])
  const document = JSON.parse(json.stdout)
  t.deepEqual(document.flows, [FLOW])
  t.deepEqual(document.counters, { tcpFlows: 12, ingressBytes: 5_242_880 })
  t.deepEqual(Object.keys(document), ['version', 'pid', 'tun', 'proxy', 'uptimeMs', 'counters', 'flows'])
})

test('status: socket and folder are their owner alone', async t => {
  const folder = temporaryFolder(t)
  await started(t, [], { XDG_RUNTIME_DIR: folder })
  t.is(statSync(join(folder, 'tungate')).mode & 0o777, 0o700)
  t.is(statSync(join(folder, 'tungate/tungate0.sock')).mode & 0o777, 0o600)
})

test('status: at its usual place a folder that others may write to is not used, with a warning', async t => {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'tungate'))
  chmodSync(join(folder, 'tungate'), 0o777)
  const { output } = await started(t, [], { XDG_RUNTIME_DIR: folder })
  t.regex(output.stderr, /warn {2}"?no status socket: the folder .* must be this user's own, with mode 0700/)
  t.false(existsSync(join(folder, 'tungate/tungate0.sock')))
})

test('status: a named socket that cannot be made stops the start', async t => {
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'file'), 'mine')
  for (const path of [join(folder, 'file'), join(folder, 'file/x.sock')]) {
    const { output, ended } = start(t, 'runs', ['--status-socket', path])
    t.is(await ended, 1)
    t.regex(output.stderr, /code=STATUS_SOCKET/)
    t.notRegex(output.stderr, /gateway started/)
  }
  t.is(statSync(join(folder, 'file')).size, 4)
})

test('status: a named place that is taken while the gateway starts ends it, and is left as it is', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  const { output, ended } = start(t, `occupies ${socket}`, ['--status-socket', socket])
  t.is(await ended, 1)
  t.regex(output.stderr, /error \S* ?.*is not a socket.* code=STATUS_SOCKET\n$/)
  t.is(output.stderr.match(/STATUS_SOCKET/g)?.length, 1)
  t.is(output.stdout, 'closed\n')
  t.is(statSync(socket).size, 4)
})

test('status: a living gateway keeps its socket, a killed one is replaced', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  const first = await started(t, ['--status-socket', socket])
  const second = start(t, 'runs', ['--status-socket', socket])
  t.is(await second.ended, 1)
  t.regex(second.output.stderr, /another gateway answers on .* code=STATUS_IN_USE/)
  t.is((await tungate(['status', '--status-socket', socket])).code, 0)
  first.child.kill('SIGKILL')
  await first.ended
  t.true(existsSync(socket))
  t.is((await tungate(['status', '--status-socket', socket])).code, 1)
  const third = await started(t, ['--status-socket', socket])
  const { stdout } = await tungate(['status', '--json', '--status-socket', socket])
  t.is(JSON.parse(stdout).pid, third.child.pid)
})

test('status: clients that never read do not shut out the next for long', async t => {
  const socket = join(temporaryFolder(t), 'x.sock')
  await started(t, ['--status-socket', socket])
  const idle = Array.from({ length: 20 }, () => connect({ path: socket, allowHalfOpen: true }).pause())
  t.teardown(() => {
    for (const each of idle) each.destroy()
  })
  for (const each of idle) each.on('error', () => {})
  let code: number | null = 1
  const limit = Date.now() + 20_000
  while (code !== 0 && Date.now() < limit) code = (await tungate(['status', '--status-socket', socket])).code
  t.is(code, 0)
})

test('status: without a gateway one line, with the names of those that are there', async t => {
  const folder = temporaryFolder(t)
  const none = await tungate(['status', '--status-socket', join(folder, 'no.sock')])
  t.is(none.code, 1)
  t.is(none.stderr, `tungate: no gateway is running behind "${join(folder, 'no.sock')}"\n`)
  await started(t, ['--status-socket', join(folder, 'tun7.sock')])
  const other = await tungate(['status', '--status-socket', join(folder, 'no.sock')])
  t.regex(other.stderr, /^tungate: no gateway is running behind .* \(there are sockets of --tun tun7\)\n$/)
})
