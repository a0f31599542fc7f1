import test from 'ava'
import { BORDER_OPTIONS } from './border.ts'
import { formatResult, fuzzBorder } from './fuzz-border.ts'

const PACKETS = 100_000

for (const [seed, options] of [
  [11, BORDER_OPTIONS],
  [12, { ...BORDER_OPTIONS, vnetHdr: false, uso: false }],
] as const)
  test(`stack border: ${PACKETS} mutated packets, vnet ${options.vnetHdr}: no trap, nothing left, memory back, served`, t => {
    const result = fuzzBorder(seed, PACKETS, options)
    t.log(formatResult(result))
    t.deepEqual(result.problems, [])
    t.is(result.packets >= PACKETS, true)
    t.true(result.counters.tcp_opened! > 500 && result.counters.udp_in! > 500, 'the packets come past the guard')
  })
