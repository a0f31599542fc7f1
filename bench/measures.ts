/** What is measured: each measure loads one contender for one turn and gives the values of its rows. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Runner } from './contenders.ts'
import type { BenchOptions } from './options.ts'
import { cpuSeconds, residentKib } from './processes.ts'
import { destinationOf, firstLine, PROXY_HOST, PROXY_PORT, type Topology } from './topology.ts'

export interface Row {
  readonly id: string
  readonly title: string
  readonly unit: string
  readonly digits: number
}

/** What one turn needs. */
export interface Turn {
  readonly runner: Runner
  readonly topology: Topology
  readonly options: BenchOptions
  /** Path of the load program. */
  readonly load: string
}

export interface Measure {
  readonly id: string
  readonly rows: readonly Row[]
  /** Left out with --quick. */
  readonly long: boolean
  readonly applies: (runner: Runner) => boolean
  /** One value for each row, NaN where the contender has none. */
  readonly take: (turn: Turn) => Promise<number[]>
}

type Numbers = Record<string, number>

const UDP_PAYLOAD_BYTES = 1400
const MAX_LOSS = 0.005

const row = (id: string, title: string, unit: string, digits: number): Row => ({ id, title, unit, digits })
const everyone = (): boolean => true

function loadArguments({ runner, load }: Turn, run: string): string[] {
  const to = [load, run, '-d', destinationOf(runner.contender.index), '-q', PROXY_HOST]
  return runner.contender.way === 'socks' ? [...to, '-s', `${PROXY_HOST}:${PROXY_PORT}`] : to
}

async function runLoad(turn: Turn, run: string, ...more: (string | number)[]): Promise<Numbers> {
  const { stdout } = await turn.topology.run('gateway', [...loadArguments(turn, run), ...more.map(String)])
  return JSON.parse(stdout) as Numbers
}

const runMs = (turn: Turn): number => Math.round(turn.options.seconds * 1000)

/** Runs `body` and gives the gateway's CPU seconds meanwhile, NaN for the bound, which has no gateway. */
async function withCpu<T>({ runner }: Turn, body: () => Promise<T>): Promise<[T, number]> {
  const before = runner.pid === undefined ? Number.NaN : cpuSeconds(runner.pid)
  const result = await body()
  return [result, runner.pid === undefined ? Number.NaN : cpuSeconds(runner.pid) - before]
}

function bulk(direction: 'upload' | 'download', streams: number): Measure {
  const id = `${direction}-${streams}`
  const title = `${direction}, ${streams} stream${streams > 1 ? 's' : ''}`
  return {
    id,
    rows: [row(id, title, 'Gbit/s', 2), row(`${id}-cpu`, `${title}: gateway CPU`, 's/GB', 2)],
    long: false,
    applies: everyone,
    take: async turn => {
      const [result, cpu] = await withCpu(turn, () => runLoad(turn, direction, '-k', streams, '-t', runMs(turn)))
      const bytes = result.bytes!
      return [(bytes * 8) / result.seconds! / 1e9, cpu / (bytes / 1e9)]
    },
  }
}

function iperf(direction: 'upload' | 'download', streams: number): Measure {
  const id = `iperf-${direction}-${streams}`
  return {
    id,
    rows: [row(id, `iperf3 ${direction}, ${streams} stream${streams > 1 ? 's' : ''}`, 'Gbit/s', 2)],
    long: true,
    applies: ({ contender }) => contender.way !== 'socks',
    take: async ({ runner, topology, options }) => {
      const to = [
        '-c',
        destinationOf(runner.contender.index),
        '-t',
        String(Math.ceil(options.seconds)),
        '-P',
        `${streams}`,
      ]
      const reverse = direction === 'download' ? ['-R'] : []
      const { stdout } = await topology.run('gateway', ['iperf3', '-J', ...to, ...reverse])
      const report = JSON.parse(stdout) as { error?: string; end: { sum_received: { bits_per_second: number } } }
      if (report.error !== undefined) throw new Error(report.error)
      return [report.end.sum_received.bits_per_second / 1e9]
    },
  }
}

const connectOneByOne: Measure = {
  id: 'connect-1',
  rows: [
    row('connect-1', 'connect + echo + close, one by one: p50', 'µs', 0),
    row('connect-1-cpu', 'connect + echo + close, one by one: gateway CPU', 'µs each', 0),
  ],
  long: false,
  applies: everyone,
  take: async turn => {
    const [result, cpu] = await withCpu(turn, () => runLoad(turn, 'connect', '-t', runMs(turn)))
    return [result.p50Us!, (cpu * 1e6) / result.count!]
  },
}

/** Rate of a closed loop and the gateway's CPU for each of its turns. */
function closedLoop(
  id: string,
  title: string,
  run: string,
  parallel: number,
  applies: (runner: Runner) => boolean,
): Measure {
  return {
    id,
    rows: [row(id, title, 'per s', 0), row(`${id}-cpu`, `${title}: gateway CPU`, 'µs each', 1)],
    long: false,
    applies,
    take: async turn => {
      const [result, cpu] = await withCpu(turn, () => runLoad(turn, run, '-k', parallel, '-t', runMs(turn)))
      return [result.count! / result.seconds!, (cpu * 1e6) / result.count!]
    },
  }
}

