/** TCP straight to the proxy. */
import type { IpEndpoint } from '../endpoint.ts'
import { SystemError } from '../errors.ts'
import type { Poller, Watcher } from '../io/poller.ts'
import { type Binding, Socket } from '../io/socket.ts'
import type { ProxyAddress } from './proxy-address.ts'
import type { Transport, TransportUser } from './transport.ts'

export class TcpTransport implements Transport {
  readonly #poller: Poller
  readonly #address: ProxyAddress
  readonly #binding: Binding

  constructor(poller: Poller, address: ProxyAddress, binding: Binding) {
    this.#poller = poller
    this.#address = address
    this.#binding = binding
  }

  get peer(): IpEndpoint | undefined {
    return this.#address.endpoint
  }

  connect(user: TransportUser): undefined {
    const peer = this.#address.endpoint
    if (peer === undefined) throw new SystemError('ENOTFOUND', 'the name has no address (yet)', 'getaddrinfo', 0)
    user.attach(Socket.connectTcp(this.#poller, peer, this.#binding, user), peer, false)
  }

  probe(watcher: Watcher): Socket | undefined {
    const peer = this.#address.endpoint
    try {
      return peer === undefined ? undefined : Socket.connectTcp(this.#poller, peer, this.#binding, watcher)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      return undefined
    }
  }

  failed(peer: IpEndpoint | undefined, answers: number): void {
    this.#address.failed(peer, answers)
  }

  isPeer(endpoint: IpEndpoint): boolean {
    return this.#address.has(endpoint)
  }

  close(): void {}
}
