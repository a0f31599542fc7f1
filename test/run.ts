/**
 * `make test` and `make test-long`: ava in passes, the files that took longest, and one line with the sum of all.
 *
 * What only computes runs on all cores. What has programs, namespaces and deadlines of its own runs file by file. As root
 * that second part runs once more as an unprivileged user, and there nothing may be skipped for want of a right.
 */
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { rootlessArgv } from './helpers/rootless.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const ava = 'node_modules/ava/entrypoints/cli.mjs'

/** Folders of test/ whose files use the machine: processes, namespaces, devices, clocks. */
const MACHINE = ['commands', 'demo', 'integration', 'library', 'native']
/** What is counted there does not depend on time, but is the same sooner when it has a core of its own. */
const COST = 'cost'
/** `make test-long`: what takes minutes, and some of the others with more to do. */
const LONG = 'long'
/** `make soak` */
const SOAK = 'soak/soak.test.js'
const LONGER_FILES = [
  'integration/bulk.test.js',
  'integration/flood.test.js',
  'integration/load.test.js',
  'integration/many.test.js',
  'integration/tls.test.js',
]
/** What differs for another user is the rights, not the amount. */
const UNPRIVILEGED_ENVIRONMENT = {
  HOME: '/tmp',
  TEST_BULK_BYTES: '5000000',
  TEST_SHORT_CONNECTIONS: '1000',
  TEST_FLOOD_SECONDS: '1',
  TEST_MANY_CONNECTIONS: '500',
}
/** They need no right but those for the namespaces that all files make, so for another user they would be the same once more. */
const SAME_FOR_ALL = [
  'chains',
  'dns-load',
  'encrypted-names',
  'groups',
  'log-reader',
  'names',
  'no-udp',
  'proxy-storms',
  'refusal',
  'rules',
  'standstill',
  'tls',
  'udp-faults',
  'udp-ladder',
  'upstream-faults',
  'upstreams',
]
const LONG_ENVIRONMENT = {
  TEST_BULK_BYTES: '1000000000',
  TEST_TLS_BYTES: '200000000',
  TEST_SHORT_CONNECTIONS: '100000',
  TEST_FLOOD_RATE: '20000',
  TEST_FLOOD_SECONDS: '30',
  TEST_MANY_CONNECTIONS: '10000',
}

interface Pass {
  readonly title: string
  readonly files: readonly string[]
  readonly concurrency?: number
  readonly isUnprivileged?: boolean
}

interface Sum {
  passed: number
  failed: number
  /** Of the files of passes that run one at a time. */
  readonly times: { readonly name: string; readonly ms: number }[]
}

const wantsLong = process.argv.includes('--long')

const isLong = (file: string) => file.startsWith(`${LONG}/`)

function listPasses(): Pass[] {
  const folder = join(root, 'dist/test')
  const all = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.test.js') && file !== SOAK)
    .filter(file => (isLong(file) ? wantsLong : !wantsLong || LONGER_FILES.includes(file)))
    .sort()
  const path = (file: string) => relative(root, join(folder, file))
  const usesMachine = (file: string) => isLong(file) || MACHINE.some(name => file.startsWith(`${name}/`))
  const isCost = (file: string) => file.startsWith(`${COST}/`)
  const machine = all.filter(usesMachine).map(path)
  const passes: Pass[] = [
    { title: 'units', files: all.filter(file => !usesMachine(file) && !isCost(file)).map(path) },
    { title: 'costs', files: all.filter(isCost).map(path), concurrency: 1 },
    { title: 'on this machine', files: machine, concurrency: 1 },
  ]
  const isRoot = process.getuid?.() === 0 && !wantsLong
  const same = SAME_FOR_ALL.map(name => path(`integration/${name}.test.js`))
  const others = machine.filter(file => !same.includes(file))
  if (isRoot) passes.push({ title: 'as an unprivileged user', files: others, concurrency: 1, isUnprivileged: true })
  return passes.filter(({ files }) => files.length > 0)
}

/** A clone may lie where only root can read, so for the other user the tree has a second place, in a private mount namespace. */
const ELSEWHERE = 'mount --make-rprivate / && mount --bind "$1" /srv && cd /srv && shift && exec "$@"'

