/** Who answers datagrams in the place of an upstream, as for names (port 53). */
import type { IpEndpoint } from '../endpoint.ts'

/** The client endpoint that an answer goes to; it may be gone by then. */
export interface DatagramClient {
  /** The stack's number of the endpoint, which another may have once this one is gone. */
  readonly id: number
  readonly client: IpEndpoint
  /**
   * A datagram to the client, from `port` of the address at `sourceAt` (4 or 16 bytes, the endpoint's family); its payload
   * lies at `payloadAt` and stays there until the turn's packets are written: where none of the landing slots is free, call
   * `flush` of the host behind it. False: the client is gone, or nothing could be sent.
   */
  answer(sourceAt: number, port: number, payloadAt: number, payloadBytes: number): boolean
}

export interface DatagramService {
  /**
   * Whether datagrams to this destination are its own: the address at `destAt` (4 or 16 bytes), by `family` 4 or 6. Asked for
   * each datagram.
   */
  takes(destAt: number, family: number, port: number): boolean
  /** `row`: of the stack's datagram table, of use during the call only (datagram-queue.ts reads and copies rows). */
  receive(client: DatagramClient, row: number): void
}
