/** What people are told of a data plane: its complaints, the limits that it comes near, its counters, the ends of its flows. */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import type { Poller } from '../io/poller.ts'
import { Complaints } from '../log-limits.ts'
import type { GatewayOptions } from '../options.ts'
import type { Tun } from '../tun/tun.ts'
import type { DialError } from '../upstream/dialer.ts'
import { LimitWatch } from './limit-watch.ts'
import type { TcpFlow } from './tcp-flow.ts'
import type { UdpFlow } from './udp-flow.ts'
import type { UdpHost } from './udp-host.ts'

export interface PlaneLog {
  readonly debugEnabled: boolean
  warn(message: string, fields?: Record<string, unknown>): void
  error(message: string, fields?: Record<string, unknown>): void
  debug(message: string, fields?: Record<string, unknown>): void
}

const OWN_TRAFFIC =
  "the route to the proxy leads into the tun: exclude this address from the tun's routes, or use bind.interface or bind.mark"
const OWN_SOCKET =
  "what goes direct comes back by the tun: use bind.interface or bind.mark, or exclude this address from the tun's routes; is it a virtual one, have the gateway's own resolver asked beside the tun"

export class PlaneReport {
  /** What the plane counts itself. */
  readonly counted = { tcp_flows: 0, tcp_refused: 0, to_upstream_itself: 0, packets_lost: 0 }
  readonly #plane: Pick<UdpHost, 'stack' | 'router' | 'now' | 'udpCounters'>
  readonly #poller: Poller
  readonly #tun: Tun
  readonly #options: Pick<GatewayOptions, 'udp' | 'limits'>
  readonly #log: PlaneLog
  readonly #complaints = new Complaints()
  readonly #watch = new LimitWatch()
  /** Dials that the stack refused, and SYNs that found no place, as of the last look. */
  #dialsRefused = 0
  #flowsDropped = 0

  constructor(
    plane: Pick<UdpHost, 'stack' | 'router' | 'now' | 'udpCounters'>,
    { poller, tun }: { readonly poller: Poller; readonly tun: Tun },
    options: Pick<GatewayOptions, 'udp' | 'limits'>,
    log: PlaneLog,
  ) {
    this.#plane = plane
    this.#poller = poller
    this.#tun = tun
    this.#options = options
    this.#log = log
  }

  /** `message`: one of a few texts; what differs is in the fields. */
  complain(message: string, fields?: Record<string, unknown>): void {
    if (this.#complaints.isDue(message, this.#plane.now)) this.#log.warn(message, fields)
  }

  /** The gateway's own traffic comes back to it: one clear line, instead of a storm of dials. */
  leadsToUpstream(destination: IpEndpoint, client: IpEndpoint): boolean {
    if (!this.#plane.router.isUpstream(destination, client)) return false
    this.counted.to_upstream_itself++
    const message = this.#plane.router.isUpstream(destination) ? OWN_TRAFFIC : OWN_SOCKET
    this.complain(message, { destination: formatEndpoint(destination), tun: this.#tun.name })
    return true
  }

  leapt(ms: number): void {
    this.complain('the gateway stood still: its time-outs wait for so long', { ms: Math.round(ms) })
  }

  // ---- the ends of flows ----

  tcpEnded(flow: TcpFlow, reason: string): void {
    if (!this.#log.debugEnabled) return
    this.#log.debug('tcp flow ended', {
      client: formatEndpoint(flow.client),
      destination: formatEndpoint(flow.destination),
      bytesUp: flow.bytesUp,
      bytesDown: flow.bytesDown,
      ms: Math.round(this.#plane.now - flow.startedAt),
      reason,
      ...flow.routeView,
    })
  }

  udpEnded(flow: UdpFlow): void {
    if (!this.#log.debugEnabled) return
    const { client, bytesUp, bytesDown, ageMs } = flow.view()
    this.#log.debug('udp flow ended', { client, bytesUp, bytesDown, ms: ageMs })
  }

  /** As UdpHost.associationEnded. */
  associationEnded(client: IpEndpoint, { failure, message: reason }: DialError, wasMade: boolean): void {
    if (this.#log.debugEnabled) this.#log.debug('udp association ended', { client: formatEndpoint(client), reason })
    if (wasMade || failure === 'unsupported') return // who knows that there is no UDP has said so
    this.complain('datagrams cannot be relayed: clients get "port unreachable"', { reason })
  }

  // ---- limits and counters ----

  /** Called now and then. `udpFlows`: how many there are. */
  watchLimits(udpFlows: number): void {
    const { stack } = this.#plane
    const { limits, udp } = this.#options
    const inFlight = stack.exports.tg_dials()
    const refused = stack.counter('dial_limit')
    if (refused !== this.#dialsRefused)
      this.complain('too many dials in flight: new flows wait for their client to try again', { inFlight })
    this.#dialsRefused = refused
    this.#compare('flows', stack.exports.tg_flows_used(), limits.flows)
    this.#compare('dials', inFlight, limits.dials)
    this.#compare('associations', udpFlows, udp.maxAssociations)
    this.#compare('descriptors', this.#poller.used, this.#poller.capacity)
    this.#compare('stack_memory_bytes', stack.exports.tg_memory_used(), stack.exports.tg_memory_size())
    const dropped = stack.counter('drop_flow_limit')
    if (dropped > this.#flowsDropped) this.complain('too many flows: new ones wait for their client to try again')
    this.#flowsDropped = dropped
  }

  #compare(name: string, used: number, limit: number): void {
    if (this.#watch.isNews(name, used, limit)) this.complain(`near a limit: ${name}`, { used, limit })
  }

  /** All that is counted, by the plane, its stack and its dialers. */
  counters(udpFlows: number): Record<string, number> {
    const { stack, router, udpCounters } = this.#plane
    const { exports } = stack
    const { limits, udp } = this.#options
    const { capacity } = this.#poller
    return {
      ...stack.counters(),
      ...this.counted,
      ...udpCounters,
      ...router.counters(),
      udp_flows: udpFlows,
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
}
