/** Results as numbers, as Markdown and in the docs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { Row } from './measures.ts'

export interface Failure {
  readonly round: number
  readonly row: string
  readonly contender: string
  readonly message: string
}

export interface Report {
  readonly conditions: Readonly<Record<string, string>>
  readonly contenders: readonly { readonly name: string; readonly mtu: number }[]
  readonly reference: string
  readonly rows: readonly Row[]
  /** Value of each round by row and contender; null where that round has none. */
  readonly values: Readonly<Record<string, Readonly<Record<string, readonly (number | null)[]>>>>
  readonly failures: readonly Failure[]
}

/** Middle value; the mean of the two middle ones of an even number; undefined of nothing. */
export function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length % 2 === 1) return sorted[middle]
  return sorted.length === 0 ? undefined : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const numbers = (values: readonly (number | null)[]): number[] => values.filter(value => value !== null)

/** Median of the ratios that each round gives by itself, so that a slow minute strikes both sides of a ratio. */
export function ratioWithinRounds(
  values: readonly (number | null)[],
  base: readonly (number | null)[],
): number | undefined {
  return median(
    values.flatMap((value, round) => {
      const other = base[round] ?? null
      return value === null || other === null || other === 0 ? [] : [value / other]
    }),
  )
}

function table(report: Report, head: string, cell: (row: Row, contender: string) => string): string {
  const names = report.contenders.map(({ name, mtu }) => (name === 'bound' ? name : `${name}, MTU ${mtu}`))
  const lines = [`| ${head} | ${names.join(' | ')} |`, `|---|${names.map(() => '---:|').join('')}`]
  for (const row of report.rows) {
    const cells = report.contenders.map(({ name }) => cell(row, name))
    if (cells.some(text => text !== '–')) lines.push(`| ${row.title}, ${row.unit} | ${cells.join(' | ')} |`)
  }
  return lines.join('\n')
}

function failedRounds(report: Report, row: Row, contender: string): number {
  return report.failures.filter(failure => failure.row === row.id && failure.contender === contender).length
}

export function figures(report: Report): string {
  return table(report, 'median', (row, contender) => {
    const middle = median(numbers(report.values[row.id]?.[contender] ?? []))
    const failed = failedRounds(report, row, contender)
    const failedText = failed === 0 ? '' : `**${failed} failed**`
    if (middle === undefined) return failedText || '–'
    return [middle.toFixed(row.digits), failedText].filter(text => text !== '').join(', ')
  })
}

function ratios(report: Report, base: string): string {
  return table(report, `÷ ${base}`, (row, contender) => {
    const values = report.values[row.id] ?? {}
    const ratio = contender === base ? undefined : ratioWithinRounds(values[contender] ?? [], values[base] ?? [])
    return ratio === undefined ? '–' : `${ratio.toFixed(2)} ×`
  })
}

export function markdown(report: Report): string {
  const has = (name: string) => report.contenders.some(contender => contender.name === name)
  const parts = [
    Object.entries(report.conditions)
      .map(([key, value]) => `- ${key}: ${value}`)
      .join('\n'),
    figures(report),
  ]
  const rounds = 'Ratios are taken within each round; what is shown is their median.'
  if (has('bound')) parts.push(`${rounds} To the bound, a client that speaks SOCKS5 itself:`, ratios(report, 'bound'))
  if (report.reference !== '' && has(report.reference))
    parts.push(`To ${report.reference}:`, ratios(report, report.reference))
  if (report.failures.length > 0)
    parts.push(
      'Failed runs:',
      report.failures
        .map(({ round, row, contender, message }) => `- round ${round}, ${row}, ${contender}: ${message}`)
        .join('\n'),
    )
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
