/** A thread that gives names addresses, and holds and releases some: `workerData` says from which memory. */
import { parentPort, workerData } from 'node:worker_threads'
import { NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses, type VirtualNetworks } from '../../src/dns/virtual-addresses.ts'

export interface NameWork {
  readonly networks: VirtualNetworks
  readonly memory: SharedArrayBuffer
  readonly names: number
  readonly rounds: number
}

const { networks, memory, names, rounds } = workerData as NameWork
const addresses = new VirtualAddresses(networks)
const map = new NameMap(addresses, { names: 4_096, ttlSeconds: 10, holdSeconds: 0 }, memory)
let wrong = 0
for (let round = 0; round < rounds; round++) {
  const name = `n${(round * 7_919) % names}.example.org`
  const index = map.assign(name, round)
  const address = Uint8Array.from(addresses.address4(index))
  // another thread may have taken it meanwhile, but not while it is held
  const held = map.acquire(address)
  if (held === undefined) continue
  for (let times = 0; times < 3; times++) if (map.nameOf(address) !== held) wrong++
  if (!map.release(address)) wrong++
}
parentPort!.postMessage(wrong)
