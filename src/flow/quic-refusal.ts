/**
 * `udp.quic: reject`: who begins QUIC is told at once that nobody listens there, and takes TCP. All other datagrams are for the
 * service behind it, where there is one, or for an upstream.
 */
import type { Stack } from '../stack/stack.ts'
import { refuseRow, rowOf } from './datagram-queue.ts'
import type { DatagramClient, DatagramService } from './datagram-service.ts'

/** RFC 9114 §3.1: of https, unless a server has named another. */
const QUIC_PORT = 443

class QuicRefusal implements DatagramService {
  readonly #stack: Stack
  readonly #behind: DatagramService | undefined

  constructor(stack: Stack, behind: DatagramService | undefined) {
    this.#stack = stack
    this.#behind = behind
  }

  takes(destAt: number, family: number, port: number): boolean {
    return port === QUIC_PORT || (this.#behind?.takes(destAt, family, port) ?? false)
  }

  receive(client: DatagramClient, row: number): void {
    if (rowOf(this.#stack, row).port === QUIC_PORT) refuseRow(this.#stack, client.id, row)
    else this.#behind?.receive(client, row)
  }
}

/** Who answers datagrams in the place of an upstream, `behind` among them. */
export function serviceOf(
  stack: Stack,
  quic: 'allow' | 'reject',
  behind: DatagramService | undefined,
): DatagramService | undefined {
  return quic === 'reject' ? new QuicRefusal(stack, behind) : behind
}
