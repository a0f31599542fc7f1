/** TLS on a connection of another transport. */
import type { IpEndpoint } from '../../endpoint.ts'
import type { Poller, Watcher } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'
import type { TlsServer } from './tls-server.ts'
import { TlsTunnel, type TunnelHost } from './tls-tunnel.ts'
import type { Connecting, Transport, TransportUser } from './transport.ts'

export class TlsTransport implements Transport, TunnelHost {
  readonly poller: Poller
  readonly server: TlsServer
  readonly #below: Transport
  readonly #tunnels = new Set<TlsTunnel>()

  constructor(poller: Poller, below: Transport, server: TlsServer) {
    this.poller = poller
    this.#below = below
    this.server = server
  }

  get peer(): IpEndpoint | undefined {
    return this.#below.peer
  }

  connect(user: TransportUser, client: IpEndpoint): Connecting {
    const tunnel = new TlsTunnel(this, user)
    this.#tunnels.add(tunnel) // first: it may end within the call
    try {
      const below = this.#below.connect(tunnel, client)
      if (below !== undefined) tunnel.below = below
    } catch (error) {
      this.#tunnels.delete(tunnel)
      throw error
    }
    return tunnel
  }

  ended(tunnel: TlsTunnel): void {
    this.#tunnels.delete(tunnel)
  }

  probe(watcher: Watcher): Socket | undefined {
    return this.#below.probe(watcher)
  }

  failed(peer: IpEndpoint | undefined, answers: number): void {
    this.#below.failed(peer, answers)
  }

  isPeer(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.#below.isPeer(destination, client)
  }

  close(): void {
    for (const tunnel of this.#tunnels) tunnel.abandon()
    this.#below.close()
  }
}
