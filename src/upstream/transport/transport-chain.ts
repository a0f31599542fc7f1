/** Through another upstream: the connection to the proxy is a flow of that one. */
import type { Destination, IpEndpoint } from '../../endpoint.ts'
import type { Poller } from '../../io/poller.ts'
import type { Connected, Dial, DialError, Dialer, DialFailure, DialListener } from '../dialer.ts'
import type { Connecting, Transport, TransportUser } from './transport.ts'
import { spokeUnasked } from './transport-reasons.ts'

/** What the other upstream says of itself, or of this machine; the rest it says of this proxy, which cannot be reached then. */
const OF_ITSELF: ReadonlySet<DialFailure> = new Set(['no-resources', 'upstream-down', 'authentication', 'timeout'])

export class ChainTransport implements Transport {
  readonly peer = undefined
  readonly #poller: Poller
  readonly #through: Dialer
  readonly #name: string
  readonly #proxy: Destination

  /**
   * @param through is this transport's to close
   * @param name of `through`, for people
   * @param proxy a name is looked up by `through`
   */
  constructor(poller: Poller, through: Dialer, name: string, proxy: Destination) {
    this.#poller = poller
    this.#through = through
    this.#name = name
    this.#proxy = proxy
  }

  connect(user: TransportUser, client: IpEndpoint): Connecting | undefined {
    const link = new Link(this.#poller, this.#through, this.#name, user)
    return link.begin(this.#proxy, client) ? link : undefined
  }

  /** `through` does so for its own sake. */
  probe(): undefined {
    return undefined
  }

  failed(): void {}

  isPeer(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.#through.isUpstream(destination, client)
  }

  close(): void {
    this.#through.close()
  }
}

class Link implements Connecting, DialListener {
  readonly stands = true
  readonly #poller: Poller
  readonly #through: Dialer
  readonly #name: string
  #user: TransportUser | undefined
  #dial: Dial | undefined
  #isBeginning = true

  constructor(poller: Poller, through: Dialer, name: string, user: TransportUser) {
    this.#poller = poller
    this.#through = through
    this.#name = name
    this.#user = user
  }

  /** False: it is attached already. */
  begin(proxy: Destination, client: IpEndpoint): boolean {
    this.#dial = this.#through.connect(proxy, client, this)
    this.#isBeginning = false
    return this.#user !== undefined
  }

  onConnected({ socket, early, readable }: Connected): void {
    const user = this.#user!
    this.#user = undefined
    if (early !== undefined) {
      socket.close()
      return user.onUnconnected(spokeUnasked(), 'alien')
    }
    socket.handOver(user)
    user.attach(socket, undefined, readable)
  }

  onFailed(error: DialError): void {
    if (this.#isBeginning) this.#poller.later(() => this.#failed(error))
    else this.#failed(error)
  }

  #failed({ failure, message }: DialError): void {
    const user = this.#user
    this.#user = undefined
    const known = OF_ITSELF.has(failure) ? failure : 'upstream-down'
    const isOfClient = failure === 'authentication' && this.#through.hasUserPerClient
    const end = failure === 'no-resources' || isOfClient ? 'local' : 'unreached'
    user?.onUnconnected({ failure: known, message: this.#told(message) }, end)
  }

  #told(message: string): string {
    return `through ${this.#name}: ${message}`
  }

  cancel(): void {
    this.#user = undefined
    this.#dial?.cancel()
  }

  expire(): string {
    this.#user = undefined
    return this.#told(this.#dial!.expire().message)
  }
}
