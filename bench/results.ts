/** All that is collected while the rounds run. */
import type { Row, Value } from './measure.ts'
import type { BareNode } from './measures/start.ts'
import type { Failure } from './report.ts'

export class Results {
  /** By row and contender, a value for each round; null where a round has none. */
  readonly values: Record<string, Record<string, (number | null)[]>> = {}
  readonly failures: Failure[] = []
  readonly rows: Row[] = []
  readonly bareNode: BareNode[] = []
  /** Set by a signal: what fails from then on fails because everything is being ended. */
  isStopping = false

  add(round: number, rows: readonly Row[], contender: string, values: readonly Value[]): void {
    for (const [at, row] of rows.entries()) {
      const value = values[at] ?? Number.NaN
      if (value instanceof Error) this.fail(round, [row], contender, value)
      else this.#put(round, row, contender, value)
    }
  }

  fail(round: number, rows: readonly Row[], contender: string, error: unknown): void {
    if (this.isStopping) return
    const message = error instanceof Error ? error.message : String(error)
    for (const row of rows) {
      this.#put(round, row, contender, Number.NaN)
      this.failures.push({ round, row: row.id, contender, message })
    }
  }

  #put(round: number, row: Row, contender: string, value: number): void {
    if (!this.rows.some(({ id }) => id === row.id)) this.rows.push(row)
    const byRow = this.values[row.id] ?? {}
    const rounds = byRow[contender] ?? []
    this.values[row.id] = byRow
    byRow[contender] = rounds
    while (rounds.length < round - 1) rounds.push(null)
    rounds[round - 1] = Number.isFinite(value) ? value : null
  }
}
