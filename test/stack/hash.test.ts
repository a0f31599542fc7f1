/** Names that were chosen so that they would share a place in a table, did it not depend on keys that nobody knows. */
import { readFileSync } from 'node:fs'
import test from 'ava'
import { Module } from '../../src/stack/webassembly.ts'
import { METER, meterModule } from '../cost/wasm-meter.ts'
import { Flag, fragments, type Pair, tcp, udp } from '../helpers/packets.ts'
import { pattern, Rig, V6 } from './rig.ts'

const module = new Module(meterModule(readFileSync(new URL('../../../wasm/lwip.wasm', import.meta.url))))
const MANY = 4_096

/** An address of which two bytes are `word`, the low one first. */
function address(word: number): string {
  return `2001:db8:0:1:${(((word & 255) << 8) | (word >> 8)).toString(16)}::7`
}

/** Instructions that a packet costs, where each of `packets` has made an entry: the mean of the oldest ones, sent again. */
function cost(packets: readonly Buffer[]): number {
  const rig = new Rig({ maxFlows: MANY, maxEndpoints: MANY, echo: true }, module)
  const meter = (rig.stack.exports as unknown as Record<string, { value: bigint }>)[METER.instructions]!
  const send = (some: readonly Buffer[]) => {
    for (let at = 0; at < some.length; at += 64) {
      rig.send(some.slice(at, at + 64))
      rig.stack.exports.tg_udp_release()
    }
  }
  send(packets)
  const before = meter.value
  send(packets.slice(0, 64))
  return Number(meter.value - before) / 64
}

const KINDS: Record<string, (pair: Pair, port: number) => Buffer> = {
  'of the destination of TCP': (pair, port) => tcp(pair, { fromPort: 40_000, toPort: port, seq: 1, flags: Flag.syn }),
  'of the source of TCP': ({ from, to }, port) =>
    tcp({ from: to, to: from }, { fromPort: port, toPort: 80, seq: 1, flags: Flag.syn }),
  'of the source of UDP': ({ from, to }, port) => udp({ from: to, to: from }, port, 53, Buffer.from('x')),
}

for (const [name, packet] of Object.entries(KINDS))
  test(`hash: addresses that were chosen by the port do not collide, ${name}`, t => {
    const ports = Array.from({ length: MANY }, (_, at) => at + 1)
    const chosen = cost(ports.map(port => packet({ from: V6.from, to: address(port) }, port)))
    const others = cost(ports.map(port => packet({ from: V6.from, to: address((port * 7_919) & 0xffff) }, port)))
    t.true(chosen < 1.2 * others, `${chosen} instructions a packet, ${others} for other addresses`)
  })

test('hash: addresses that were chosen by the number of the datagram do not collide, of fragments', t => {
  const ids = Array.from({ length: 256 }, (_, at) => at + 1)
  const first = (word: number, id: number) =>
    fragments({ from: `2001:db8:0:1:0:${word.toString(16)}:0:7`, to: V6.from }, 17, pattern(3_000), 1_500, id)[0]!
  const chosen = cost(ids.map(id => first(id, id)))
  const others = cost(ids.map(id => first((id * 7_919) & 0xffff, id)))
  t.true(chosen < 1.2 * others, `${chosen} instructions a fragment, ${others} for other addresses`)
})
