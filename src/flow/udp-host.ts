/** What the datagrams of a client endpoint need of the data plane around them, and a way of the endpoint that it belongs to. */
import type { IpEndpoint } from '../endpoint.ts'
import type { Poller } from '../io/poller.ts'
import type { Stack } from '../stack/stack.ts'
import type { DialError } from '../upstream/dialer.ts'
import type { DatagramService } from './datagram-service.ts'
import type { Router } from './router.ts'

export interface UdpHost {
  readonly stack: Stack
  readonly poller: Pick<Poller, 'turn'>
  readonly router: Router
  /** Undefined where all datagrams go to upstreams. */
  readonly datagramService: DatagramService | undefined
  readonly now: number
  readonly udpCounters: UdpCounters
  flush(): void
  /** Calls `resume` in a later turn. */
  later(way: { resume(): void }): void
  /** `wasMade`: it had lived for a time, and is made anew when it is needed. */
  associationEnded(client: IpEndpoint, error: DialError, wasMade: boolean): void
}

export interface UdpCounters {
  udp_too_large: number
  udp_queue_full: number
  udp_send_failed: number
  udp_from_upstream_malformed: number
  udp_associations: number
}

/** The endpoint whose way it is. */
export interface WayOwner {
  /** The stack's number of the endpoint. */
  readonly id: number
  readonly client: IpEndpoint
  usedAt: number
  /** Associations that are there or being made. */
  associations: number
  /** Of these, ways that are being dialed: to the stack they are one dial. */
  dials: number
}
