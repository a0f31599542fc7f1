/** Clients that nobody has heard of, for the tests of the bounds on dials. */
import { Flag, type Pair } from '../helpers/packets.ts'
import { Client, type Rig, V4 } from './rig.ts'

export const ROOM = { maxFlows: 20_000, maxEndpoints: 1_000 }
/** TG_MAX_KNOWN */
export const MAX_KNOWN = 4_096

export const sourceOf = (number: number): Pair => ({
  ...V4,
  from: `20.${number >> 16}.${(number >> 8) & 255}.${number & 255}`,
})

/** A connection of this source, opened and ended: afterwards it is known. */
export function connects(rig: Rig, pair: Pair): void {
  new Client(rig, pair, 30_000).open().close()
  rig.tick(1_100) // TIME_WAIT
}

/** SYNs of sources `from` … `to` that nobody has heard of. */
export function flood(rig: Rig, from: number, to: number): void {
  for (let number = from; number < to; number++) new Client(rig, sourceOf(number)).send(Flag.syn, { ack: 0 })
}

export function isHeld(rig: Rig, client: Client): boolean {
  client.send(Flag.syn, { ack: 0 })
  const [id] = [...rig.flows.keys()].filter(key => portOf(rig, key) === client.port)
  return id !== undefined && rig.state(id) === rig.stack.abi.stateHeld
}

function portOf(rig: Rig, id: number): number {
  const { abi, words } = rig.stack
  return words[(abi.flows + id * abi.flowBytes + abi.flowClientPort) / 4]!
}

export function releaseAll(rig: Rig): void {
  for (const id of rig.flows.keys()) rig.tell('release', id)
}

export function pass(rig: Rig, ms: number): void {
  rig.now += ms
  rig.stack.exports.tg_set_now(rig.now)
}
