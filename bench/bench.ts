/**
 * `make bench`: tungate, the bound (a client that speaks SOCKS5 itself) and any named rival under the same load, measure
 * by measure in turns, in rounds. Progress goes to standard error, the tables to standard output.
 * Exit: 0 all runs counted but those in which a rival failed, 1 some failed, 2 wrong command line, 3 something is not
 * installed.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { writeCharts } from './charts.ts'
import { fillCommand, listContenders, Runner } from './contenders.ts'
import type { Measure, Row, Turn, Value } from './measure.ts'
import {
  type BareNode,
  bareMemoryMib,
  bareStartMs,
  memoryAfterRows,
  startRows,
  takeMemoryAfter,
  takeStart,
} from './measures/start.ts'
import { listMeasures } from './measures.ts'
import { type BenchOptions, parseOptions, USAGE } from './options.ts'
import { markdown, medianOf, type Report, writeBetweenMarkers } from './report.ts'
import { Results } from './results.ts'
import { destinationOf, firstLine, kernelRelease, PROXY_HOST, PROXY_PORT, Topology } from './topology.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const say = (text: string): void => void process.stderr.write(`${text}\n`)

/** Compiles the load program into `folder`. */
function compileLoad(folder: string): string {
  const source = join(root, 'bench/load')
  const paths = readdirSync(source)
    .filter(file => file.endsWith('.c'))
    .map(file => join(source, file))
  const program = join(folder, 'load')
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-pthread', '-D_GNU_SOURCE', '-o', program, ...paths])
  return program
}

function requireTools(tools: readonly string[]): void {
  const missing = tools.filter(tool => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0)
  if (missing.length === 0) return
  say(
    `not installed: ${missing.join(', ')}; on Debian: apt install gcc libc6-dev iproute2 iperf3 nftables procps redsocks`,
  )
  process.exit(3)
}

/** Without root the whole bench goes into a user namespace of its own, where it is root. */
function enterUserNamespace(): void {
  if (process.getuid?.() === 0) return
  const inside = spawnSync('unshare', ['-Urm', process.execPath, ...process.argv.slice(1)], { stdio: 'inherit' })
  process.exit(inside.status ?? 1)
}

const show = (rows: readonly Row[], values: readonly Value[]): string =>
  rows
    .flatMap((row, at) => {
      const value = values[at] ?? Number.NaN
      if (value instanceof Error) return [`FAILED: ${value.message}`]
      return Number.isFinite(value) ? [`${value.toFixed(row.digits)} ${row.unit}`] : []
    })
    .join(', ')

/** The order changes from measure to measure, so that nobody always comes after the same one. */
function inTurn<T>(items: readonly T[], shift: number): T[] {
  const by = shift % items.length
  return [...items.slice(by), ...items.slice(0, by)]
}

/** Takes values for `rows` of one contender, and notes them or the error that came instead. */
async function take(
  round: number,
  rows: readonly Row[],
  turn: Turn,
  results: Results,
  body: () => Promise<Value[]>,
): Promise<void> {
  const { runner } = turn
  const { name } = runner.contender
  try {
    await runner.enter()
    const values = await body().finally(() => runner.leave())
    results.add(round, rows, name, values)
    say(`  ${name}: ${show(rows, values)}`)
  } catch (error) {
    const reason = runner.obituary ?? error
    results.fail(round, rows, name, reason)
    if (!results.isStopping) say(`  ${name}: FAILED: ${reason instanceof Error ? reason.message : reason}`)
  }
}

async function takeMeasure(round: number, measure: Measure, turn: Turn, results: Results): Promise<void> {
  await take(round, measure.rows, turn, results, () => {
    const { obituary } = turn.runner
    return obituary === undefined ? measure.take(turn) : Promise.reject(new Error(obituary))
  })
}

async function takeBareNode(topology: Topology, folder: string): Promise<BareNode> {
  const starts: number[] = []
  for (let at = 0; at < 3; at++) starts.push(await bareStartMs(topology, folder))
  return { ms: medianOf(starts)!, mib: await bareMemoryMib(topology, folder) }
}

async function runRounds(
  turns: readonly Turn[],
  options: BenchOptions,
  folder: string,
  results: Results,
): Promise<void> {
  const measures = listMeasures(options)
  const startMs = performance.now()
  const gateways = turns.filter(({ runner }) => runner.contender.way !== 'socks')
  const announce = (round: number, what: string) => {
    const minutes = ((performance.now() - startMs) / 60_000).toFixed(1)
    say(`${minutes} min, round ${round} of ${options.rounds}: ${what}`)
  }
  for (let round = 1; round <= options.rounds; round++) {
    announce(round, 'start')
    const bare = await takeBareNode(turns[0]!.topology, folder)
    results.bareNode.push(bare)
    for (const turn of inTurn(gateways, round))
      await take(round, startRows, turn, results, () => takeStart(turn, folder, bare))
    for (const [at, measure] of measures.entries()) {
      announce(round, measure.id)
      for (const turn of inTurn(turns, round + at))
        if (measure.applies(turn.runner)) await takeMeasure(round, measure, turn, results)
    }
    for (const turn of gateways) {
      const { runner } = turn
      if (runner.pid !== undefined && runner.obituary === undefined)
        results.add(round, memoryAfterRows, runner.contender.name, takeMemoryAfter(turn, bare))
      await runner.stop()
    }
  }
}

