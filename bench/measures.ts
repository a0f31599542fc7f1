/** All measures, in the order in which they are taken, and the points that the charts need beside them. */
import { atLeast, atMost, gateways, type Measure } from './measure.ts'
import { beside, crowd, idleConnections } from './measures/idle.ts'
import { atOnce, bulk, bulkPoint, closedLoopPoint, forwarded, http, iperf, oneByOne } from './measures/tcp.ts'
import { udpBulk, udpCost, udpEcho, udpEchoPoint } from './measures/udp.ts'
import type { BenchOptions } from './options.ts'

/** x of each point that is no row of the table itself. */
export const POINTS = {
  flows: [10, 100, 1000],
  streams: [2, 4, 16, 64],
  connections: [4, 16],
  sockets: [1, 4, 16],
  datagramBytes: [16, 256, 1400, 4000, 9000],
  answerBytes: [64, 1024, 16_384, 65_536, 262_144, 1_048_576],
  writeBytes: [64, 512, 4096, 32_768, 1_048_576],
} as const

const table: readonly Measure[] = [
  idleConnections,
  bulk('upload', 1, atLeast({ rival: 2.4, bound: 0.75 }), atMost({ rival: 0.5 })),
  bulk('upload', 8, atLeast({ rival: 1.8, bound: 0.7 }), atMost({ rival: 0.5 })),
  bulk('download', 1, atLeast({ rival: 4.2, bound: 0.55 }), atMost({ rival: 0.35 })),
  bulk('download', 8, atLeast({ rival: 2.1, bound: 0.55 }), atMost({ rival: 0.35 })),
  forwarded('upload', 1),
  forwarded('upload', 8),
  forwarded('download', 1),
  forwarded('download', 8),
  oneByOne,
  atOnce,
  http,
  udpEcho,
  udpCost('up'),
  udpCost('down'),
]

/** Left out with --quick. */
const long: readonly Measure[] = [udpBulk('up'), udpBulk('down')]

/** Only when named: another program's word on what `upload` and `download` say. */
const named: readonly Measure[] = [iperf('upload', 1), iperf('upload', 8), iperf('download', 1), iperf('download', 8)]

const points: readonly Measure[] = [
  ...POINTS.streams.flatMap(streams => [
    bulkPoint(`streams-${streams}-upload`, 'upload', streams),
    bulkPoint(`streams-${streams}-download`, 'download', streams),
  ]),
  ...POINTS.connections.map(parallel =>
    closedLoopPoint(
      `streams-${parallel}-connect`,
      `connect + echo + close, ${parallel} at once`,
      'connect',
      parallel,
      0,
    ),
  ),
  ...POINTS.sockets.map(sockets => udpEchoPoint(`streams-${sockets}-udp`, sockets, 64)),
  ...POINTS.datagramBytes.map(bytes => udpEchoPoint(`payload-${bytes}-udp`, 64, bytes)),
  ...POINTS.answerBytes.map(bytes =>
    closedLoopPoint(
      `payload-${bytes}-http`,
      `HTTP requests, 8 connections, ${bytes} bytes`,
      'http',
      8,
      bytes,
      gateways,
    ),
  ),
  ...POINTS.writeBytes.map(bytes => bulkPoint(`payload-${bytes}-upload`, 'upload', 1, bytes)),
]

/**
 * The measures asked for: `--only upload` takes all whose name begins so. The crowd comes last, for what it leaves behind
 * would count as the memory of others. @throws Error for a name that fits none.
 */
export function listMeasures(options: Pick<BenchOptions, 'only' | 'quick' | 'crowd'>): Measure[] {
  const { only, quick } = options
  const flows = POINTS.flows.filter(count => count < options.crowd).map(beside)
  const full = [...table, ...long, ...points, ...flows, crowd(options.crowd)]
  const all = [...full, ...named]
  const fits = (measure: Measure, name: string) => measure.id === name || measure.id.startsWith(`${name}-`)
  const unknown = only.find(name => !all.some(measure => fits(measure, name)))
  if (unknown !== undefined) throw new Error(`--only: ${unknown} is none of ${all.map(({ id }) => id).join(', ')}`)
  if (only.length > 0) return all.filter(measure => only.some(name => fits(measure, name)))
  return quick ? [...table, crowd(options.crowd)] : full
}
