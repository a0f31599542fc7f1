/** Results as numbers, as Markdown and in the docs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Goal, Row } from './measure.ts'

export interface Failure {
  readonly round: number
  readonly row: string
  readonly contender: string
  readonly message: string
}

export interface ReportContender {
  readonly name: string
  /** Its name in tables. */
  readonly label: string
  readonly isRival: boolean
}

export interface Report {
  readonly conditions: Readonly<Record<string, string>>
  /** The first is the one whose ratios to the others are taken. */
  readonly contenders: readonly ReportContender[]
  readonly rows: readonly Row[]
  /** Value of each round by row and contender; null where that round has none. */
  readonly values: Readonly<Record<string, Readonly<Record<string, readonly (number | null)[]>>>>
  readonly failures: readonly Failure[]
}

/** Middle value; the mean of the two middle ones of an even number; undefined of nothing. */
export function medianOf(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length % 2 === 1) return sorted[middle]
  return sorted.length === 0 ? undefined : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const numbers = (values: readonly (number | null)[]): number[] => values.filter(value => value !== null)

/** Median of the ratios that each round gives by itself, so that a slow minute strikes both sides of a ratio. */
export function ratioWithinRounds(
  values: readonly (number | null)[],
  base: readonly (number | null)[],
): number | undefined {
  return medianOf(
    values.flatMap((value, round) => {
      const other = base[round] ?? null
      return value === null || other === null || other === 0 ? [] : [value / other]
    }),
  )
}

function failedRounds(report: Report, row: Row, contender: string): number {
  return report.failures.filter(failure => failure.row === row.id && failure.contender === contender).length
}

function missed(goal: Goal | undefined, wanted: number | undefined, value: number): boolean {
  if (goal === undefined || wanted === undefined) return false
  return goal.sign === '≥' ? value < wanted : value > wanted
}

const emphasize = (text: string, isMissed: boolean): string => (isMissed ? `**${text}**` : text)

function figure(report: Report, row: Row, at: number): string {
  const { name } = report.contenders[at]!
  const middle = medianOf(numbers(report.values[row.id]?.[name] ?? []))
  const failed = failedRounds(report, row, name)
  const failedText = failed === 0 ? '' : `${failed} failed`
  if (middle === undefined) return failedText || '–'
  const text = emphasize(middle.toFixed(row.digits), at === 0 && missed(row.goal, row.goal?.own, middle))
  return failedText === '' ? text : `${text}, ${failedText}`
}

function ratio(report: Report, row: Row, base: ReportContender, firstRival: ReportContender | undefined): string {
  if (row.unit === '×') return '–'
  const values = report.values[row.id] ?? {}
  const value = ratioWithinRounds(values[report.contenders[0]!.name] ?? [], values[base.name] ?? [])
  if (value === undefined) return '–'
  const wanted = base.name === 'bound' ? row.goal?.bound : base === firstRival ? row.goal?.rival : undefined
  return emphasize(`${value.toFixed(2)} ×`, missed(row.goal, wanted, value))
}

function goalText({ goal, unit }: Row, firstRival: ReportContender | undefined): string {
  if (goal === undefined) return ''
  const parts: string[] = []
  if (goal.rival !== undefined) parts.push(`${goal.sign} ${goal.rival} × ${firstRival?.name ?? 'rival'}`)
  if (goal.bound !== undefined) parts.push(`${goal.sign} ${goal.bound} × bound`)
  if (goal.own !== undefined) parts.push(`${goal.sign} ${goal.own} ${unit}`)
  return parts.join(', ')
}

/** One line for each thing that a user feels: everybody's median, the first one's ratio to each other, the goal. */
export function table(report: Report): string {
  const [first, ...others] = report.contenders
  const firstRival = others.find(({ isRival }) => isRival)
  const heads = ['', ...report.contenders.map(({ label }) => label), ...others.map(({ name }) => `÷ ${name}`), 'goal']
  const lines = [`| ${heads.join(' | ')} |`, `|---|${'---:|'.repeat(heads.length - 2)}---|`]
  for (const row of report.rows.filter(({ isPoint }) => !isPoint)) {
    const cells = report.contenders.map((_, at) => figure(report, row, at))
    if (cells.every(text => text === '–')) continue
    cells.push(...others.map(base => ratio(report, row, base, firstRival)), goalText(row, firstRival))
    lines.push(`| ${row.title}, ${row.unit} | ${cells.join(' | ')} |`)
  }
  if (first === undefined) throw new Error('a table of nobody')
  return lines.join('\n')
}

/** One line for each error of a contender, with the rows and rounds that it struck. */
function failureLines(failures: readonly Failure[]): string {
  const groups = new Map<string, { readonly rows: Set<string>; readonly rounds: Set<number> }>()
  for (const { round, row, contender, message } of failures) {
    const key = `${contender}: ${message}`
    const group = groups.get(key) ?? { rows: new Set(), rounds: new Set() }
    groups.set(key, group)
    group.rows.add(row)
    group.rounds.add(round)
  }
  return [...groups]
    .map(([key, { rows, rounds }]) => `- ${key} (${[...rows].join(', ')}; round ${[...rounds].join(', ')})`)
    .join('\n')
}

export function markdown(report: Report): string {
  const { name } = report.contenders[0]!
  const parts = [
    Object.entries(report.conditions)
      .map(([key, value]) => `- ${key}: ${value}`)
      .join('\n'),
    table(report),
    `Medians of the rounds. \`÷\`: ${name}'s figure through the other's, taken within each round, then the median. The bound is ` +
      'a client that speaks SOCKS5 itself. **Bold**: behind the goal.',
  ]
  if (report.failures.length > 0) parts.push('Failed runs:', failureLines(report.failures))
  return `${parts.join('\n\n')}\n`
}

const BEGIN = '<!-- bench:begin -->'
const END = '<!-- bench:end -->'

/** Puts `text` between the markers of `file`, or makes the file. @throws Error when only one marker is there. */
export function writeBetweenMarkers(file: string, text: string): void {
  const old = existsSync(file) ? readFileSync(file, 'utf8') : `# Benchmarks\n\n${BEGIN}\n${END}\n`
  const [begin, end] = [old.indexOf(BEGIN), old.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error(`${file}: ${BEGIN} and ${END} are wanted in this order`)
  writeFileSync(file, `${old.slice(0, begin + BEGIN.length)}\n${text}${old.slice(end)}`)
}
