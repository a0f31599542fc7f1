/** Start and memory, beside those of Node itself. */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { environmentOf } from '../contenders.ts'
import { atMost, row, startLoad, type Turn } from '../measure.ts'
import { residentKib } from '../processes.ts'
import { medianOf } from '../report.ts'
import { firstLine, type Topology } from '../topology.ts'

/** Starts of each contender in a round; the last one stays. */
const STARTS = 3
const SETTLE_MS = 500

export const startRows = [
  row('start', 'start to first echo', 'ms', 0),
  row('start-ratio', 'start to first echo ÷ a bare `node -e 0`', '×', 2, atMost({ own: 2.3 })),
  row('memory', 'memory fresh', 'MiB', 1),
  row('memory-above', 'memory fresh, above a bare node', 'MiB', 1, atMost({ own: 12 })),
] as const
export const memoryAfterRows = [
  row('memory-after', 'memory after all of the above', 'MiB', 1),
  row('memory-after-above', 'memory after all of the above, above a bare node', 'MiB', 1, atMost({ own: 30 })),
] as const

/** What Node itself costs in one round. */
export interface BareNode {
  readonly ms: number
  readonly mib: number
}

/** ms from the start of a `node -e 0` to its end, by the same way as a contender is started. */
export async function bareStartMs(topology: Topology, folder: string): Promise<number> {
  const startNs = process.hrtime.bigint()
  const child = topology.start('gateway', [process.execPath, '-e', '0'], { environment: environmentOf(folder) })
  await once(child, 'exit')
  return Number(process.hrtime.bigint() - startNs) / 1e6
}

/** MiB of a node that does nothing, as long after its start as a contender's is taken. */
export async function bareMemoryMib(topology: Topology, folder: string): Promise<number> {
  const script = 'setInterval(() => {}, 1e6)'
  const child = topology.start('gateway', [process.execPath, '-e', script], { environment: environmentOf(folder) })
  try {
    await delay(SETTLE_MS)
    return residentKib(child.pid!) / 1024
  } finally {
    await topology.stop(child)
  }
}

/**
 * Starts the contender and returns the milliseconds from the start of its process to the first echo through it.
 * Tries run from before the start, one each 2 ms.
 */
async function startToFirstEcho(turn: Turn): Promise<number> {
  const { runner } = turn
  const client = startLoad(turn, 'first', '-t', 15_000)
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

/**
 * Three starts, a Node contender's each behind one of a bare node. The process of the last start stays.
 * @returns the values of `startRows`.
 */
export async function takeStart(turn: Turn, folder: string, bare: BareNode): Promise<number[]> {
  const { runner, topology } = turn
  const starts: number[] = []
  const ratios: number[] = []
  for (let at = 0; at < STARTS; at++) {
    await runner.stop()
    const bareMs = runner.contender.isNode ? await bareStartMs(topology, folder) : Number.NaN
    const ms = await startToFirstEcho(turn)
    starts.push(ms)
    ratios.push(ms / bareMs)
  }
  await delay(SETTLE_MS)
  const mib = residentKib(runner.pid!) / 1024
  const above = runner.contender.isNode ? mib - bare.mib : Number.NaN
  return [medianOf(starts)!, medianOf(ratios)!, mib, above]
}

/** @returns the values of `memoryAfterRows`. */
export function takeMemoryAfter({ runner }: Turn, bare: BareNode): number[] {
  const mib = residentKib(runner.pid!) / 1024
  return [mib, runner.contender.isNode ? mib - bare.mib : Number.NaN]
}
