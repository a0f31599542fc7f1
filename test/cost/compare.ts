/** Costs against the recorded base. */
import type { Made, Measured } from './run-measure.ts'

export const IDLE_FLOWS = 10_000

/** The name of an operation when it is done beside idle flows. */
export function besideIdle(operation: string): string {
  return `${operation}, beside ${IDLE_FLOWS} idle flows`
}

/** How far a count may be from its base, as a share of it. System calls and calls between the languages are nearly exact. */
const TOLERANCE: Readonly<Record<string, number>> = {
  'wasm instructions': 0.05,
  'wasm bytes moved': 0.05,
  'wasm calls': 0.02,
  'js calls': 0.02,
  'js tokens': 0.05,
  'heap bytes': 0.1,
  'system calls': 0.02,
}
/** Heap grows by 8 bytes at least, and a cache that fills up is no regression. */
const HEAP_SLACK_BYTES = 64
/** What idle flows beside may add to the cost of an operation. */
const IDLE_TOLERANCE = 0.1
/** What each timer does for each flow: dearer with more of them, and not paid by an operation. */
const PER_FLOW = ['tick and sweep']

const RENEW = 'make cost-base'

export interface Comparison {
  /** One line for each count that left its tolerance. */
  readonly failures: readonly string[]
  /** What could not be compared, and why. */
  readonly notes: readonly string[]
}

export function compare(base: Measured, found: Measured): Comparison {
  const { notes, isComparable } = comparable(base.made, found.made)
  const failures: string[] = []
  for (const operation of union(base.operations, found.operations)) {
    const before = base.operations[operation]
    const now = found.operations[operation]
    if (before === undefined) failures.push(`${operation}: the base does not have it`)
    else if (now === undefined) failures.push(`${operation}: it is in the base, and was not measured`)
    else {
      for (const name of union(before, now)) {
        if (!isComparable(name)) continue
        const wrong = judge(name, before[name] ?? 0, now[name] ?? 0)
        if (wrong !== undefined) failures.push(`${operation}: ${wrong}`)
      }
    }
  }
  return { failures, notes }
}

/** Of each count that which is nearer to the base. Both were measured alike. */
export function nearer(base: Measured, one: Measured, other: Measured): Measured {
  const operations = Object.entries(one.operations).map(([operation, counts]) => {
    const others = other.operations[operation] ?? {}
    const chosen = union(counts, others).map(name => {
      const [now, then, was] = [counts[name] ?? 0, others[name] ?? 0, base.operations[operation]?.[name] ?? 0]
      return [name, Math.abs(now - was) <= Math.abs(then - was) ? now : then] as const
    })
    return [operation, Object.fromEntries(chosen)] as const
  })
  return { made: one.made, operations: Object.fromEntries(operations) }
}

/** Instructions depend on the compiler, heap and what V8 counts on Node. */
function comparable(base: Made, found: Made): { notes: string[]; isComparable: (name: string) => boolean } {
  const skipped: string[] = []
  const notes: string[] = []
  const compareOnlySame = (what: string, was: string, is: string, prefixes: string[]) => {
    if (was === is) return
    skipped.push(...prefixes)
    notes.push(`not compared: ${prefixes.join(', ')}: the base was recorded with ${what} ${was}, this is ${is}`)
  }
  const compiled = ['wasm instructions', 'wasm bytes moved']
  compareOnlySame('clang', base.clang, found.clang, compiled)
  compareOnlySame('lwIP', base.lwip, found.lwip, compiled)
  compareOnlySame('Node.js', base.node, found.node, ['js calls', 'js tokens', 'heap bytes'])
  return { notes, isComparable: name => !skipped.includes(name) }
}

/** What is wrong with a count; undefined when it is near enough. */
function judge(name: string, base: number, found: number): string | undefined {
  const share = TOLERANCE[name] ?? TOLERANCE['system calls']!
  const slack = name === 'heap bytes' ? HEAP_SLACK_BYTES : 0
  if (Math.abs(found - base) <= base * share + slack) return undefined
  const change = base === 0 ? 'new' : `${found > base ? '+' : ''}${((found / base - 1) * 100).toFixed(1)} %`
  const advice = found > base ? 'dearer' : 'cheaper: renew the base, so that it stays so'
  return `${name}: base ${base}, found ${found} (${change}, tolerance ±${share * 100} %): ${advice}`
}

/** Operations that cost more beside idle flows than they may, or than the base says that they do. */
export function compareBesideIdle(base: Measured | undefined, found: Measured): string[] {
  const failures: string[] = []
  for (const [operation, alone] of Object.entries(found.operations)) {
    const beside = found.operations[besideIdle(operation)]
    if (beside === undefined || PER_FLOW.includes(operation)) continue
    const known = base?.operations[operation] ?? {}
    const knownBeside = base?.operations[besideIdle(operation)] ?? {}
    for (const name of union(alone, beside)) {
      const slack = name === 'heap bytes' ? HEAP_SLACK_BYTES : 0
      const limit = Math.max(1 + IDLE_TOLERANCE, ratio(known[name], knownBeside[name]) * (1 + (TOLERANCE[name] ?? 0)))
      const dearer = ratio(alone[name], beside[name])
      if (dearer <= limit || (beside[name] ?? 0) - (alone[name] ?? 0) <= slack) continue
      failures.push(
        `${besideIdle(operation)}: ${name}: alone ${alone[name] ?? 0}, beside ${beside[name]}: ${dearer.toFixed(2)} times, at most ${limit.toFixed(2)}`,
      )
    }
  }
  return failures
}

function ratio(alone = 0, beside = 0): number {
  if (alone === 0) return beside === 0 ? 1 : Number.POSITIVE_INFINITY
  return beside / alone
}

function union(one: object, other: object): string[] {
  return [...new Set([...Object.keys(one), ...Object.keys(other)])]
}

/** For people: what to do about failures. */
export function describe(failures: readonly string[]): string {
  return [
    'costs are not what the base says:',
    ...failures.map(line => `  ${line}`),
    `If this is meant, record them with \`${RENEW}\`, and say why in the commit.`,
  ].join('\n')
}
