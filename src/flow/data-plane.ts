/**
 * A data plane: one tun queue, one stack, its flows, one dialer. It shares nothing with another, takes a plain
 * configuration and gives out counters. This file is the turn: packets in, events handled, packets out.
 */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import type { Poller, Turns, Watcher } from '../io/poller.ts'
import type { FlowView, GatewayOptions } from '../options.ts'
import type { Stack } from '../stack/stack.ts'
import type { Tun } from '../tun/tun.ts'
import type { DialError, Dialer } from '../upstream/dialer.ts'
import { Clock } from './clock.ts'
import { LimitWatch } from './limit-watch.ts'
import { TcpFlow, type TcpHost } from './tcp-flow.ts'
import type { TcpRelay } from './tcp-relay.ts'
import { type UdpCounters, UdpFlow, type UdpHost } from './udp-flow.ts'

export interface PlaneLog {
  readonly debugEnabled: boolean
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
  debug(message: string, fields?: Record<string, unknown>): void
}

export interface PlaneParts {
  readonly stack: Stack
  readonly poller: Poller
  readonly tun: Tun
  readonly dialer: Dialer
}

export type PlaneOptions = Pick<GatewayOptions, 'tcp' | 'udp' | 'limits'>

/** Batches of packets in a row; then sockets have their turn. */
const BATCHES_A_TURN = 16
/** After so many packets at once more may have come meanwhile, and the device is read again before others have their turn. */
const BURST = 4
/** The same complaint is logged at most so often. */
const COMPLAINT_MS = 60_000

export class DataPlane implements Watcher, Turns, TcpHost, UdpHost {
  readonly stack: Stack
  readonly dialer: Dialer
  readonly udpCounters: UdpCounters = {
    udp_too_large: 0,
    udp_queue_full: 0,
    udp_send_failed: 0,
    udp_from_upstream_malformed: 0,
    udp_associations: 0,
  }
  now = performance.now()
  readonly #clock = new Clock(this.now)
  readonly #tun: Tun
  readonly #poller: Poller
  readonly #options: PlaneOptions
  readonly #log: PlaneLog
  readonly #onFailure: (error: unknown) => void
  readonly #tcp: (TcpFlow | undefined)[] = []
  readonly #udp = new Map<number, UdpFlow>()
  readonly #counters = { tcp_flows: 0, tcp_refused: 0, to_upstream_itself: 0, packets_lost: 0 }
  #resumable: (TcpRelay | UdpFlow)[] = []
  #resumeScheduled = false
  #ticker: NodeJS.Timeout | undefined
  #hurrying: NodeJS.Timeout | undefined
  readonly #sweeper: NodeJS.Timeout
  #dialsRefused = 0
  readonly #complaints = new Map<string, number>()
  readonly #watch = new LimitWatch()
  /** SYNs that found no place, as of the last sweep. */
  #flowsDropped = 0
  #closed = false

  /** @param onFailure what ends this plane: the device is gone, or the stack stopped */
  constructor(parts: PlaneParts, options: PlaneOptions, log: PlaneLog, onFailure: (error: unknown) => void) {
    this.stack = parts.stack
    this.dialer = parts.dialer
    this.#tun = parts.tun
    this.#poller = parts.poller
    this.#options = options
    this.#log = log
    this.#onFailure = onFailure
    this.stack.exports.tg_limit_dials(options.limits.dials, options.limits.dialsPerSource)
    const shortest = Math.min(
      options.tcp.connectTimeoutMs,
      options.tcp.halfCloseTimeoutMs,
      options.tcp.idleTimeoutMs,
      options.udp.idleTimeoutMs,
    )
    this.#sweeper = setInterval(() => this.#guarded(() => this.#sweep()), Math.min(1_000, Math.max(20, shortest / 4)))
  }

  // ---- the turn ----

