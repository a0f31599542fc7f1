/**
 * `make soak`: half an hour (SOAK_MINUTES) of connections, DNS and bulk by way of a line that loses each hundredth packet.
 *
 *     programs ── lan0, 1 % lost both ways ── client namespace (forwards) ── tg0 ── gateway ── the world's servers
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { loadProgram } from '../helpers/load-program.ts'
import { connectNamespaces, createNamespace, type Namespace } from '../helpers/namespaces.ts'
import { startLoadServers } from '../integration/load.ts'
import { createWorld, DEST4, type GatewayProcess, until, untilAtRest, type World } from '../integration/world.ts'
import { type Slope, slopeOf } from './slope.ts'
import { summed } from './summed.ts'

const MINUTES = Number(process.env.SOAK_MINUTES ?? 30)
/** Caches and compiled code grow in the first sixth, which does not count. */
const WARM_UP_SHARE = 1 / 6
/** While it is inconclusive it goes on, to this many times its length. */
const MAX_LENGTHS = 2
/** In less, the warm-up is most of it: the run is a try, and says nothing about growth. */
const LEAST_MINUTES = 10
const SAMPLE_MS = MINUTES < 10 ? 3_000 : 10_000
const MAX_GROWTH_MIB_PER_HOUR = 1
const SLICE_MS = 60_000
const DESCRIPTORS = 2
const MIB = 2 ** 20
/** Of the stack, kept when all is over. */
const KEPT_BYTES = 256 * 1024

const root = fileURLToPath(new URL('../../../', import.meta.url))

interface Memory {
  /** Of the JavaScript heap after it was collected, of buffers beside it, and of the stack's malloc; bytes. */
  readonly heapUsed: number
  readonly external: number
  readonly stack: number
}

interface Sample extends Memory {
  readonly hours: number
  readonly rss: number
  readonly files: number
}

let world: World
let programs: Namespace
let gateway: GatewayProcess
let memoryFile: string

async function lose(namespace: Namespace): Promise<void> {
  const rule = 'meta iifname "lan0" numgen random mod 100 == 0 counter drop'
  const chain = ['type filter hook prerouting priority -300;', rule].join('\n')
  await namespace.mustRun('nft', ['-f', '-'], { input: `table inet soak {\nchain lose {\n${chain}\n}\n}\n` })
}

test.before(async () => {
  world = await createWorld()
  memoryFile = join(world.folder, 'memory')
  process.env.SOAK_MEMORY_FILE = memoryFile
  process.env.SOAK_WASM = join(root, 'wasm/lwip.wasm')
  programs = await createNamespace({ within: world.client })
  const addresses = { a: ['10.9.0.1/24'], b: ['10.9.0.2/24'] }
  await connectNamespaces(world.client, programs, { names: ['lan0', 'lan0'], addresses })
  await world.client.mustRun('sysctl', ['-qw', 'net.ipv4.ip_forward=1'])
  await programs.ip(['route add default via 10.9.0.1'])
  for (const namespace of [world.client, programs]) {
    await namespace.mustRun(loadProgram(), ['cut', '-i', 'lan0']) // what is lost is a packet of the line, no super-packet
    await lose(namespace)
  }
  await startLoadServers(world)
  await world.far.call('startDns', [DEST4], 53, { 'test.example': ['192.0.2.1'] })
  const preload = join(root, 'dist/test/soak/report-memory.cjs')
  gateway = await world.gateway({ node: ['--expose-gc', '--require', preload], args: ['--log-level', 'info'] })
})
test.after.always(async () => {
  await gateway?.stop()
  await programs?.close()
  await world?.close()
})

/** Starts a run of the load again and again, until stop() is called. */
class Load {
  readonly #run: readonly string[]
  #child: ChildProcess | undefined
  #stopped = false
  #ended: Promise<void> | undefined
  /** What each of its runs has told. */
  readonly slices: Record<string, number>[] = []
  broken = 0
  complaint = ''

  constructor(...run: (string | number)[]) {
    this.#run = run.map(String)
  }

  start(): void {
    this.#stopped = false
    this.#ended = this.#work()
  }

  async #work(): Promise<void> {
    while (!this.#stopped) {
      const [file, ...args] = programs.argv(loadProgram(), [...this.#run, '-d', DEST4, '-t', String(SLICE_MS)])
      const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] })
      this.#child = child
      let [text, complaint] = ['', '']
      child.stdout.on('data', chunk => {
        text += chunk
      })
      child.stderr.on('data', chunk => {
        complaint += chunk
      })
      const code = await new Promise(resolve => child.on('close', resolve))
      if (this.#stopped) return
      if (code !== 0) {
        this.broken++
        this.complaint = complaint.trim()
        await delay(1_000)
        continue
      }
      this.slices.push(JSON.parse(text))
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#child?.kill('SIGKILL')
    await this.#ended
  }
}

async function readMemory(): Promise<Memory> {
  rmSync(memoryFile, { force: true })
  gateway.child.kill('SIGUSR2')
  await until(() => existsSync(memoryFile), 'the report of memory', 20_000)
  return JSON.parse(readFileSync(memoryFile, 'utf8')) as Memory
}

/** The least of five within a second: what is on its way comes and goes, what leaks stays. */
async function takeSample(start: number): Promise<Sample> {
  const memories: Memory[] = []
  for (let count = 0; count < 5; count++) {
    memories.push(await readMemory())
    await delay(200)
  }
  const least = (name: keyof Memory) => Math.min(...memories.map(memory => memory[name]))
  return {
    heapUsed: least('heapUsed'),
    external: least('external'),
    stack: least('stack'),
    hours: (performance.now() - start) / 3_600_000,
    rss: gateway.rss(),
    files: await gateway.files(),
  }
}

