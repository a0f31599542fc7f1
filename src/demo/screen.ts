/** What the demo prints: a line for each step, alive while the step runs on a terminal, and the table at the end. */
import type { WriteStream } from 'node:tty'

const REDRAW_MS = 100
const TITLE_WIDTH = 34

export class Screen {
  readonly #stream: NodeJS.WriteStream
  #timer: NodeJS.Timeout | undefined

  constructor(stream: WriteStream | NodeJS.WriteStream) {
    this.#stream = stream as NodeJS.WriteStream
  }

  line(text: string): void {
    this.#stream.write(`${text}\n`)
  }

  /** `figure` is asked for again and again, on a terminal only. */
  begin(title: string, figure: () => string): void {
    if (!this.#stream.isTTY) return
    const draw = () => this.#stream.write(`\r\x1b[2K  … ${title.padEnd(TITLE_WIDTH)}${figure()}`)
    draw()
    this.#timer = setInterval(draw, REDRAW_MS)
  }

  /** Ends the line that was begun; the one for good takes its place. */
  end(mark: '✓' | '✗', title: string, text: string): void {
    this.stop()
    this.line(`  ${mark} ${title.padEnd(TITLE_WIDTH)}${text}`)
  }

  /** Takes the unfinished line away. */
  stop(): void {
    if (this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#stream.write('\r\x1b[2K')
  }
}

/** 3 significant digits: `537 MB`, `118 B`. Powers of 1000. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`
}

export function formatRate(bytes: number, seconds: number): string {
  return `${((bytes * 8) / seconds / 1e9).toFixed(2)} Gbit/s`
}

/** Columns as wide as they must be; the first and the last to the left, the others to the right. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, at) => (at === 0 || at === row.length - 1 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
      .join('  ')
      .trimEnd()
  const rule = widths.map(width => '─'.repeat(width)).join('──')
  const [head, ...body] = rows.map(line)
  return [head, rule, ...body].join('\n')
}
