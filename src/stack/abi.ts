/**
 * The border to wasm/lwip.wasm: what it exports, and where its tables lie. Numbers come from the module itself
 * (wasm/src/abi.c), so nothing is typed twice; test/stack/abi.test.ts compares both sides.
 */
import type { Memory } from './webassembly.ts'

export interface Exports {
  readonly memory: Memory
  _initialize(): void
  tg_abi(): number
  tg_counter_names(): number
  tg_seed(): number
  tg_init(
    mtu: number,
    vnet: number,
    uso: number,
    echo: number,
    flows: number,
    endpoints: number,
    keepAliveMs: number,
  ): void
  tg_set_now(ms: number): void
  tg_tick(ms: number): number
  tg_hurry(ms: number): void
  tg_trap_reason(): number
  tg_prepare(): number
  tg_ingress(from: number, count: number): number
  tg_egress_done(): void
  tg_next_event(): number
  tg_tcp_accept(id: number): void
  tg_tcp_refuse(id: number, answer: number): void
  tg_tcp_peek(id: number): number
  tg_tcp_consume(id: number, bytes: number): void
  tg_tcp_reserve(id: number): number
  tg_tcp_commit(id: number, bytes: number): void
  tg_tcp_finish(id: number): void
  tg_tcp_abort(id: number): void
  tg_tcp_release(id: number): void
  tg_own_address(family: number, address: number): void
  tg_udp_send(endpoint: number, family: number, source: number, port: number, payload: number, length: number): number
  tg_udp_refuse(endpoint: number, dest: number, port: number, answer: number): void
  tg_udp_release(): void
  tg_udp_forget(endpoint: number): void
  tg_udp_dial(endpoint: number): number
  tg_udp_dial_end(endpoint: number): void
  tg_limit_dials(all: number, perSource: number): void
  tg_dials(): number
  tg_flows_used(): number
  tg_endpoints_used(): number
  tg_pcbs(): number
  tg_receive_held(): number
  tg_fragments_held(): number
  tg_out_of_order_held(): number
  tg_spans_held(): number
  tg_send_used(): number
  tg_memory_size(): number
  tg_memory_used(): number
  tg_trim(): number
  tg_orphans(from: number): number
  tg_orphans_adopt(): void
}

/** Every function that `Exports` names: WebAssembly.Module.exports() must have exactly these and `memory`. */
export const EXPORT_NAMES = [
  '_initialize',
  'tg_abi',
  'tg_counter_names',
  'tg_seed',
  'tg_init',
  'tg_set_now',
  'tg_tick',
  'tg_hurry',
  'tg_trap_reason',
  'tg_prepare',
  'tg_ingress',
  'tg_egress_done',
  'tg_next_event',
  'tg_tcp_accept',
  'tg_tcp_refuse',
  'tg_tcp_peek',
  'tg_tcp_consume',
  'tg_tcp_reserve',
  'tg_tcp_commit',
  'tg_tcp_finish',
  'tg_tcp_abort',
  'tg_tcp_release',
  'tg_own_address',
  'tg_udp_send',
  'tg_udp_refuse',
  'tg_udp_release',
  'tg_udp_forget',
  'tg_udp_dial',
  'tg_udp_dial_end',
  'tg_limit_dials',
  'tg_dials',
  'tg_flows_used',
  'tg_endpoints_used',
  'tg_pcbs',
  'tg_receive_held',
  'tg_fragments_held',
  'tg_out_of_order_held',
  'tg_spans_held',
  'tg_send_used',
  'tg_memory_size',
  'tg_memory_used',
  'tg_trim',
  'tg_orphans',
  'tg_orphans_adopt',
] as const satisfies readonly (keyof Exports)[]

export const CONSTANT_NAMES = [
  'maxFlows',
  'maxEndpoints',
  'seedBytes',
  'slots',
  'slotBytes',
  'landingSlots',
  'landingBytes',
  'headerRoom',
  'tickMs',
  'hurryMs',
  'reorderTimers',
  'stateHeld',
  'stateOpening',
  'stateOpen',
  'eventSyn',
  'eventOpen',
  'eventData',
  'eventFin',
  'eventRoom',
  'eventGone',
  'errorNone',
  'errorReset',
  'errorTimeout',
  'errorAborted',
  'errorMemory',
  'errorDisplaced',
  'answerReset',
  'answerNetUnreachable',
  'answerHostUnreachable',
  'answerProhibited',
  'answerPortUnreachable',
  'answerSilence',
  'flows',
  'flowBytes',
  'flowState',
  'flowFamily',
  'flowClientPort',
  'flowDestPort',
  'flowClient',
  'flowDest',
  'flowRxBytes',
  'flowError',
  'eventBits',
  'endpoints',
  'endpointBytes',
  'endpointFamily',
  'endpointPort',
  'endpointUsed',
  'endpointAddress',
  'endpointStranger',
  'datagrams',
  'datagramBytes',
  'datagramCount',
  'datagramEndpoint',
  'datagramFamily',
  'datagramDestPort',
  'datagramLength',
  'datagramDest',
  'datagramHeader',
  'datagramFirstIovec',
  'datagramIovecs',
  'messages',
  'messageBytes',
  'iovecs',
  'iovecBytes',
  'slotTable',
  'landingTable',
  'landed',
  'egress',
  'egressPackets',
  'egressIovecs',
  'scratch',
  'scratchBytes',
  'counters',
] as const

export type Abi = { readonly [name in (typeof CONSTANT_NAMES)[number]]: number }

/** Reads the module's table of constants. Throws when it lacks a name. */
export function readAbi(exports: Exports): Abi {
  const words = new Uint32Array(exports.memory.buffer)
  const found: Record<string, number> = {}
  for (let row = exports.tg_abi() / 4; words[row] !== 0; row += 2) {
    found[readText(exports.memory.buffer, words[row]!)] = words[row + 1]!
  }
  const missing = CONSTANT_NAMES.filter(name => found[name] === undefined)
  if (missing.length > 0) throw new Error(`lwip.wasm lacks ${missing.join(', ')}: build it again (make build)`)
  return found as Abi
}

/** The zero-terminated ASCII text at `offset`. */
export function readText(memory: ArrayBuffer, offset: number): string {
  const bytes = new Uint8Array(memory, offset)
  return Buffer.from(memory, offset, bytes.indexOf(0)).toString('latin1')
}