const totalOf = ({ heapUsed, external, stack }: Memory) => heapUsed + external + stack

/** Nothing of TCP, no datagrams, and no connection in the pool. */
async function drain(): Promise<Memory & { files: number }> {
  await untilAtRest(gateway, 60_000)
  const idle = async () => {
    const { counters } = await gateway.status()
    return counters.udp_flows === 0 && counters.pool_ready === 0 && counters.endpoint_slots === 0
  }
  await until(idle, 'the end of datagrams', 120_000)
  await delay(3_000) // two sweeps, which give back what was kept
  return { ...(await readMemory()), files: await gateway.files() }
}

function growth(samples: readonly Sample[], of: (sample: Sample) => number): Slope {
  const from = samples.at(-1)!.hours * WARM_UP_SHARE
  const counted = samples.filter(({ hours }) => hours >= from)
  return slopeOf(
    counted.map(({ hours }) => hours),
    counted.map(sample => of(sample) / MIB),
  )
}

function table(samples: readonly Sample[]): string {
  const rows = [['', 'MiB at first', 'MiB at last', 'MiB an hour', '95 % bounds', 'correlation']]
  const kinds: [string, (sample: Sample) => number][] = [
    ['heap', sample => sample.heapUsed],
    ['external', sample => sample.external],
    ['stack', sample => sample.stack],
    ['sum', totalOf],
    ['resident', sample => sample.rss],
  ]
  for (const [name, of] of kinds) {
    const { slope, lower, upper, correlation } = growth(samples, of)
    const [first, last] = [samples[0]!, samples.at(-1)!].map(sample => (of(sample) / MIB).toFixed(2))
    rows.push([
      name,
      first!,
      last!,
      slope.toFixed(3),
      `${lower.toFixed(3)} … ${upper.toFixed(3)}`,
      correlation.toFixed(2),
    ])
  }
  return rows.map(row => row.map((cell, at) => (at === 0 ? cell.padEnd(9) : cell.padStart(16))).join('')).join('\n')
}

test(`soak: ${MINUTES} minutes, and nothing grows`, async t => {
  const connections = new Load('paced-connect', '-r', 100)
  const questions = new Load('paced-dns', '-r', 100)
  const bulk = [new Load('download', '-k', 3), new Load('upload', '-k', 2)]
  const all = [connections, questions, ...bulk]
  for (const load of all) load.start()
  await delay(Math.min(60_000, MINUTES * 6_000)) // code is compiled, tables have grown
  for (const load of all) await load.stop()
  const before = await drain()

  for (const load of all) load.start()
  const start = performance.now()
  const samples: Sample[] = []
  const isOver = () => {
    const lengths = samples.length === 0 ? 0 : (samples.at(-1)!.hours * 60) / MINUTES
    if (lengths < 1) return false
    const { lower, upper } = growth(samples, totalOf)
    const isKnown = MINUTES < LEAST_MINUTES || upper <= MAX_GROWTH_MIB_PER_HOUR || lower > MAX_GROWTH_MIB_PER_HOUR
    return isKnown || lengths >= MAX_LENGTHS
  }
  for (let told = 0; !isOver(); ) {
    const due = start + samples.length * SAMPLE_MS
    await delay(Math.max(0, due - performance.now()))
    samples.push(await takeSample(start))
    const sample = samples.at(-1)!
    if (sample.hours * 60 < told) continue
    told++
    const parts = [sample.heapUsed, sample.external, sample.stack, sample.rss].map(bytes => (bytes / MIB).toFixed(1))
    console.log(`${(sample.hours * 60).toFixed(0)} min: heap, external, stack, resident ${parts.join(', ')} MiB`)
  }
  for (const load of all) await load.stop()
  const after = await drain()

  const { lower, upper } = growth(samples, totalOf)
  const verdict =
    upper <= MAX_GROWTH_MIB_PER_HOUR ? 'no growth' : lower > MAX_GROWTH_MIB_PER_HOUR ? 'GROWS' : 'INCONCLUSIVE'
  console.log(table(samples))
  console.log(`${samples.length} samples in ${(samples.at(-1)!.hours * 60).toFixed(1)} minutes: ${verdict}`)
  const kib = (bytes: number) => (bytes / 1024).toFixed(0)
  console.log(
    `at rest before and after: stack ${kib(before.stack)} and ${kib(after.stack)} KiB, heap ${kib(before.heapUsed)} and ${kib(after.heapUsed)} KiB, files ${before.files} and ${after.files}`,
  )
  for (const [name, load] of [
    ['connections', connections],
    ['questions', questions],
    ['downloads', bulk[0]!],
    ['uploads', bulk[1]!],
  ] as const)
    console.log(`${name}: ${JSON.stringify(summed(load.slices))}, slices broken ${load.broken} ${load.complaint}`)

  if (MINUTES >= LEAST_MINUTES) t.is(verdict, 'no growth')
  else console.log(`less than ${LEAST_MINUTES} minutes are too short to tell`)
  t.true(Math.abs(after.files - before.files) <= DESCRIPTORS, `files: ${before.files} → ${after.files}`)
  t.true(after.stack - before.stack <= KEPT_BYTES, `stack: ${before.stack} → ${after.stack}`)
  for (const load of [connections, questions]) {
    const sum = summed(load.slices)
    t.true((sum.count ?? 0) > 0)
    t.true((sum.failed ?? 0) <= (sum.count ?? 0) / 1_000, JSON.stringify(sum))
  }
  t.is(gateway.lines().filter(line => line.level === 'error').length, 0)
})
