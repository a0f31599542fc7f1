/** The UDP flows of a data plane: the stack's datagrams are handed to them; at the bound the least recently used gives way. */
import { destinationOf } from './datagram-queue.ts'
import type { PlaneReport } from './plane-report.ts'
import { UdpFlow } from './udp-flow.ts'
import type { UdpHost } from './udp-host.ts'

/** An endpoint that only a service was asked from: mostly it was for one question, whose answer takes no longer. */
const SERVED_MS = 6_000

export class UdpFlows {
  readonly #host: UdpHost
  readonly #report: PlaneReport
  readonly #maxAssociations: number
  /** By the stack's number of their endpoint. */
  readonly #flows = new Map<number, UdpFlow>()

  constructor(host: UdpHost, report: PlaneReport, maxAssociations: number) {
    this.#host = host
    this.#report = report
    this.#maxAssociations = maxAssociations
  }

  get size(): number {
    return this.#flows.size
  }

  /** The first `count` rows of the stack's datagram table. Runs of one endpoint go to its flow together. */
  send(count: number): void {
    const { abi, words, exports } = this.#host.stack
    const endpointOf = (row: number) => words[(abi.datagrams + row * abi.datagramBytes + abi.datagramEndpoint) / 4]!
    for (let from = 0; from < count; ) {
      const id = endpointOf(from)
      let to = from + 1
      while (to < count && endpointOf(to) === id) to++
      // an endpoint that gave way to another of this batch is gone, and so are its datagrams
      const known = words[(abi.endpoints + id * abi.endpointBytes + abi.endpointUsed) / 4] !== 0
      const flow = known ? (this.#flows.get(id) ?? this.#open(id, from)) : undefined
      // what most datagrams are: of no service, and with nothing to decide
      if (flow?.only !== undefined && this.#host.datagramService === undefined) flow.only.send(from, to)
      else flow?.send(from, to)
      from = to
    }
    exports.tg_udp_release()
  }

  /** undefined when the first datagram, of row `row`, is the gateway's own. */
  #open(id: number, row: number): UdpFlow | undefined {
    const flow = new UdpFlow(this.#host, id)
    if (this.#report.leadsToUpstream(destinationOf(this.#host.stack, row), flow.client)) {
      flow.close()
      return undefined
    }
    if (this.#flows.size >= this.#maxAssociations) this.#evict()
    this.#flows.set(id, flow)
    return flow
  }

  #evict(): void {
    let oldest: UdpFlow | undefined
    for (const flow of this.#flows.values()) if (oldest === undefined || givesWay(flow, oldest)) oldest = flow
    if (oldest !== undefined) this.#close(oldest)
  }

  #close(flow: UdpFlow): void {
    this.#flows.delete(flow.id)
    flow.close()
    this.#report.udpEnded(flow)
  }

  /** Called now and then. */
  sweep(connectTimeoutMs: number, idleTimeoutMs: number): void {
    for (const flow of this.#flows.values()) {
      if (flow.only !== undefined) flow.only.sweep(connectTimeoutMs)
      else flow.sweep(connectTimeoutMs, idleTimeoutMs)
      const limit = flow.isServedOnly ? Math.min(SERVED_MS, idleTimeoutMs) : idleTimeoutMs
      if (this.#host.now - flow.usedAt >= limit) this.#close(flow)
    }
  }

  values(): IterableIterator<UdpFlow> {
    return this.#flows.values()
  }

  close(): void {
    for (const flow of [...this.#flows.values()]) this.#close(flow)
  }

  /** As close, without a word to the stack, which stopped. */
  discard(): void {
    for (const flow of this.#flows.values()) flow.discard()
  }
}

/**
 * First who has no association: it loses nothing. Then the associations of strangers, or a flood of invented sources would take
 * those of all.
 */
function givesWay(one: UdpFlow, other: UdpFlow): boolean {
  if ((one.associations === 0) !== (other.associations === 0)) return one.associations === 0
  return one.isStranger === other.isStranger ? one.usedAt < other.usedAt : one.isStranger
}