function argvOf({ files, concurrency, isUnprivileged }: Pass): [string, ...string[]] {
  const args = [ava, ...(concurrency === undefined ? [] : ['--concurrency', String(concurrency)]), ...files]
  if (wantsLong) args.splice(1, 0, '--timeout=10m')
  if (!isUnprivileged) return [process.execPath, ...args]
  return ['unshare', '-m', 'sh', '-c', ELSEWHERE, 'sh', root, ...rootlessArgv(process.execPath, args)]
}

/** ava's line of a test that passed; when others fail, its sum does not tell how many. */
const PASSED = /^\s*[✔√] /
/** ava's last lines: `1 test failed`, `1 hook failed`, `1 uncaught exception`, … */
const FAILED = /^\s*(\d+) (tests? failed|hooks? failed|uncaught exceptions?|unhandled rejections?)$/
/** The file of ava's line of a test; its name is left out where a pass has one file. */
const FILE = /^\s*[✔√✘×-] (?:\[\w+\]:? )?(.+) › [^›]+$/
/** How many are told of in `make test`. */
const SLOWEST = 10
/** What the other user cannot do, whatever the machine allows. */
const NEEDS_ROOT = /only root/

async function runPass(pass: Pass, sum: Sum): Promise<void> {
  console.log(`\n${pass.title}: ${pass.files.length} files`)
  const [file, ...args] = argvOf(pass)
  const other = pass.isUnprivileged ? UNPRIVILEGED_ENVIRONMENT : {}
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...other } })
  const ended = new Promise<number>(resolve => {
    child.on('error', error => {
      console.log(error.message)
      resolve(1)
    })
    child.on('close', code => resolve(code ?? 1))
  })
  const before = sum.failed
  const start = performance.now()
  const clock = new FileClock(start)
  const lines = new PassThrough()
  for (const output of [child.stdout, child.stderr]) output.pipe(lines, { end: false })
  child.on('close', () => lines.end())
  for await (const line of createInterface({ input: lines })) {
    console.log(line)
    if (PASSED.test(line)) sum.passed++
    clock.take(line)
    sum.failed += Number(FAILED.exec(line)?.[1] ?? 0)
    if (pass.isUnprivileged && isForbiddenSkip(line)) {
      console.log('  ✘ this must not be skipped')
      sum.failed++
    }
  }
  // A crash, a time-out, or a file without tests has no line of its own.
  if ((await ended) !== 0 && sum.failed === before) sum.failed++
  console.log(`${pass.title}: ${seconds(performance.now() - start)}`)
  if (pass.concurrency === 1)
    for (const [file, ms] of clock.files) sum.times.push({ name: `${file}, ${pass.title}`, ms })
}

/** How long each file takes when they run one after the other: from the last line of one to the last line of the next. */
class FileClock {
  readonly files = new Map<string, number>()
  #last: number

  constructor(now: number) {
    this.#last = now
  }

  take(line: string): void {
    const file = FILE.exec(line)?.[1]
    if (file === undefined) return
    const now = performance.now()
    this.files.set(file, (this.files.get(file) ?? 0) + now - this.#last)
    this.#last = now
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

function tellTimes({ times }: Sum): void {
  const slowest = times.toSorted((one, other) => other.ms - one.ms).slice(0, wantsLong ? times.length : SLOWEST)
  console.log(wantsLong ? '\nhow long each file took:' : '\nthe slowest files:')
  for (const { name, ms } of slowest) console.log(`${seconds(ms).padStart(9)}  ${name}`)
}

/** A test that needs the rights of root is marked `skip` for others, without a word; a machine that lacks something is told of. */
function isForbiddenSkip(line: string): boolean {
  return /\bskipped: /.test(line) && !NEEDS_ROOT.test(line)
}

const sum: Sum = { passed: 0, failed: 0, times: [] }
if (wantsLong) Object.assign(process.env, LONG_ENVIRONMENT)
for (const pass of listPasses()) await runPass(pass, sum)
tellTimes(sum)
console.log(`\n${sum.passed} passed, ${sum.failed} failed`)
process.exit(sum.failed === 0 && sum.passed > 0 ? 0 : 1)
