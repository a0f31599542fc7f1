/** One seed of border.ts from a fresh stack to a settled one, and what came of it. */
import type { StackOptions } from '../../src/stack/stack.ts'
import { BORDER_OPTIONS, BorderFuzz } from './border.ts'

/** Memory may stay that much above what the stack used after its first packets. */
export const MEMORY_BACK_BYTES = 10 << 20

export interface BorderResult {
  readonly seed: number
  readonly packets: number
  readonly seconds: number
  /** WebAssembly memory that is resident behind the first packets, and behind all. */
  readonly residentBefore: number
  readonly residentAfter: number
  readonly counters: Record<string, number>
  /** Nothing, when all is well. */
  readonly problems: readonly string[]
}

export function fuzzBorder(seed: number, packets: number, options: StackOptions = BORDER_OPTIONS): BorderResult {
  const start = performance.now()
  const fuzz = new BorderFuzz(seed, options)
  const problems: string[] = []
  let residentBefore = 0
  let residentAfter = 0
  try {
    fuzz.serve(50_000)
    fuzz.run(Math.min(packets / 10, 20_000))
    problems.push(...left(fuzz))
    residentBefore = fuzz.residentBytes()
    fuzz.run(packets - fuzz.packets)
    problems.push(...left(fuzz))
    fuzz.serve(50_001)
    problems.push(...left(fuzz))
    residentAfter = fuzz.residentBytes()
    const grown = residentAfter - residentBefore
    if (grown > MEMORY_BACK_BYTES) problems.push(`${grown} bytes of memory are not back`)
  } catch (error) {
    problems.push(`after ${fuzz.packets} packets: ${(error as Error).message}`)
  }
  const seconds = (performance.now() - start) / 1000
  const counters = fuzz.rig.stack.counters()
  return { seed, packets: fuzz.packets, seconds, residentBefore, residentAfter, counters, problems }
}

function left(fuzz: BorderFuzz): string[] {
  const held = Object.entries(fuzz.settle()).filter(([, count]) => count !== 0)
  return held.map(([what, count]) => `${count} ${what} are left`)
}

export function formatResult(result: BorderResult): string {
  const { seed, packets, seconds, residentBefore, residentAfter, problems, counters } = result
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const memory = `memory ${megabytes(residentBefore)} → ${megabytes(residentAfter)}`
  const seen = `${counters.tcp_opened} connections, ${counters.udp_in} datagrams, ${counters.packets_out} packets out`
  const outcome = problems.length === 0 ? 'no trap, nothing left, still serving' : problems.join('; ')
  return `seed ${seed}: ${packets} packets in ${seconds.toFixed(1)} s; ${seen}; ${memory}; ${outcome}`
}
