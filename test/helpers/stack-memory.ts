/**
 * The stacks' memory of another process, by /proc/PID/mem (proc(5)): what a stray write would do to lwIP, done from
 * outside to a program that knows nothing of it. Needs the rights of ptrace(2).
 */
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { Stack } from '../../src/stack/stack.ts'

const OPTIONS = { mtu: 1500, vnetHdr: false, uso: false, echo: false, maxFlows: 8, maxEndpoints: 8, keepAliveMs: 0 }
/** struct pbuf of lwIP: next, payload, tot_len, len, type, flags, ref */
const PBUF_REF = 14
/** Rows of the table of flows that are looked at. */
const ROWS = 256

/**
 * Spoils the reference count of the SYN that is held for the dial of `clientPort`: lwIP asserts it when the SYN is freed.
 * false when no stack of the process has such a flow.
 */
export function spoilHeldSyn(pid: number, clientPort: number): boolean {
  const stack = new Stack(OPTIONS) // the layout is that of the module
  const { abi } = stack
  const file = openSync(`/proc/${pid}/mem`, 'r+')
  try {
    for (const start of regionsOf(pid, stack.memory.byteLength)) {
      const flows = Buffer.alloc(ROWS * abi.flowBytes)
      readSync(file, flows, 0, flows.length, start + abi.flows)
      for (let row = 0; row < flows.length; row += abi.flowBytes) {
        if (flows.readUInt32LE(row + abi.flowState) !== abi.stateHeld) continue
        if (flows.readUInt32LE(row + abi.flowClientPort) !== clientPort) continue
        const syn = flows.readUInt32LE(row + abi.flowError + 8)
        return writeSync(file, Uint8Array.of(0), 0, 1, start + syn + PBUF_REF) === 1
      }
    }
    return false
  } finally {
    closeSync(file)
  }
}

/** Where mappings that can be written to, of just this size, begin. */
function regionsOf(pid: number, bytes: number): number[] {
  const found: number[] = []
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw-p /.exec(line) ?? []
    if (from === undefined || to === undefined) continue
    const start = Number.parseInt(from, 16)
    if (Number.parseInt(to, 16) - start === bytes) found.push(start)
  }
  return found
}
