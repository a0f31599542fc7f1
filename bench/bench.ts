/**
 * `make bench`: tungate, the bound (a client that speaks SOCKS5 itself), redsocks and any named peer under the same
 * load, measure by measure in turns, in rounds. Progress goes to standard error, the tables to standard output.
 * Exit: 0 all runs counted, 1 some failed, 2 wrong command line, 3 something is not installed.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { fillCommand, listContenders, Runner } from './contenders.ts'
import {
  listMeasures,
  type Measure,
  memoryAfterRow,
  type Row,
  startRows,
  startToFirstEcho,
  type Turn,
} from './measures.ts'
import { type BenchOptions, parseOptions, USAGE } from './options.ts'
import { residentKib } from './processes.ts'
import { type Failure, markdown, median, type Report, writeBetweenMarkers } from './report.ts'
import { destinationOf, firstLine, kernelRelease, PROXY_HOST, PROXY_PORT, Topology } from './topology.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const say = (text: string): void => void process.stderr.write(`${text}\n`)

/** Compiles the load program into `folder`. */
function compileLoad(folder: string): string {
  const source = join(root, 'bench/load')
  const files = ['main', 'stream', 'bulk', 'connections', 'datagrams', 'servers', 'udp-servers', 'socks-server']
  const paths = [...files, 'socks-datagrams'].map(file => join(source, `${file}.c`))
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

/** All that is collected while the rounds run. */
class Results {
  readonly values: Record<string, Record<string, (number | null)[]>> = {}
  readonly failures: Failure[] = []
  readonly rows: Row[] = []
  /** Set by a signal: what fails from then on fails because everything is being ended. */
  stopping = false

  add(round: number, row: Row, contender: string, value: number): void {
    if (!this.rows.includes(row)) this.rows.push(row)
    const byRow = this.values[row.id] ?? {}
    const rounds = byRow[contender] ?? []
    this.values[row.id] = byRow
    byRow[contender] = rounds
    while (rounds.length < round - 1) rounds.push(null)
    rounds[round - 1] = Number.isFinite(value) ? value : null
  }

  fail(round: number, rows: readonly Row[], contender: string, error: unknown): void {
    if (this.stopping) return
    const message = error instanceof Error ? error.message : String(error)
    for (const row of rows) {
      this.add(round, row, contender, Number.NaN)
      this.failures.push({ round, row: row.id, contender, message })
    }
    say(`  ${contender}: FAILED: ${message}`)
  }
}

const show = (rows: readonly Row[], values: readonly number[]): string =>
  rows
    .flatMap((row, at) => (Number.isFinite(values[at]) ? [`${values[at]!.toFixed(row.digits)} ${row.unit}`] : []))
    .join(', ')

/** The order changes from measure to measure, so that nobody always comes after the same one. */
function inTurn<T>(items: readonly T[], shift: number): T[] {
  const by = shift % items.length
  return [...items.slice(by), ...items.slice(0, by)]
}

async function takeMeasure(round: number, measure: Measure, turn: Turn, results: Results): Promise<void> {
  const { runner } = turn
  const { name } = runner.contender
  try {
    if (runner.obituary !== undefined) throw new Error(runner.obituary)
    await runner.enter()
    try {
      const values = await measure.take(turn)
      for (const [at, row] of measure.rows.entries()) results.add(round, row, name, values[at]!)
      say(`  ${name}: ${show(measure.rows, values)}`)
    } finally {
      await runner.leave()
    }
  } catch (error) {
    results.fail(round, measure.rows, name, runner.obituary ?? error)
  }
}

async function startAll(round: number, turns: readonly Turn[], results: Results): Promise<void> {
  for (const turn of turns) {
    const { runner } = turn
    if (runner.contender.way === 'socks') continue
    try {
      await runner.enter()
      const milliseconds = await startToFirstEcho(turn).finally(() => runner.leave())
      await delay(500)
      const values = [milliseconds, residentKib(runner.pid!) / 1024]
      for (const [at, row] of startRows.entries()) results.add(round, row, runner.contender.name, values[at]!)
      say(`  ${runner.contender.name}: ${show(startRows, values)}`)
    } catch (error) {
      results.fail(round, startRows, runner.contender.name, error)
    }
  }
}

async function runRounds(turns: readonly Turn[], options: BenchOptions, results: Results): Promise<void> {
  const measures = listMeasures(options)
  for (let round = 1; round <= options.rounds; round++) {
    say(`round ${round} of ${options.rounds}: start`)
    await startAll(round, inTurn(turns, round), results)
    for (const [at, measure] of measures.entries()) {
      say(`round ${round} of ${options.rounds}: ${measure.id}`)
      for (const turn of inTurn(turns, round + at))
        if (measure.applies(turn.runner)) await takeMeasure(round, measure, turn, results)
    }
    for (const { runner } of turns) {
      if (runner.pid !== undefined && runner.obituary === undefined)
        results.add(round, memoryAfterRow, runner.contender.name, residentKib(runner.pid) / 1024)
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

/** What Node itself costs on this machine, the floor of tungate's start and memory: medians of 5 starts. */
function bareNode(): string {
  const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env
  const starts = Array.from({ length: 5 }, () => {
    const startMs = performance.now()
    const script = 'process.stdout.write(String(process.memoryUsage.rss()))'
    const rss = execFileSync(process.execPath, ['-e', script], { env: environment, encoding: 'utf8' })
    return { ms: performance.now() - startMs, mib: Number(rss) / 2 ** 20 }
  })
  const ms = median(starts.map(start => start.ms))!
  return `${ms.toFixed(0)} ms from start to exit, ${median(starts.map(start => start.mib))!.toFixed(1)} MiB`
}

function conditionsOf(options: BenchOptions, topology: Topology): Record<string, string> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} cores, ${cpus()[0]?.model.trim() ?? 'unknown CPU'}`,
    software: `Linux ${kernelRelease()}, Node ${process.version}, tungate ${version}`,
    'congestion control': `${topology.congestionControl} in both namespaces`,
    'SOCKS5 server': options.socksServer === '' ? "the benchmark's own, spliced" : 'given by option',
    rounds: `${options.rounds}, ${options.seconds} s a run`,
    'bare node -e': bareNode(),
    memory: `${options.idle} idle connections; beside ${options.crowd} idle connections`,
  }
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
    contenders = listContenders(options, join(root, 'dist/src/cli.js'))
    listMeasures(options)
  } catch (error) {
    say(`${(error as Error).message}\n\n${USAGE}`)
    return 2
  }
  enterUserNamespace()
  const redirect = contenders.some(({ way }) => way === 'redirect') ? ['redsocks', 'nft'] : []
  requireTools(['cc', 'ip', 'iperf3', 'nsenter', 'setpriv', 'sysctl', 'unshare', ...redirect])
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
      results.stopping = true
      void close().finally(() => process.exit(code))
    })
  try {
    const load = compileLoad(folder)
    topology = await Topology.open(contenders.length, options.congestionControls)
    await startServers(topology, load, contenders.length, options, folder)
    const turns: Turn[] = []
    for (const contender of contenders) {
      const runner = new Runner(contender, topology, folder)
      await runner.prepare()
      turns.push({ runner, topology, options, load })
    }
    await runRounds(turns, options, results)
    const report: Report = {
      conditions: conditionsOf(options, topology),
      contenders: contenders.map(({ name, mtu }) => ({ name, mtu })),
      reference: options.reference,
      rows: results.rows,
      values: results.values,
      failures: results.failures,
    }
    const text = markdown(report)
    process.stdout.write(text)
    if (options.write) {
      writeBetweenMarkers(join(root, 'docs/BENCHMARKS.md'), text)
      writeFileSync(join(root, 'docs/benchmarks.json'), `${JSON.stringify(report, null, 2)}\n`)
    }
    return results.failures.length === 0 ? 0 : 1
  } finally {
    await close()
  }
}

process.exit(await main())