  /** A batch of events comes. */
  beginTurn(): void {
    if (this.#closed) return
    this.#readClock()
    this.stack.exports.tg_set_now(this.now)
  }

  /** Packets wait in the tun. */
  onReady(): void {
    const { abi, exports } = this.stack
    for (let batch = 0; batch < BATCHES_A_TURN && !this.#closed; batch++) {
      const slots = exports.tg_prepare()
      const count = this.#tun.read(abi.slotTable, slots, abi.slotBytes)
      if (count === 0) break
      const isBurst = count >= BURST
      for (let done = 0; done < count; ) {
        done = exports.tg_ingress(done, count)
        this.#drain()
        this.flush()
      }
      if (!isBurst) break
    }
    if (this.#ticker === undefined) this.#startTicking()
  }

  /** Ends a batch of events. */
  endTurn(): void {
    if (this.#closed) return
    this.#drain()
    this.flush()
    if (this.#ticker === undefined && this.#counters.tcp_flows > 0) this.#startTicking()
    if (this.stack.words[this.stack.abi.reorderTimers / 4] !== 0) this.#startHurrying()
  }

  /** Looks at whatever the stack has to say: flows first, then datagrams. */
  #drain(): void {
    const { abi, exports, words } = this.stack
    for (let id = exports.tg_next_event(); id >= 0; id = exports.tg_next_event()) {
      const bits = words[abi.eventBits / 4]!
      if (bits & abi.eventSyn) this.#open(id)
      this.#tcp[id]?.onEvents(bits)
    }
    const count = words[abi.datagramCount / 4]!
    if (count > 0) this.#datagrams(count)
  }

  /** Writes what the stack has to send. */
  flush(): void {
    const { abi, exports, words } = this.stack
    const count = words[abi.egress / 4]!
    if (count === 0) return
    this.#counters.packets_lost += count - this.#tun.write(abi.egressPackets, abi.egressIovecs, count)
    exports.tg_egress_done()
  }

  relieve(): void {
    if (this.stack.words[this.stack.abi.egress / 4]! > 1024) this.flush()
  }

  later(waiting: TcpRelay | UdpFlow): void {
    this.#resumable.push(waiting)
    if (this.#resumeScheduled) return
    this.#resumeScheduled = true
    setImmediate(() => this.#guarded(() => this.#resume()))
  }

  #resume(): void {
    this.#resumeScheduled = false
    this.beginTurn()
    const resumable = this.#resumable
    this.#resumable = []
    for (const waiting of resumable) waiting.resume()
    this.endTurn()
  }

  #guarded(work: () => void): void {
    if (this.#closed) return
    try {
      work()
    } catch (error) {
      this.#onFailure(error)
    }
  }

  // ---- timers ----

  #readClock(): void {
    this.now = performance.now() - this.#clock.skipped
    if (this.now > this.#clock.latest) this.#leapt()
  }

  #leapt(): void {
    const ms = this.#clock.leapt(this.now)
    this.now -= ms
    this.#log.warn('the gateway stood still: its time-outs wait for so long', { ms: Math.round(ms) })
  }

  #startTicking(): void {
    this.#ticker = setInterval(() => this.#guarded(() => this.#tick()), this.stack.abi.tickMs)
  }

  /** Only while the stack waits for packets that may have been overtaken. */
  #startHurrying(): void {
    this.#hurrying ??= setTimeout(() => this.#guarded(() => this.#hurry()), this.stack.abi.hurryMs)
  }

  #hurry(): void {
    this.#hurrying = undefined
    this.#readClock()
    this.stack.exports.tg_hurry(this.now)
    this.endTurn()
  }

  #tick(): void {
    this.#readClock()
    const busy = this.stack.exports.tg_tick(this.now)
    this.#drain()
    this.flush()
    if (busy) return
    clearInterval(this.#ticker)
    this.#ticker = undefined
  }

