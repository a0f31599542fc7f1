/** Bulk, connections and requests over TCP. */
import {
  atLeast,
  atMost,
  everyone,
  type Goal,
  gateways,
  type Measure,
  pointMs,
  row,
  runLoad,
  runLoadAt,
  runMs,
  type Turn,
  withCpu,
} from '../measure.ts'
import { destinationOf, type Place } from '../topology.ts'

type Direction = 'upload' | 'download'

const count = (streams: number): string => `${streams} stream${streams > 1 ? 's' : ''}`

/** Gbit/s and CPU seconds for each GB of one run. */
async function move(place: Place, turn: Turn, direction: Direction, ...more: number[]): Promise<[number, number]> {
  const [streams, milliseconds, writeBytes = 0] = more
  const flags = ['-k', streams!, '-t', milliseconds!, '-b', writeBytes]
  const [result, cpu] = await withCpu(turn, () => runLoadAt(place, turn, direction, ...flags))
  const bytes = result.bytes!
  return [(bytes * 8) / result.seconds! / 1e9, cpu / (bytes / 1e9)]
}

export function bulk(direction: Direction, streams: number, rate: Goal, cpu: Goal): Measure {
  const id = `${direction}-${streams}`
  const title = `${direction}, ${count(streams)}`
  return {
    id,
    rows: [row(id, title, 'Gbit/s', 2, rate), row(`${id}-cpu`, `${title}: gateway CPU`, 's/GB', 3, cpu)],
    applies: everyone,
    take: turn => move('gateway', turn, direction, streams, runMs(turn)),
  }
}

/** The same from a client behind the gateway, over a wire of MTU 1500. */
export function forwarded(direction: Direction, streams: number): Measure {
  const id = `forwarded-${direction}-${streams}`
  const title = `${direction} of a forwarded client, ${count(streams)}`
  return {
    id,
    rows: [row(id, title, 'Gbit/s', 2), row(`${id}-cpu`, `${title}: gateway CPU`, 's/GB', 3)],
    // the redirect is made for what the gateway itself sends
    applies: ({ contender }) => contender.way !== 'redirect',
    take: turn => move('client', turn, direction, streams, runMs(turn)),
  }
}

/** Points of charts: cost of a byte by the number of streams, or by the size of a write. */
export function bulkPoint(id: string, direction: Direction, streams: number, writeBytes = 0): Measure {
  const title = `${direction}, ${count(streams)}${writeBytes > 0 ? `, ${writeBytes} bytes a write` : ''}: gateway CPU`
  return {
    id,
    rows: [{ ...row(id, title, 's/GB', 3), isPoint: true }],
    applies: gateways,
    take: async turn => [(await move('gateway', turn, direction, streams, pointMs(turn), writeBytes))[1]],
  }
}

export function iperf(direction: Direction, streams: number): Measure {
  const id = `iperf-${direction}-${streams}`
  return {
    id,
    rows: [row(id, `iperf3 ${direction}, ${count(streams)}`, 'Gbit/s', 2)],
    applies: gateways,
    take: async ({ runner, topology, options }) => {
      const to = [
        '-c',
        destinationOf(runner.contender.index),
        '-t',
        `${Math.ceil(options.seconds)}`,
        '-P',
        `${streams}`,
      ]
      const reverse = direction === 'download' ? ['-R'] : []
      const { stdout } = await topology.run('gateway', ['iperf3', '-J', ...to, ...reverse])
      const report = JSON.parse(stdout) as { error?: string; end: { sum_received: { bits_per_second: number } } }
      if (report.error !== undefined) throw new Error(report.error)
      return [report.end.sum_received.bits_per_second / 1e9]
    },
  }
}

/** p50 in µs and CPU µs each of connections one after the other. */
export async function connectOneByOne(turn: Turn, milliseconds: number): Promise<[number, number]> {
  const [result, cpu] = await withCpu(turn, () => runLoad(turn, 'connect', '-t', milliseconds))
  return [result.p50Us!, (cpu * 1e6) / result.count!]
}

const CONNECTION = 'connect + echo + close'

export const oneByOne: Measure = {
  id: 'connect-1',
  rows: [
    row('connect-1', `${CONNECTION}, one by one: p50`, 'µs', 0, atMost({ rival: 0.9 })),
    row('connect-1-cpu', `${CONNECTION}, one by one: gateway CPU`, 'µs each', 0, atMost({ rival: 1.1 })),
  ],
  applies: everyone,
  take: turn => connectOneByOne(turn, runMs(turn)),
}

/** Rate of a closed loop and the gateway's CPU for each of its turns. */
export function closedLoop(
  id: string,
  title: string,
  run: string,
  parallel: number,
  payloadBytes: number,
  more: Pick<Measure, 'applies'> & { readonly rate: Goal; readonly cpu: Goal },
): Measure {
  return {
    id,
    rows: [row(id, title, 'per s', 0, more.rate), row(`${id}-cpu`, `${title}: gateway CPU`, 'µs each', 1, more.cpu)],
    applies: more.applies,
    take: async turn => {
      const flags = ['-k', parallel, '-t', runMs(turn), '-b', payloadBytes]
      const [result, cpu] = await withCpu(turn, () => runLoad(turn, run, ...flags))
      return [result.count! / result.seconds!, (cpu * 1e6) / result.count!]
    },
  }
}

/** Points of charts: cost of a connection, a request or an exchange by how many run at once, or by its size. */
export function closedLoopPoint(
  id: string,
  title: string,
  run: string,
  parallel: number,
  payloadBytes: number,
  applies: Measure['applies'] = gateways,
): Measure {
  return {
    id,
    rows: [{ ...row(id, `${title}: gateway CPU`, 'µs each', 1), isPoint: true }],
    applies,
    take: async turn => {
      const flags = ['-k', parallel, '-t', pointMs(turn), '-b', payloadBytes]
      const [result, cpu] = await withCpu(turn, () => runLoad(turn, run, ...flags))
      return [(cpu * 1e6) / result.count!]
    },
  }
}

export const atOnce: Measure = closedLoop('connect-64', `${CONNECTION}, 64 at once`, 'connect', 64, 0, {
  applies: everyone,
  rate: atLeast({ rival: 1.1 }),
  cpu: atMost({ rival: 0.85 }),
})

export const http: Measure = closedLoop('http', 'HTTP keep-alive requests, 32 connections', 'http', 32, 0, {
  applies: everyone,
  rate: atLeast({ rival: 1.2 }),
  cpu: atMost({}),
})
