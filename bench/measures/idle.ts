/** Idle connections: what one holds, and what they cost those beside them. */
import { setTimeout as delay } from 'node:timers/promises'
import {
  atMost,
  everyone,
  gateways,
  type Measure,
  pointMs,
  row,
  runMs,
  type Turn,
  type Value,
  whileIdle,
} from '../measure.ts'
import { residentKib } from '../processes.ts'
import { bulkPoint, connectOneByOne } from './tcp.ts'
import { datagramPoint } from './udp.ts'

/** Beside a third as many: the first ones end what the start has left behind, and that is not their memory. */
export const idleConnections: Measure = {
  id: 'idle',
  rows: [row('idle', 'memory per idle connection', 'KiB', 1, atMost({ own: 8 }))],
  applies: gateways,
  take: async turn => {
    const { idle } = turn.options
    const settled = async () => {
      await delay(300)
      return residentKib(turn.runner.pid!)
    }
    return whileIdle(turn, Math.ceil(idle / 3), async () => {
      const before = await settled()
      const after = await whileIdle(turn, idle, settled)
      return [(after - before) / idle]
    })
  },
}

const asValue = (taken: Promise<number>): Promise<Value> =>
  taken.catch(error => (error instanceof Error ? error : new Error(String(error))))

const pointRows = (flows: number) =>
  (
    [
      ['connection', 'connect + echo + close', 'µs each', 0],
      ['datagram', 'UDP up', 'µs each', 1],
      ['byte', 'upload, 1 stream', 's/GB', 3],
    ] as const
  ).map(([what, title, unit, digits]) => ({
    ...row(`beside-${flows}-${what}`, `${title} beside ${flows} idle connections: gateway CPU`, unit, digits),
    isPoint: true,
  }))

/** Cost of a connection, a datagram and a byte, now. */
async function takePoints(turn: Turn): Promise<Value[]> {
  const byte = bulkPoint('', 'upload', 1)
  return [
    await asValue(connectOneByOne(turn, pointMs(turn)).then(([, cpu]) => cpu)),
    turn.runner.contender.udp ? await asValue(datagramPoint(turn)) : Number.NaN,
    await asValue(byte.take(turn).then(([value]) => value as number)),
  ]
}

export function beside(flows: number): Measure {
  return {
    id: `beside-${flows}`,
    rows: pointRows(flows),
    applies: gateways,
    take: turn => whileIdle(turn, flows, () => takePoints(turn)),
  }
}

/** The whole crowd: without, with, without, so that a drift of the machine strikes both sides alike. */
export function crowd(flows: number): Measure {
  const title = `${flows} idle connections`
  return {
    id: 'crowd',
    rows: [
      row('crowd', `connect + echo + close beside ${title}: p50`, 'µs', 0),
      row('crowd-ratio', `p50 beside ${title} ÷ without`, '×', 2, atMost({ own: 1.1 })),
      row('crowd-cpu', `connect + echo + close beside ${title}: gateway CPU`, 'µs each', 0),
      row('crowd-cpu-ratio', `gateway CPU beside ${title} ÷ without`, '×', 2, atMost({ own: 1.1 })),
      ...pointRows(flows),
    ],
    applies: everyone,
    take: async turn => {
      const milliseconds = runMs(turn)
      const [p50Before, cpuBefore] = await connectOneByOne(turn, milliseconds)
      const [p50, cpu, points] = await whileIdle(turn, flows, async () => {
        const result = await connectOneByOne(turn, milliseconds)
        return [...result, gateways(turn.runner) ? await takePoints(turn) : []] as const
      })
      const [p50After, cpuAfter] = await connectOneByOne(turn, milliseconds)
      const ratios = [(2 * p50) / (p50Before + p50After), (2 * cpu) / (cpuBefore + cpuAfter)] as const
      return [p50, ratios[0], cpu, ratios[1], ...points]
    },
  }
}
