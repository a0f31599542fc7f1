/** The charts: which rows are their points, and how they become files and lines of the docs. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { POINTS } from './measures.ts'
import { medianOf, numbers, type Report } from './report.ts'
import { type Chart, drawChart, type Series } from './svg.ts'

export interface ChartPlan {
  readonly file: string
  readonly title: string
  readonly x: string
  readonly y: string
  /** x and the row whose values stand there, ascending. */
  readonly points: readonly (readonly [number, string])[]
  readonly tick: (x: number) => string
}

const plain = (x: number): string => x.toLocaleString('en-US')
const bytes = (x: number): string =>
  x >= 2 ** 20 ? `${x / 2 ** 20} MiB` : x >= 1024 && x % 1024 === 0 ? `${x / 1024} KiB` : plain(x)

const PER_CONNECTION = 'gateway CPU, µs a connection'
const PER_BYTE = 'gateway CPU, s/GB'
const PER_EXCHANGE = 'gateway CPU, µs an exchange'

const byX = (a: readonly [number, string], b: readonly [number, string]): number => a[0] - b[0]

function planOf(
  file: string,
  title: string,
  x: string,
  y: string,
  points: readonly (readonly [number, string])[],
  tick: (x: number) => string = plain,
): ChartPlan {
  return { file, title, x, y, points: [...points].sort(byX), tick }
}

/** `crowd`: idle connections of the largest point. */
export function planCharts(crowd: number): ChartPlan[] {
  const beside = (what: string) =>
    [...POINTS.flows.filter(flows => flows < crowd), crowd].map(flows => [flows, `beside-${flows}-${what}`] as const)
  const streams = (direction: string) => [
    [1, `${direction}-1-cpu`] as const,
    [8, `${direction}-8-cpu`] as const,
    ...POINTS.streams.map(count => [count, `streams-${count}-${direction}`] as const),
  ]
  const idle = 'idle connections beside'
  return [
    planOf('connection-by-flows', 'A connection beside idle ones', idle, PER_CONNECTION, beside('connection')),
    planOf(
      'datagram-by-flows',
      'A datagram beside idle connections',
      idle,
      'gateway CPU, µs a datagram',
      beside('datagram'),
    ),
    planOf('byte-by-flows', 'A GB uploaded beside idle connections', idle, PER_BYTE, beside('byte')),
    planOf(
      'connection-by-parallel',
      'A connection by how many are opened at once',
      'connections at once',
      PER_CONNECTION,
      [
        [1, 'connect-1-cpu'],
        [64, 'connect-64-cpu'],
        ...POINTS.connections.map(count => [count, `streams-${count}-connect`] as const),
      ],
    ),
    planOf('exchange-by-sockets', 'A UDP exchange of 64 bytes by the number of sockets', 'sockets', PER_EXCHANGE, [
      [64, 'udp-echo-cpu'],
      ...POINTS.sockets.map(count => [count, `streams-${count}-udp`] as const),
    ]),
    planOf('upload-by-streams', 'A GB uploaded by the number of streams', 'streams', PER_BYTE, streams('upload')),
    planOf('download-by-streams', 'A GB downloaded by the number of streams', 'streams', PER_BYTE, streams('download')),
    planOf('exchange-by-payload', 'A UDP exchange by its size, 64 sockets', 'bytes of payload', PER_EXCHANGE, [
      [64, 'udp-echo-cpu'],
      ...POINTS.datagramBytes.map(size => [size, `payload-${size}-udp`] as const),
    ]),
    planOf(
      'request-by-answer',
      'An HTTP request by the size of its answer, 8 connections',
      'bytes of the answer',
      'gateway CPU, µs a request',
      POINTS.answerBytes.map(size => [size, `payload-${size}-http`] as const),
      bytes,
    ),
    planOf(
      'byte-by-write',
      'A GB uploaded by the size of the client’s writes',
      'bytes of a write',
      PER_BYTE,
      [[131_072, 'upload-1-cpu'], ...POINTS.writeBytes.map(size => [size, `payload-${size}-upload`] as const)],
      bytes,
    ),
  ]
}

function seriesOf(plan: ChartPlan, report: Report, name: string, label: string): Series {
  const taken = plan.points.map(([x, id]) => ({ x, values: numbers(report.values[id]?.[name] ?? []) }))
  const failed = (id: string) => report.failures.some(({ row, contender }) => row === id && contender === name)
  return {
    name: label,
    points: taken.flatMap(({ x, values }) =>
      values.length === 0
        ? []
        : [{ x, median: medianOf(values)!, least: Math.min(...values), most: Math.max(...values) }],
    ),
    missing: plan.points.flatMap(([x, id], at) => (taken[at]!.values.length === 0 && failed(id) ? [x] : [])),
  }
}

/** The chart with everyone who has a point or a failure in it. */
export function chartOf(plan: ChartPlan, report: Report): Chart {
  const { title, x, y, points, tick } = plan
  return {
    title,
    x,
    y,
    ticks: points.map(([value]) => [value, tick(value)] as const),
    series: report.contenders
      .map(({ name, label }) => seriesOf(plan, report, name, label))
      .filter(series => series.points.length + series.missing.length > 0),
  }
}

/** Writes each chart into `folder` of `docs`; @returns the lines that show them. */
export function writeCharts(docs: string, report: Report, crowd: number): string {
  mkdirSync(join(docs, 'charts'), { recursive: true })
  const lines = planCharts(crowd).map(plan => {
    writeFileSync(join(docs, 'charts', `${plan.file}.svg`), drawChart(chartOf(plan, report)))
    return `![${plan.title}](charts/${plan.file}.svg)`
  })
  return `${lines.join('\n\n')}\n`
}