  #sweep(): void {
    this.#readClock()
    for (const flow of this.#tcp) {
      flow?.sweep(this.#options.tcp)
      this.relieve()
    }
    for (const flow of this.#udp.values()) {
      flow.sweep(this.#options.tcp.connectTimeoutMs)
      if (this.now - flow.usedAt >= this.#options.udp.idleTimeoutMs) this.#closeUdp(flow)
    }
    this.#clock.swept(this.now)
    if (this.#ticker === undefined && this.stack.exports.tg_tick(this.now) !== 0) this.#startTicking()
    this.#drain()
    this.flush()
    this.#trim()
    this.#tellOfLimit()
    this.#watchLimits()
  }

  /** What a burst needed and nobody needs any more goes back to the kernel. */
  #trim(): void {
    const { abi, exports } = this.stack
    for (let rows = exports.tg_trim(); rows > 0; rows = exports.tg_trim()) this.#poller.io.discard(abi.iovecs, rows)
  }

  /** The stack has refused dials since it was last looked at. */
  #tellOfLimit(): void {
    const refused = this.stack.counter('dial_limit')
    if (refused === this.#dialsRefused) return
    this.#dialsRefused = refused
    this.#complain('too many dials in flight: new flows wait for their client to try again', {
      inFlight: this.stack.exports.tg_dials(),
    })
  }

  // ---- TCP ----