/** The highest rate, by doubling and then halving the step, at which no more than 0.5 % is lost. */
function udpBulk(direction: 'up' | 'down'): Measure {
  const id = `udp-bulk-${direction}`
  return {
    id,
    rows: [row(id, `UDP bulk ${direction}, ${UDP_PAYLOAD_BYTES} bytes, at most 0.5 % lost`, 'Gbit/s', 2)],
    long: true,
    applies: ({ contender }) => contender.udp,
    take: async turn => {
      let best = 0
      let step = 100
      let doubling = true
      for (let rate = 200, halvings = 0; halvings < 4 && rate <= 20_000; ) {
        const result = await runLoad(turn, `udp-${direction}`, '-r', rate, '-t', 500, '-b', UDP_PAYLOAD_BYTES)
        const goodput = (result.bytes! * 8) / result.seconds! / 1e6
        const kept = result.received! >= result.sent! * (1 - MAX_LOSS) && goodput >= rate * 0.9
        if (kept) best = Math.max(best, goodput)
        if (kept && doubling) {
          step = rate
          rate *= 2
          continue
        }
        doubling = false
        step /= 2
        halvings++
        rate = Math.round(kept ? rate + step : rate - step)
      }
      if (best === 0) throw new Error('more than 0.5 % lost even at the lowest rate')
      return [best / 1000]
    },
  }
}

/** Opens `count` connections, calls `body` while they are idle, and closes them. */
async function whileIdle<T>(turn: Turn, count: number, body: () => Promise<T>): Promise<T> {
  const child = turn.topology.start('gateway', [...loadArguments(turn, 'idle'), '-n', String(count), '-k', '32'])
  try {
    await firstLine(child, 60_000)
    return await body()
  } finally {
    child.stdin?.end()
    await turn.topology.stop(child)
  }
}

const idleConnections: Measure = {
  id: 'idle',
  rows: [row('idle', 'memory per idle connection', 'KiB', 1)],
  long: false,
  applies: ({ contender }) => contender.way !== 'socks',
  take: async turn => {
    const { idle } = turn.options
    const before = residentKib(turn.runner.pid!)
    const after = await whileIdle(turn, idle, async () => {
      await delay(300)
      return residentKib(turn.runner.pid!)
    })
    return [(after - before) / idle]
  },
}

const crowd: Measure = {
  id: 'crowd',
  rows: [
    row('crowd', 'connect + echo + close beside idle connections: p50', 'µs', 0),
    row('crowd-cpu', 'connect + echo + close beside idle connections: gateway CPU', 'µs each', 0),
  ],
  long: true,
  applies: everyone,
  take: turn => whileIdle(turn, turn.options.crowd, () => connectOneByOne.take(turn)),
}

const udpEcho = closedLoop(
  'udp-echo',
  'UDP echo, 64 sockets, 64 bytes',
  'udp-echo',
  64,
  ({ contender }) => contender.udp,
)

/** Rows that come with each start of a contender. */
export const startRows: readonly Row[] = [
  row('start', 'start to first echo', 'ms', 0),
  row('memory', 'memory fresh', 'MiB', 1),
]
export const memoryAfterRow = row('memory-after', 'memory after all of the above', 'MiB', 1)

const all: readonly Measure[] = [
  idleConnections,
  bulk('upload', 1),
  bulk('upload', 8),
  bulk('download', 1),
  bulk('download', 8),
  iperf('upload', 1),
  iperf('upload', 8),
  iperf('download', 1),
  iperf('download', 8),
  connectOneByOne,
  closedLoop('connect-64', 'connect + echo + close, 64 at once', 'connect', 64, everyone),
  closedLoop('http', 'HTTP keep-alive requests, 32 connections', 'http', 32, everyone),
  udpEcho,
  udpBulk('up'),
  udpBulk('down'),
  crowd,
]

/** The measures asked for: `--only upload` takes all whose name begins so. @throws Error for a name that fits none. */
export function listMeasures({ only, quick }: BenchOptions): Measure[] {
  const fits = (measure: Measure, name: string) => measure.id === name || measure.id.startsWith(`${name}-`)
  const unknown = only.find(name => !all.some(measure => fits(measure, name)))
  if (unknown !== undefined) throw new Error(`--only: ${unknown} is none of ${all.map(({ id }) => id).join(', ')}`)
  if (only.length > 0) return all.filter(measure => only.some(name => fits(measure, name)))
  return all.filter(measure => !quick || !measure.long)
}

/**
 * Starts the contender and returns the milliseconds from the start of its process to the first echo through it.
 * Tries run from before the start, one each 2 ms.
 */
export async function startToFirstEcho(turn: Turn): Promise<number> {
  const { runner } = turn
  const client = turn.topology.start('gateway', [...loadArguments(turn, 'first'), '-t', '15000'])
  const answer = firstLine(client, 20_000)
  answer.catch(() => {})
  await delay(50)
  const startNs = process.hrtime.bigint()
  runner.start()
  const watch = setInterval(() => {
    if (runner.obituary !== undefined) void turn.topology.stop(client)
    else void runner.dress().catch(() => {})
  }, 1000)
  try {
    const { atNs } = JSON.parse((await answer).replace(/\d+/, '"$&"')) as { atNs: string }
    return Number(BigInt(atNs) - startNs) / 1e6
  } catch (error) {
    throw new Error(runner.obituary ?? (error as Error).message)
  } finally {
    clearInterval(watch)
  }
}
