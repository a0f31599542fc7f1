/** Who answers streams in the place of an upstream, as for names (port 53). The client is answered at once. */
import type { IpEndpoint } from '../endpoint.ts'
import type { RelayHost } from './tcp-relay.ts'

/** A client's stream that is served; `TcpFlow` is the life around it. */
export interface ServedStream {
  readonly bytesUp: number
  readonly bytesDown: number
  readonly state: 'opening' | 'open' | 'half-closed' | 'closing'
  /** Bits of the stack's events, but for the flow's end. */
  onEvents(bits: number): void
  /** Called now and then: why the flow is to be reset; undefined: it lives. */
  overdue(now: number): string | undefined
  /** The flow is over. Idempotent. */
  close(): void
}

export interface StreamService {
  /** Whether streams to this destination are its own. */
  takes(destination: IpEndpoint): boolean
  /** Undefined when there are too many. `id`: the stack's number of the flow. */
  open(host: RelayHost, id: number, destination: IpEndpoint): ServedStream | undefined
}