  #open(id: number): void {
    const flow = new TcpFlow(this, id)
    this.#tcp[id] = flow
    this.#counters.tcp_flows++
    const { abi } = this.stack
    if (this.#leadsToUpstream(flow.destination)) {
      flow.refuse(abi.answerReset, 'the destination is the proxy itself')
    } else flow.dial(this.dialer)
  }

  /** The gateway's own traffic comes back to it: one clear line, instead of a storm of dials. */
  #leadsToUpstream(destination: IpEndpoint): boolean {
    if (!this.dialer.isUpstream(destination)) return false
    this.#counters.to_upstream_itself++
    const upstream = formatEndpoint(destination)
    this.#complain(
      `the route to the proxy ${upstream} leads into ${this.#tun.name}: exclude the proxy's address from the tun's routes, or use bind.interface or bind.mark`,
    )
    return true
  }

  refused(): void {
    this.#counters.tcp_refused++
  }

  ended(flow: TcpFlow, reason: string): void {
    this.#tcp[flow.id] = undefined
    this.#counters.tcp_flows--
    if (!this.#log.debugEnabled) return
    this.#log.debug('tcp flow ended', {
      client: formatEndpoint(flow.client),
      destination: formatEndpoint(flow.destination),
      bytesUp: flow.bytesUp,
      bytesDown: flow.bytesDown,
      ms: Math.round(this.now - flow.startedAt),
      reason,
    })
  }

  // ---- UDP ----

  /** Runs of datagrams of one endpoint go to its flow together. */
  #datagrams(count: number): void {
    const { abi, words, exports } = this.stack
    const endpointOf = (row: number) => words[(abi.datagrams + row * abi.datagramBytes + abi.datagramEndpoint) / 4]!
    for (let from = 0; from < count; ) {
      const id = endpointOf(from)
      let to = from + 1
      while (to < count && endpointOf(to) === id) to++
      // an endpoint that gave way to another of this batch is gone, and so are its datagrams
      const known = words[(abi.endpoints + id * abi.endpointBytes + abi.endpointUsed) / 4] !== 0
      if (known) (this.#udp.get(id) ?? this.#openUdp(id, from))?.send(from, to)
      from = to
    }
    exports.tg_udp_release()
  }

  /** undefined when the first datagram, of row `row`, is the gateway's own. */
  #openUdp(id: number, row: number): UdpFlow | undefined {
    const flow = new UdpFlow(this, id)
    if (this.#leadsToUpstream(flow.destinationOf(row))) {
      flow.close()
      return undefined
    }
    if (this.#udp.size >= this.#options.udp.maxAssociations) this.#evictUdp()
    this.#udp.set(id, flow)
    return flow
  }

  #evictUdp(): void {
    let oldest: UdpFlow | undefined
    for (const flow of this.#udp.values()) if (oldest === undefined || givesWay(flow, oldest)) oldest = flow
    if (oldest !== undefined) this.#closeUdp(oldest)
  }

  #closeUdp(flow: UdpFlow): void {
    this.#udp.delete(flow.id)
    flow.close()
    if (this.#log.debugEnabled) {
      const { client, bytesUp, bytesDown, ageMs } = flow.view()
      this.#log.debug('udp flow ended', { client, bytesUp, bytesDown, ms: ageMs })
    }
  }

  associationEnded(client: IpEndpoint, { message: reason }: DialError, wasMade: boolean): void {
    if (this.#log.debugEnabled) this.#log.debug('udp association ended', { client: formatEndpoint(client), reason })
    if (wasMade) return
    this.#complain('datagrams cannot be relayed: clients get "port unreachable"', { reason })
  }

  #abortAll(): void {
    try {
      for (const flow of [...this.#udp.values()]) this.#closeUdp(flow)
      for (const flow of this.#tcp) {
        flow?.abort('the gateway is closing')
        this.relieve()
      }
      this.flush()
    } catch {
      // the device is gone, and so are its clients: what is left is to let go of the upstreams
      for (const flow of this.#tcp) flow?.discard()
    }
  }

  // ---- for people ----

  #complain(message: string, fields?: Record<string, unknown>): void {
    if (this.now - (this.#complaints.get(message) ?? Number.NEGATIVE_INFINITY) < COMPLAINT_MS) return
    this.#complaints.set(message, this.now)
    this.#log.warn(message, fields)
  }

  #watchLimits(): void {
    const { exports } = this.stack
    const { limits, udp } = this.#options
    this.#compare('flows', exports.tg_flows_used(), limits.flows)
    this.#compare('dials', exports.tg_dials(), limits.dials)
    this.#compare('associations', this.#udp.size, udp.maxAssociations)
    this.#compare('descriptors', this.#poller.used, this.#poller.capacity)
    this.#compare('stack_memory_bytes', exports.tg_memory_used(), exports.tg_memory_size())
    const dropped = this.stack.counter('drop_flow_limit')
    if (dropped > this.#flowsDropped) this.#complain('too many flows: new ones wait for their client to try again')
    this.#flowsDropped = dropped
  }

  #compare(name: string, used: number, limit: number): void {
    if (this.#watch.isNews(name, used, limit)) this.#log.warn(`near a limit: ${name}`, { used, limit })
  }

  counters(): Record<string, number> {
    const { exports } = this.stack
    const { limits, udp } = this.#options
    const { capacity } = this.#poller
    return {
      ...this.stack.counters(),
      ...this.#counters,
      ...this.udpCounters,
      ...this.dialer.counters(),
      udp_flows: this.#udp.size,
      dials_in_flight: exports.tg_dials(),
      flow_slots: exports.tg_flows_used(),
      endpoint_slots: exports.tg_endpoints_used(),
      pcbs: exports.tg_pcbs(),
      send_buffer_bytes: exports.tg_send_used(),
      receive_buffer_bytes: exports.tg_receive_held(),
      fragment_bytes: exports.tg_fragments_held(),
      out_of_order_bytes: exports.tg_out_of_order_held(),
      stack_memory_bytes: exports.tg_memory_used(),
      limit_flows: limits.flows,
      limit_dials: limits.dials,
      limit_associations: udp.maxAssociations,
      ...(Number.isFinite(capacity) ? { limit_descriptors: capacity } : {}),
      limit_stack_memory_bytes: exports.tg_memory_size(),
    }
  }

  flows(): FlowView[] {
    this.#readClock()
    const views: FlowView[] = []
    for (const flow of this.#tcp) if (flow !== undefined) views.push(flow.view())
    for (const flow of this.#udp.values()) views.push(flow.view())
    return views
  }

  /** Ends all flows; clients get RST. `stackUsable`: false when the stack stopped. Idempotent. */
  close(stackUsable = true): void {
    if (this.#closed) return
    clearInterval(this.#ticker)
    clearTimeout(this.#hurrying)
    clearInterval(this.#sweeper)
    if (stackUsable) {
      this.#abortAll()
    } else {
      for (const flow of this.#tcp) flow?.discard()
      for (const flow of this.#udp.values()) flow.discard()
    }
    this.#closed = true
    this.dialer.close()
  }
}

/** The associations of strangers are the first to go, or a flood of invented sources would take those of all. */
function givesWay(one: UdpFlow, other: UdpFlow): boolean {
  return one.isStranger === other.isStranger ? one.usedAt < other.usedAt : one.isStranger
}
