import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import anyTest from 'ava'
import { formatBytes, formatTable } from '../../src/demo/screen.ts'
import { commandFile } from '../helpers/command-file.ts'
import { startFairClock } from '../helpers/machine.ts'
import { temporaryFolder, tungate } from './tungate.ts'

const test = anyTest.serial

/** Processes in whose environment the word stands: those of one demo, however deep. */
function processesOf(word: string): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(word) && existsSync(`/proc/${pid}/exe`)
      } catch {
        return false
      }
    })
    .map(Number)
}

async function untilNone(word: string): Promise<number[]> {
  const deadline = Date.now() + 10_000
  while (processesOf(word).length > 0 && Date.now() < deadline) await delay(20)
  return processesOf(word)
}

let count = 0
function mark(): string {
  return `TUNGATE_DEMO_TEST=${process.pid}.${process.hrtime.bigint()}.${count++}`
}

function environment(word: string): Record<string, string> {
  const [name, value] = word.split('=') as [string, string]
  return { [name]: value }
}

test('demo: all is proven in less than 30 s, with its table, and nothing is left', async t => {
  const word = mark()
  const clock = startFairClock()
  const { code, stdout, stderr } = await tungate(['demo'], environment(word))
  const { elapsedMs, fairMs } = clock.tell()
  t.log(stdout)
  t.is(code, 0, stdout + stderr)
  t.is(stderr, '')
  t.true(fairMs < 30_000, `${elapsedMs} ms, ${fairMs} without what others took`)
  t.notRegex(stdout, /✗/)
  for (const direction of ['downloads', 'uploads'])
    for (const family of ['IPv4', 'IPv6'])
      t.regex(stdout, new RegExp(`✓ curl ${direction} over ${family} +53\\d MB, [\\d.]+ Gbit/s, sha256 equal`))
  t.is(stdout.match(/✓ a closed port over IPv[46] +Connection refused, curl: exit 7 after/g)?.length, 2)
  t.is(stdout.match(/✓ an unreachable host over IPv[46] +No route to host/g)?.length, 2)
  t.is(stdout.match(/✓ UDP echo over IPv[46] +65,000 bytes whole/g)?.length, 2)
  t.regex(stdout, /✓ names, asked by (dig|getent) +A and AAAA over UDP/)
  t.regex(stdout, /^all .* 1\.07 GB +1\.07 GB /m)
  t.regex(stdout, /^All proven in .* 0 restarts of the stack/m)
  t.deepEqual(processesOf(word), [])
})

for (const [signal, expected] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGKILL', null],
] as const) {
  test(`demo: nothing is left behind after ${signal} in the middle of a download`, async t => {
    const word = mark()
    const child = spawn(process.execPath, [commandFile, 'demo'], {
      env: { ...process.env, ...environment(word) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    child.stdout.on('data', chunk => {
      said += chunk
    })
    const downloading = () => processesOf(word).some(pid => commandOf(pid).startsWith('curl'))
    for (const deadline = Date.now() + 10_000; !downloading() && Date.now() < deadline; ) await delay(10)
    t.true(downloading(), said)
    const space = readlinkSync(`/proc/${processesOf(word).find(pid => commandOf(pid).startsWith('curl'))}/ns/net`)
    const ended = once(child, 'exit')
    child.kill(signal)
    const startedAt = performance.now()
    t.deepEqual(await ended, expected === null ? [null, signal] : [expected, null])
    t.true(performance.now() - startedAt < 2000)
    t.deepEqual(await untilNone(word), [])
    t.notRegex(said, /✗/)
    t.false(namespaces().has(space))
  })
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

/** Network namespaces of living processes. */
function namespaces(): Set<string> {
  const found = new Set<string>()
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name)))
    try {
      found.add(readlinkSync(`/proc/${pid}/ns/net`))
    } catch {}
  return found
}

test('demo: without curl it says the line that installs it, and ends with 3', async t => {
  const folder = temporaryFolder(t)
  for (const program of ['ip', 'unshare', 'nsenter', 'mount', 'getent']) symlinkSync('/bin/true', join(folder, program))
  const { code, stdout, stderr } = await tungate(['demo'], { PATH: folder })
  t.is(code, 3)
  t.is(stdout, '')
  t.is(stderr, 'tungate: not installed: curl. As root:\n  apt-get install --no-install-recommends curl\n')
})

test('demo: a curl that lies is not believed; where there is no dig, getent asks for names', async t => {
  // Not below /tmp, which the namespace covers for a moment when it binds a file.
  const folder = mkdtempSync('/var/tmp/tungate-test-')
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const program of ['sh', 'ip', 'unshare', 'nsenter', 'mount', 'umount', 'cat', 'chmod', 'env', 'sleep', 'getent'])
    symlinkSync(execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim(), join(folder, program))
  // Says "refused" where it should, but its downloads and uploads are empty.
  const fake = join(folder, 'curl')
  writeFileSync(fake, '#!/bin/sh\necho 0.001\necho "Connection refused, No route to host" >&2\nexit 7\n')
  chmodSync(fake, 0o755)
  const { code, stdout } = await tungate(['demo'], { PATH: folder })
  t.is(code, 1, stdout)
  t.regex(stdout, /✓ names, asked by getent +A and AAAA over UDP/)
  t.is(stdout.match(/✗ curl (down|up)loads over IPv[46] +expected \{"bytes":536870912,/g)?.length, 4)
  t.regex(stdout, /^4 not proven/m)
})

test('demo: a word that it does not know is refused', async t => {
  const { code, stderr } = await tungate(['demo', '--fast'])
  t.is(code, 2)
  t.is(stderr, 'tungate: "--fast": demo takes nothing but --help\n')
})

test('screen: bytes have three digits and a unit', t => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [999_600, '1.00 MB'],
    [536_870_912, '537 MB'],
    [1_073_741_824, '1.07 GB'],
  ]
  for (const [bytes, text] of cases) t.is(formatBytes(bytes), text)
})

test('screen: a table has its columns under each other', t => {
  const table = formatTable([
    ['', 'n', 'text'],
    ['one', '1', 'a'],
    ['thousand', '1,000', 'b'],
  ])
  t.is(table, ['              n  text', '─────────────────────', 'one           1  a', 'thousand  1,000  b'].join('\n'))
})
