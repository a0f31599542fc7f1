/** What a measure is, and what all of them need: a run of the load program, CPU meanwhile, idle connections beside. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Runner } from './contenders.ts'
import type { BenchOptions } from './options.ts'
import { cpuSeconds } from './processes.ts'
import { destinationOf, firstLine, type Place, PROXY_HOST, PROXY_PORT, type Topology } from './topology.ts'

/** What is wanted of a row: a ratio to the first rival, a ratio to the bound, or a value of its own. */
export interface Goal {
  readonly sign: '≥' | '≤'
  readonly rival?: number
  readonly bound?: number
  readonly own?: number
}

export interface Row {
  readonly id: string
  readonly title: string
  readonly unit: string
  readonly digits: number
  readonly goal?: Goal
  /** A point of a chart, left out of the table. */
  readonly isPoint?: boolean
}

/** What one turn needs. */
export interface Turn {
  readonly runner: Runner
  readonly topology: Topology
  readonly options: BenchOptions
  /** Path of the load program. */
  readonly load: string
}

/** NaN where the contender has no such value, an error where this row alone failed. */
export type Value = number | Error

export interface Measure {
  readonly id: string
  readonly rows: readonly Row[]
  readonly applies: (runner: Runner) => boolean
  /** One value for each row. @throws Error when none of the rows has one. */
  readonly take: (turn: Turn) => Promise<Value[]>
}

/** What the load program answers. */
export type Numbers = Record<string, number>

export const row = (id: string, title: string, unit: string, digits: number, goal?: Goal): Row => ({
  id,
  title,
  unit,
  digits,
  ...(goal && { goal }),
})

export const atLeast = (goal: Omit<Goal, 'sign'>): Goal => ({ sign: '≥', ...goal })
export const atMost = (goal: Omit<Goal, 'sign'>): Goal => ({ sign: '≤', ...goal })

export const everyone = (): boolean => true
export const gateways = ({ contender }: Runner): boolean => contender.way !== 'socks'
export const withUdp = ({ contender }: Runner): boolean => contender.udp
export const gatewaysWithUdp = (runner: Runner): boolean => gateways(runner) && withUdp(runner)

/** Length of a run for a row of the table, in ms. */
export const runMs = ({ options }: Turn): number => Math.round(options.seconds * 1000)
/** Length of a run for a point of a chart, in ms. */
export const pointMs = ({ options }: Turn): number => Math.round(options.seconds * 250)

function loadArguments({ runner, load }: Turn, run: string): string[] {
  const to = [load, run, '-d', destinationOf(runner.contender.index), '-q', PROXY_HOST]
  return runner.contender.way === 'socks' ? [...to, '-s', `${PROXY_HOST}:${PROXY_PORT}`] : to
}

export async function runLoadAt(place: Place, turn: Turn, run: string, ...more: (string | number)[]): Promise<Numbers> {
  const { stdout } = await turn.topology.run(place, [...loadArguments(turn, run), ...more.map(String)])
  return JSON.parse(stdout) as Numbers
}

export const runLoad = (turn: Turn, run: string, ...more: (string | number)[]): Promise<Numbers> =>
  runLoadAt('gateway', turn, run, ...more)

/** Starts a run of the load program that the caller ends. */
export const startLoad = (turn: Turn, run: string, ...more: (string | number)[]) =>
  turn.topology.start('gateway', [...loadArguments(turn, run), ...more.map(String)])

/** Runs `body` and gives the gateway's CPU seconds meanwhile, NaN for the bound, which has no gateway. */
export async function withCpu<T>({ runner }: Turn, body: () => Promise<T>): Promise<[T, number]> {
  const before = runner.pid === undefined ? Number.NaN : cpuSeconds(runner.pid)
  const result = await body()
  return [result, runner.pid === undefined ? Number.NaN : cpuSeconds(runner.pid) - before]
}

const QUIET_SLICE_MS = 200
const QUIET_SHARE = 0.05
const QUIET_SLICES = 2
const QUIET_TIMEOUT_MS = 15_000

/** Waits until gateways and servers have had nothing to do for a while: what a crowd leaves behind is no cost of what follows. */
async function untilQuiet({ topology }: Turn): Promise<void> {
  const deadlineMs = performance.now() + QUIET_TIMEOUT_MS
  let before = cpuSeconds(...topology.pids)
  for (let quiet = 0; quiet < QUIET_SLICES && performance.now() < deadlineMs; ) {
    await delay(QUIET_SLICE_MS)
    const now = cpuSeconds(...topology.pids)
    quiet = (now - before) * 1000 < QUIET_SLICE_MS * QUIET_SHARE ? quiet + 1 : 0
    before = now
  }
}

/** Opens `count` connections, calls `body` while they are idle, closes them and waits until that is over. */
export async function whileIdle<T>(turn: Turn, count: number, body: () => Promise<T>): Promise<T> {
  const child = startLoad(turn, 'idle', '-n', count, '-k', 32)
  try {
    await firstLine(child, 60_000)
    return await body()
  } finally {
    child.stdin?.end()
    await turn.topology.stop(child)
    await untilQuiet(turn)
  }
}