async function startServers(topology: Topology, load: string, count: number, options: BenchOptions, folder: string) {
  const addresses = Array.from({ length: count }, (_, at) => ['-a', destinationOf(at + 1)]).flat()
  await firstLine(topology.start('server', [load, 'serve', ...addresses]), 5000)
  topology.start('server', ['iperf3', '-s']).stdout?.resume()
  if (options.socksServer === '') {
    const server = topology.start('server', [load, 'socks-server', '-s', `${PROXY_HOST}:${PROXY_PORT}`])
    await firstLine(server, 5000)
    return
  }
  const values = { proxyHost: PROXY_HOST, proxyPort: PROXY_PORT }
  const server = topology.start('server', fillCommand(options.socksServer, folder, values))
  server.stdout?.resume()
  server.stderr?.resume()
  await delay(1000)
  if (server.exitCode !== null) throw new Error('the SOCKS5 server ended at once')
}

function conditionsOf(
  options: BenchOptions,
  topology: Topology,
  bareNode: readonly BareNode[],
): Record<string, string> {
  const bareMs = medianOf(bareNode.map(({ ms }) => ms))!.toFixed(0)
  const bareMib = medianOf(bareNode.map(({ mib }) => mib))!.toFixed(1)
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} cores, ${cpus()[0]?.model.trim() ?? 'unknown CPU'}`,
    software: `Linux ${kernelRelease()}, Node ${process.version}, tungate ${version}`,
    'congestion control': `${topology.congestionControl} in all namespaces`,
    'SOCKS5 server': options.socksServer === '' ? "the benchmark's own, spliced" : 'given by option',
    rounds: `${options.rounds}, ${options.seconds} s a run, ${options.seconds / 4} s for a point of a chart`,
    'bare node': `${bareMs} ms from start to exit, ${bareMib} MiB`,
    'idle connections': `${options.idle} beside ${Math.ceil(options.idle / 3)} for the memory of one`,
    limits: `tungate's limits.flows is ${2 * options.crowd}; all else is at its default`,
  }
}

/** Runs everything and gives the report. Namespaces and files are gone when it returns. */
async function bench(options: BenchOptions, contenders: ReturnType<typeof listContenders>): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-bench-'))
  const results = new Results()
  let topology: Topology | undefined
  const close = async () => {
    await topology?.close()
    rmSync(folder, { recursive: true, force: true })
  }
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => {
      results.isStopping = true
      void close().finally(() => process.exit(code))
    })
  try {
    const load = compileLoad(folder)
    topology = await Topology.open(contenders.length, options.congestionControls)
    await topology.likeAWire(load)
    await startServers(topology, load, contenders.length, options, folder)
    const turns: Turn[] = []
    for (const contender of contenders) {
      const runner = new Runner(contender, topology, folder)
      await runner.prepare()
      turns.push({ runner, topology, options, load })
    }
    await runRounds(turns, options, folder, results)
    return {
      conditions: conditionsOf(options, topology, results.bareNode),
      contenders: contenders.map(({ name, label, isRival }) => ({ name, label, isRival })),
      rows: results.rows,
      values: results.values,
      failures: results.failures,
    }
  } finally {
    await close()
  }
}

function writeDocs(docs: string, report: Report, text: string, crowd: number): void {
  mkdirSync(docs, { recursive: true })
  const charts = writeCharts(docs, report, crowd)
  writeBetweenMarkers(join(docs, 'BENCHMARKS.md'), `${text}\n## Charts\n\n${charts}`)
  writeFileSync(join(docs, 'benchmarks.json'), `${JSON.stringify(report, null, 2)}\n`)
}

async function main(): Promise<number> {
  if (process.argv.includes('--help')) {
    process.stdout.write(USAGE)
    return 0
  }
  let options: BenchOptions
  let contenders: ReturnType<typeof listContenders>
  try {
    options = parseOptions(process.argv.slice(2), process.env)
    contenders = listContenders(options, join(root, 'dist/src/tungate.cjs'))
    listMeasures(options)
  } catch (error) {
    say(`${(error as Error).message}\n\n${USAGE}`)
    return 2
  }
  enterUserNamespace()
  const redirect = contenders.some(({ way }) => way === 'redirect') ? ['redsocks', 'nft'] : []
  requireTools(['cc', 'ip', 'iperf3', 'nsenter', 'setpriv', 'sysctl', 'unshare', ...redirect])
  const report = await bench(options, contenders)
  const text = markdown(report)
  process.stdout.write(text)
  const isWhole = !options.quick && options.only.length === 0
  if (options.out !== '') writeDocs(options.out, report, text, options.crowd)
  if (options.write && isWhole) writeDocs(join(root, 'docs'), report, text, options.crowd)
  else if (options.write) say('docs are left as they are: only a whole run is written, without --quick and --only')
  const rivals = contenders.filter(({ isRival }) => isRival).map(({ name }) => name)
  return report.failures.every(({ contender }) => rivals.includes(contender)) ? 0 : 1
}

process.exit(await main())
