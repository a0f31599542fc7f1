/** Connections inside TLS through a dialer, to others than proxies: to resolvers. The certificate must be that of the host, by an authority that Node trusts. */
import { formatEndpoint, type IpEndpoint, parseAddress } from '../../endpoint.ts'
import type { Poller } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'
import type { Connected, Dial, DialError, Dialer, DialListener } from '../dialer.ts'
import { tlsOptions } from './tls-options.ts'
import { TlsServer } from './tls-server.ts'
import { TlsTunnel, type TunnelHost } from './tls-tunnel.ts'
import type { TransportUser } from './transport.ts'

/** For whom: the gateway itself. */
const OURSELVES: IpEndpoint = { address: new Uint8Array(4), port: 0 }

export interface TlsEndpoint {
  /** An address without brackets, or a name, which the dialer looks up. */
  readonly host: string
  readonly port: number
}

export class TlsDials {
  readonly #poller: Poller
  readonly #dialer: Pick<Dialer, 'connect'>
  /** By host, made when one is dialed: to read all authorities takes its time. */
  readonly #servers = new Map<string, TlsServer>()

  constructor(poller: Poller, dialer: Pick<Dialer, 'connect'>) {
    this.#poller = poller
    this.#dialer = dialer
  }

  /** As `Dialer.connect`. */
  connect({ host, port }: TlsEndpoint, listener: DialListener): Dial {
    const address = parseAddress(host)
    const destination = address === undefined ? { name: host, port } : { address, port }
    const dial = new TlsDial({ poller: this.#poller, server: this.#serverOf(host), ended: () => {} }, listener)
    dial.name = formatEndpoint(destination)
    dial.below = this.#dialer.connect(destination, OURSELVES, dial)
    return dial
  }

  #serverOf(host: string): TlsServer {
    const known = this.#servers.get(host)
    if (known !== undefined) return known
    const options = tlsOptions({ insecure: false }, host, () => Buffer.alloc(0))
    const server = new TlsServer(options, { warnOnce() {} })
    this.#servers.set(host, server)
    return server
  }
}

class TlsDial implements Dial, DialListener, TransportUser {
  below: Dial | undefined
  name = ''
  readonly #host: TunnelHost
  readonly #listener: DialListener
  #tunnel: TlsTunnel | undefined

  constructor(host: TunnelHost, listener: DialListener) {
    this.#host = host
    this.#listener = listener
  }

  onConnected({ socket, early }: Connected): void {
    if (early !== undefined) {
      socket.close(true)
      return this.onFailed({ failure: 'general', message: `${this.name} speaks first, which is not TLS` })
    }
    this.#tunnel = new TlsTunnel(this.#host, this)
    socket.handOver(this.#tunnel)
    this.#tunnel.attach(socket, undefined)
  }

  onFailed(error: DialError): void {
    this.#listener.onFailed(error)
  }

  attach(socket: Socket): void {
    this.#listener.onConnected({ socket, early: undefined, readable: false })
  }

  /** It is not the proxy that is away, or was not to be trusted. */
  onUnconnected({ failure, message }: DialError): void {
    this.#listener.onFailed({ failure: failure === 'no-resources' ? failure : 'general', message: this.#told(message) })
  }

  /** To the tunnel whoever it speaks to is the proxy. */
  #told(message: string): string {
    return `${this.name}: ${message.replaceAll('the proxy', 'the resolver')}`
  }

  /** Of the tunnel's pair, which has another watcher when something comes. */
  onReady(): void {}

  cancel(): void {
    this.below?.cancel()
    this.#tunnel?.cancel()
  }

  expire(): DialError {
    if (this.#tunnel === undefined) return this.below!.expire()
    return { failure: 'timeout', message: this.#told(this.#tunnel.expire()) }
  }
}
