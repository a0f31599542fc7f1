/**
 * A data plane: one tun queue, one stack, its flows, a router to its dialers. It shares nothing with another but what is known of the
 * proxy, takes a plain configuration and gives out counters. This file is the turn: packets in, events handled, packets out.
 */
import type { IpEndpoint } from '../endpoint.ts'
import type { Poller, Turns, Watcher } from '../io/poller.ts'
import type { FlowView, GatewayOptions } from '../options.ts'
import type { Stack } from '../stack/stack.ts'
import type { Tun } from '../tun/tun.ts'
import type { DialError } from '../upstream/dialer.ts'
import { Clock, sweepIntervalMs } from './clock.ts'
import type { DatagramService } from './datagram-service.ts'
import { type PlaneLog, PlaneReport } from './plane-report.ts'
import { serviceOf } from './quic-refusal.ts'
import type { Router } from './router.ts'
import type { StreamService } from './stream-service.ts'
import { TcpFlow, type TcpHost } from './tcp-flow.ts'
import { UdpFlows } from './udp-flows.ts'
import type { UdpCounters, UdpHost } from './udp-host.ts'

export interface PlaneParts {
  readonly stack: Stack
  readonly poller: Poller
  readonly tun: Tun
  readonly router: Router
  readonly datagramService?: DatagramService
  readonly streamService?: StreamService
}

export type PlaneOptions = Pick<GatewayOptions, 'tcp' | 'udp' | 'limits'>

/** Batches of packets in a row; then sockets have their turn. */
const BATCHES_A_TURN = 16
/** After so many packets at once more may have come meanwhile, and the device is read again before others have their turn. */
const BURST = 4

export class DataPlane implements Watcher, Turns, TcpHost, UdpHost {
  readonly stack: Stack
  readonly poller: Poller
  readonly router: Router
  readonly datagramService: DatagramService | undefined
  readonly #streamService: StreamService | undefined
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
  readonly #options: PlaneOptions
  readonly #report: PlaneReport
  readonly #onFailure: (error: unknown) => void
  readonly #tcp: (TcpFlow | undefined)[] = []
  readonly #udp: UdpFlows
  readonly #counters: PlaneReport['counted']
  #resumable: { resume(): void }[] = []
  #resumeScheduled = false
  #ticker: NodeJS.Timeout | undefined
  #hurrying: NodeJS.Timeout | undefined
  readonly #sweeper: NodeJS.Timeout
  #closed = false

  /** @param onFailure what ends this plane: the device is gone, or the stack stopped */
  constructor(parts: PlaneParts, options: PlaneOptions, log: PlaneLog, onFailure: (error: unknown) => void) {
    this.stack = parts.stack
    this.poller = parts.poller
    this.router = parts.router
    this.datagramService = serviceOf(parts.stack, options.udp.quic, parts.datagramService)
    this.#streamService = parts.streamService
    this.#tun = parts.tun
    this.#options = options
    this.#report = new PlaneReport(this, parts, options, log)
    this.#counters = this.#report.counted
    this.#udp = new UdpFlows(this, this.#report, options.udp.maxAssociations)
    this.#onFailure = onFailure
    this.stack.exports.tg_limit_dials(options.limits.dials, options.limits.dialsPerSource)
    this.#sweeper = setInterval(() => this.#guarded(() => this.#sweep()), sweepIntervalMs(options))
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
      const cameAndLeft = abi.eventSyn | abi.eventGone
      if ((bits & cameAndLeft) === cameAndLeft) exports.tg_tcp_release(id)
      else if (bits & abi.eventSyn) this.#open(id)
      this.#tcp[id]?.onEvents(bits)
    }
    const count = words[abi.datagramCount / 4]!
    if (count > 0) this.#udp.send(count)
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

  later(waiting: { resume(): void }): void {
    this.#resumable.push(waiting)
    if (this.#resumeScheduled) return
    this.#resumeScheduled = true
    this.poller.later(() => this.#resume())
  }

  #resume(): void {
    this.#resumeScheduled = false
    const resumable = this.#resumable
    this.#resumable = []
    for (const waiting of resumable) waiting.resume()
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
    this.#report.leapt(ms)
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
    this.#udp.sweep(this.#options.tcp.connectTimeoutMs, this.#options.udp.idleTimeoutMs)
    this.#clock.swept(this.now)
    if (this.#ticker === undefined && this.stack.exports.tg_tick(this.now) !== 0) this.#startTicking()
    this.#drain()
    this.flush()
    this.#trim()
    this.#report.watchLimits(this.#udp.size)
  }

  /** What a burst needed and nobody needs any more goes back to the kernel. */
  #trim(): void {
    const { abi, exports } = this.stack
    for (let rows = exports.tg_trim(); rows > 0; rows = exports.tg_trim()) this.poller.io.discard(abi.iovecs, rows)
  }

  // ---- flows ----

  #open(id: number): void {
    const flow = new TcpFlow(this, id)
    this.#tcp[id] = flow
    this.#counters.tcp_flows++
    if (this.#report.leadsToUpstream(flow.destination, flow.client)) {
      flow.refuse(this.stack.abi.answerReset, "it is the gateway's own connection, which a route leads into the tun")
    } else if (this.#streamService?.takes(flow.destination)) flow.serve(this.#streamService)
    else flow.begin()
  }

  refused(): void {
    this.#counters.tcp_refused++
  }

  ended(flow: TcpFlow, reason: string): void {
    this.#tcp[flow.id] = undefined
    this.#counters.tcp_flows--
    this.#report.tcpEnded(flow, reason)
  }

  associationEnded(client: IpEndpoint, error: DialError, wasMade: boolean): void {
    this.#report.associationEnded(client, error, wasMade)
  }

  // ---- what can be looked up ----

  counters(): Record<string, number> {
    return this.#report.counters(this.#udp.size)
  }

  flows(): FlowView[] {
    this.#readClock()
    const views: FlowView[] = []
    for (const flow of this.#tcp) if (flow !== undefined) views.push(flow.view())
    for (const flow of this.#udp.values()) views.push(flow.view())
    return views
  }

  // ---- the end ----

  #abortAll(): void {
    try {
      this.#udp.close()
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
      this.#udp.discard()
    }
    this.#closed = true
    this.router.close()
  }
}
