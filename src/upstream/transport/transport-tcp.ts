/** TCP straight to the proxy. Where its name has several addresses they are raced, the one that was good last first. */
import type { IpEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import type { Poller, Watcher } from '../../io/poller.ts'
import { type Binding, lacksResources, Socket } from '../../io/socket.ts'
import type { ProxyAddress } from '../proxy/proxy-address.ts'
import { Race, type RaceListener } from './race.ts'
import type { Connecting, Transport, TransportUser } from './transport.ts'
import { notConnected, silent } from './transport-reasons.ts'

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

  connect(user: TransportUser): Connecting | undefined {
    const peer = this.#address.endpoint
    if (peer === undefined) throw new SystemError('ENOTFOUND', 'the name has no address (yet)', 'getaddrinfo', 0)
    if (this.#address.count > 1) return new RacedConnecting(this.#poller, this.#binding, this.#address, user)
    user.attach(Socket.connectTcp(this.#poller, peer, this.#binding, user), peer, false)
    return undefined
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

class RacedConnecting implements Connecting, RaceListener {
  readonly stands = false
  readonly #address: ProxyAddress
  readonly #user: TransportUser
  readonly #race: Race

  /** Throws SystemError when all have failed at once. */
  constructor(poller: Poller, binding: Binding, address: ProxyAddress, user: TransportUser) {
    this.#address = address
    this.#user = user
    this.#race = new Race(poller, binding, address.inTurn(), this)
    const error = this.#race.begin()
    if (error === undefined) return
    address.allFailed()
    throw error
  }

  onWon(socket: Socket, peer: IpEndpoint, readable: boolean): void {
    this.#address.use(peer)
    socket.handOver(this.#user)
    this.#user.attach(socket, peer, readable)
  }

  onLost(error: SystemError): void {
    this.#address.allFailed()
    this.#user.onUnconnected(notConnected(error), lacksResources(error) ? 'local' : 'unreached')
  }

  cancel(): void {
    this.#race.cancel()
  }

  expire(): string {
    this.#race.cancel()
    return silent('connect')
  }
}
