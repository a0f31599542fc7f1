/** Datagrams: echo, the highest rate, and the cost at a fixed one. */
import {
  atLeast,
  atMost,
  gatewaysWithUdp,
  type Measure,
  pointMs,
  row,
  runLoad,
  runMs,
  type Turn,
  withCpu,
  withUdp,
} from '../measure.ts'
import { highestRate } from '../search.ts'
import { closedLoop, closedLoopPoint } from './tcp.ts'

const PAYLOAD_BYTES = 1400
const MAX_LOSS = 0.005
const FIXED_MEGABITS = 200
/** Length of one run of the search, in ms. */
const SEARCH_MS = 500

export const udpEcho: Measure = closedLoop('udp-echo', 'UDP echo, 64 sockets, 64 bytes', 'udp-echo', 64, 64, {
  applies: withUdp,
  rate: atLeast({ rival: 1.2 }),
  cpu: atMost({ rival: 1 }),
})

export const udpEchoPoint = (id: string, sockets: number, payloadBytes: number): Measure =>
  closedLoopPoint(
    id,
    `UDP echo, ${sockets} socket${sockets > 1 ? 's' : ''}, ${payloadBytes} bytes`,
    'udp-echo',
    sockets,
    payloadBytes,
    gatewaysWithUdp,
  )

/** The highest rate at which no more than 0.5 % is lost. */
export function udpBulk(direction: 'up' | 'down'): Measure {
  const id = `udp-bulk-${direction}`
  const title = `UDP bulk ${direction}, ${PAYLOAD_BYTES} bytes, at most 0.5 % lost`
  return {
    id,
    rows: [row(id, title, 'Gbit/s', 2, atLeast({ rival: 2 }))],
    applies: withUdp,
    take: async turn => {
      const best = await highestRate(async rate => {
        const flags = ['-r', rate, '-t', SEARCH_MS, '-b', PAYLOAD_BYTES]
        const result = await runLoad(turn, `udp-${direction}`, ...flags)
        const goodput = (result.bytes! * 8) / result.seconds! / 1e6
        const kept = result.received! >= result.sent! * (1 - MAX_LOSS) && goodput >= rate * 0.9
        return kept ? goodput : undefined
      })
      if (best === 0) throw new Error('more than 0.5 % lost even at the lowest rate')
      return [best / 1000]
    },
  }
}

/** CPU µs for each datagram that arrived, at a rate that everybody takes. */
export async function datagramCost(turn: Turn, direction: 'up' | 'down', milliseconds: number): Promise<number> {
  const flags = ['-r', FIXED_MEGABITS, '-t', milliseconds, '-b', PAYLOAD_BYTES]
  const [result, cpu] = await withCpu(turn, () => runLoad(turn, `udp-${direction}`, ...flags))
  return (cpu * 1e6) / result.received!
}

export function udpCost(direction: 'up' | 'down'): Measure {
  const id = `udp-cost-${direction}`
  return {
    id,
    rows: [row(id, `UDP ${direction}, ${PAYLOAD_BYTES} bytes at ${FIXED_MEGABITS} Mbit/s: gateway CPU`, 'µs each', 1)],
    applies: gatewaysWithUdp,
    take: async turn => [await datagramCost(turn, direction, runMs(turn))],
  }
}

export const datagramPoint = (turn: Turn): Promise<number> => datagramCost(turn, 'up', pointMs(turn))
