/** Whom a client can ask: by address, each with its ladder; bounded, the one that was asked longest ago gives way. */
import { type Destination, formatEndpoint, type IpEndpoint, parseAddress, sameAddress } from '../endpoint.ts'
import type { Poller } from '../io/poller.ts'
import type { Binding } from '../io/socket.ts'
import type { ResolverAddress } from '../options.ts'
import type { Dial, Dialer, DialListener } from '../upstream/dialer.ts'
import { AssociationCarrier, DirectCarrier } from './carriers.ts'
import { type DatagramCounters, DatagramWay } from './datagram-way.ts'
import { dialDirectly } from './direct-dial.ts'
import { asHttp, BY_LENGTH } from './framing.ts'
import { type Resolver, Rung } from './rung.ts'
import { StreamWay } from './stream-way.ts'
import type { WayMemory } from './way.ts'

/** Resolvers of clients at a time. */
export const MAX_RESOLVERS = 256

const HTTPS_PORT = 443

/** For whom: the gateway itself. */
const OURSELVES: IpEndpoint = { address: new Uint8Array(4), port: 0 }

export interface ResolverParts {
  readonly memory: WayMemory
  readonly poller: Poller
  readonly dialer: Pick<Dialer, 'connect' | 'associate'>
  readonly binding: Binding
  readonly counters: DatagramCounters
  /** A connection through the proxy with TLS on it. */
  readonly dialTls: (resolver: ResolverAddress, listener: DialListener) => Dial
  /** Addresses at which there can be no resolver: our own, and those that stand for names. */
  readonly isOurs: (address: Uint8Array) => boolean
}

export class Resolvers {
  readonly #parts: ResolverParts
  readonly #carrier: AssociationCarrier
  /** Of the configuration, for all clients. */
  readonly #shared: readonly Rung[]
  readonly #rungs = new Map<string, Rung>()
  /** By address and port as text, first the one that was asked longest ago. */
  readonly #known = new Map<string, Resolver>()
  readonly #own: Rung[] = []
  #last: { endpoint: IpEndpoint; resolver: Resolver } | undefined

  constructor(parts: ResolverParts, common: readonly ResolverAddress[]) {
    this.#parts = parts
    const { memory, poller, counters, dialer } = parts
    this.#carrier = new AssociationCarrier(memory, poller, counters, listener => dialer.associate(OURSELVES, listener))
    this.#shared = common.flatMap(address => this.#common(address))
  }

  /** Whom the client asked; `bytes` are looked at, and not kept. */
  at(bytes: Uint8Array, port: number): Resolver {
    const last = this.#last
    if (last !== undefined && last.endpoint.port === port && sameAddress(last.endpoint.address, bytes))
      return last.resolver
    const endpoint: IpEndpoint = { address: bytes.slice(), port }
    const name = formatEndpoint(endpoint)
    const resolver = this.#known.get(name) ?? this.#make(name, endpoint)
    this.#known.delete(name)
    this.#known.set(name, resolver)
    this.#last = { endpoint, resolver }
    return resolver
  }

  #make(name: string, endpoint: IpEndpoint): Resolver {
    if (this.#known.size >= MAX_RESOLVERS) this.#forgetOldest()
    const asked = this.#parts.isOurs(endpoint.address) ? [] : this.#proxied(endpoint)
    const rungs = [...asked, ...this.#shared.filter(rung => !asked.includes(rung))]
    return { prefix: `${name} `, name, rungs, answeredBy: undefined }
  }

  #forgetOldest(): void {
    for (const [name, { rungs }] of this.#known) {
      this.#known.delete(name)
      for (const rung of rungs) {
        if (this.#shared.includes(rung)) continue
        rung.way.close()
        this.#rungs.delete(`${rung.name} ${rung.target}`)
      }
      return
    }
  }

  /** By datagrams first. */
  #proxied(endpoint: IpEndpoint): Rung[] {
    const { counters } = this.#parts
    const datagrams = this.#rung('udp', endpoint, () => new DatagramWay(endpoint, this.#carrier, counters))
    return [datagrams, this.#streamed(endpoint)]
  }

  #streamed(destination: Destination): Rung {
    const { memory, dialer } = this.#parts
    return this.#rung('tcp', destination, () => {
      return new StreamWay(memory, listener => dialer.connect(destination, OURSELVES, listener))
    })
  }

  /** One of the configuration. */
  #common(address: ResolverAddress): Rung[] {
    const { protocol, host, port } = address
    if (protocol === 'udp') return this.#proxied(endpointOf(address))
    const ip = parseAddress(host)
    const destination = ip === undefined ? { name: host, port } : { address: ip, port }
    return protocol === 'tcp' ? [this.#streamed(destination)] : this.#encrypted(address, destination)
  }

  #encrypted(address: ResolverAddress, destination: Destination): Rung[] {
    const { memory, dialTls } = this.#parts
    const { protocol, port, path = '/' } = address
    const authority = formatEndpoint(destination)
    const host = port === HTTPS_PORT ? authority.slice(0, authority.lastIndexOf(':')) : authority
    const framing = protocol === 'https' ? asHttp(host, path) : BY_LENGTH
    const name = `${protocol}://${host}${protocol === 'https' ? path : ''}`
    const make = () => new StreamWay(memory, listener => dialTls(address, listener), framing)
    return [this.#rung(name, destination, make)]
  }

  #rung(name: string, destination: Destination, make: () => DatagramWay | StreamWay): Rung {
    const target = formatEndpoint(destination)
    const key = `${name} ${target}`
    const rung = this.#rungs.get(key) ?? new Rung(name, target, make())
    this.#rungs.set(key, rung)
    return rung
  }

  /** One that is asked beside the tun: it may know other names than the same address does behind the proxy. */
  direct(address: ResolverAddress): Resolver {
    const { memory, poller, binding, counters } = this.#parts
    const endpoint = endpointOf(address)
    const target = formatEndpoint(endpoint)
    const dial = new StreamWay(memory, listener => dialDirectly(poller, endpoint, binding, listener))
    const rungs = [new Rung('tcp, directly', target, dial)]
    if (address.protocol === 'udp') {
      const way = new DatagramWay(endpoint, new DirectCarrier(memory, poller, binding), counters)
      rungs.unshift(new Rung('udp, directly', target, way))
    }
    this.#own.push(...rungs)
    return { prefix: `direct ${target} `, name: target, rungs, answeredBy: undefined }
  }

  close(): void {
    for (const rung of [...this.#rungs.values(), ...this.#own]) rung.way.close()
    this.#carrier.close()
  }
}

function endpointOf({ host, port }: ResolverAddress): IpEndpoint {
  const address = parseAddress(host)
  if (address === undefined) throw new RangeError(`dns: ${host} is no address`)
  return { address, port }
}
