/** All upstreams of a gateway, by name: what is known of them outlives a stack, and is one truth for all threads. */
import { type Destination, type IpEndpoint, parseAddress } from '../endpoint.ts'
import type { Poller } from '../io/poller.ts'
import type { Binding } from '../io/socket.ts'
import type { GatewayOptions, Upstream, UpstreamOptions } from '../options.ts'
import { udpWayOf } from './datagrams/udp-ladder.ts'
import type { Arena, Dialer } from './dialer.ts'
import { DirectDialer } from './direct/direct-dialer.ts'
import { RejectDialer } from './direct/reject-dialer.ts'
import { GroupDialer } from './group/group-dialer.ts'
import { type Group, GroupState, groupCells } from './group/group-state.ts'
import { ProxyDialer } from './proxy/proxy-dialer.ts'
import type { HealthLog } from './proxy/proxy-health.ts'
import { protocolOf, transportOf } from './proxy/proxy-kinds.ts'
import { type Hop, type ProxyCells, ProxyState, proxyCells } from './proxy/proxy-state.ts'
import { underKey } from './transport/tls-options.ts'
import { ChainTransport } from './transport/transport-chain.ts'

type Options = Pick<GatewayOptions, 'proxy' | 'upstreams' | 'upstream' | 'bind' | 'udp'>
type Chain = Extract<UpstreamOptions, { kind: 'chain' }>

/** What several threads know together: for each name, of each proxy of its chain, or of the members of its group. */
export interface UpstreamCells {
  readonly chains: { readonly [name: string]: readonly ProxyCells[] }
  readonly groups: { readonly [name: string]: Int32Array }
}

/** `associations`: of all threads together, at most. */
export function upstreamCells({ upstreams }: Pick<Options, 'upstreams'>, associations: number): UpstreamCells {
  const chains: [string, readonly ProxyCells[]][] = []
  const groups: [string, Int32Array][] = []
  for (const [name, upstream] of Object.entries(upstreams)) {
    if (upstream.kind === 'group') groups.push([name, groupCells(upstream.members.length)])
    else chains.push([name, upstream.hops.map(() => proxyCells(associations))])
  }
  return { chains: Object.fromEntries(chains), groups: Object.fromEntries(groups) }
}

export class Upstreams {
  readonly options: Options
  /** By name and place in the chain; undefined: no proxy. */
  readonly #states = new Map<string, readonly (ProxyState | undefined)[]>()
  readonly #groups = new Map<string, GroupState>()

  /**
   * Throws ConfigError.
   * @param cells of upstreamCells(), for several threads
   */
  constructor(options: Options, log: HealthLog, cells?: UpstreamCells) {
    this.options = options
    for (const [name, upstream] of Object.entries(options.upstreams)) {
      if (upstream.kind === 'group') {
        this.#groups.set(name, new GroupState(name, upstream, log, cells?.groups[name]))
        continue
      }
      const stateOf = (hop: Upstream, at: number) => {
        if (!isProxy(hop)) return undefined
        const known = { ...hop, udp: udpWayOf(hop, options.udp.mode) }
        const { handshake } = options.upstream
        return underKey(name, () => new ProxyState(known, handshake, log, cells?.chains[name]?.[at]))
      }
      this.#states.set(name, upstream.hops.map(stateOf))
    }
  }

  /**
   * The name of the default proxy has been looked up when it resolves, if it can be; the others meanwhile. Behind another hop it is
   * that hop's to look up. Of a group one member is enough.
   */
  async ready(): Promise<void> {
    for (const [first] of this.#states.values()) void first?.ready()
    await this.#isReady(this.options.proxy)
  }

  async #isReady(name: string): Promise<void> {
    const upstream = this.options.upstreams[name]
    if (upstream?.kind === 'group') await Promise.race(upstream.members.map(member => this.#isReady(member)))
    else await this.#states.get(name)?.[0]?.ready()
  }

  group(name: string): GroupState {
    return this.#groups.get(name)!
  }

  /** @param at place in the chain */
  state(name: string, at: number): ProxyState {
    return this.#states.get(name)![at]!
  }
}

const isProxy = (hop: Upstream): hop is Hop => hop.kind !== 'direct' && hop.kind !== 'reject'

export interface DialerParts {
  readonly poller: Poller
  readonly arena: Arena
  readonly log: Pick<HealthLog, 'warn'>
}

/** The dialers of one data plane, made as they are asked for. */
export class Dialers {
  readonly #upstreams: Upstreams
  readonly #parts: DialerParts
  readonly #made = new Map<string, Dialer>()

  constructor(upstreams: Upstreams, parts: DialerParts) {
    this.#upstreams = upstreams
    this.#parts = parts
  }

  /** `name`: of an upstream that there is. */
  get(name: string): Dialer {
    const made = this.#made.get(name)
    if (made !== undefined) return made
    const upstream = this.#upstreams.options.upstreams[name]!
    const dialer = upstream.kind === 'group' ? this.#group(name, upstream) : this.#chain(name, upstream)
    this.#made.set(name, dialer)
    return dialer
  }

  #group(name: string, { members }: Group): Dialer {
    const dialers = members.map(member => this.get(member))
    return new GroupDialer({ poller: this.#parts.poller, state: this.#upstreams.group(name), dialers })
  }

  #chain(name: string, { hops }: Chain): Dialer {
    const { poller, arena, log } = this.#parts
    const { upstream, bind } = this.#upstreams.options
    let last: Dialer | undefined
    let lastName = 'direct://'
    for (const [at, hop] of hops.entries()) {
      if (hop.kind === 'reject') return new RejectDialer()
      if (hop.kind === 'direct') {
        last = new DirectDialer(poller, arena, bindingOf(hop, bind), at < hops.length - 1)
        continue
      }
      const proxy = this.#upstreams.state(name, at)
      const through = last
      const chained = through && new ChainTransport(poller, through, lastName, serverOf(hop))
      const transport = transportOf(proxy, poller, bind, chained)
      const chain = through && { through, name: lastName, server: serverOf(hop), level: at }
      const isShared = at === hops.length - 1 && !hops.some(each => isProxy(each) && each.isPerSource)
      const pool = isShared ? upstream.pool : 0
      const protocol = protocolOf(proxy, arena)
      last = new ProxyDialer({ poller, arena, proxy, transport, protocol, pool, binding: bind, log, chain })
      lastName = proxy.name
    }
    return last!
  }

  /** It is where packets of the gateway itself go. */
  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    for (const dialer of this.#made.values()) if (dialer.isUpstream(destination, client)) return true
    return false
  }

  /** The sums of all. */
  counters(): Record<string, number> {
    const sums: Record<string, number> = {}
    for (const dialer of this.#made.values())
      for (const [name, value] of Object.entries(dialer.counters())) sums[name] = (sums[name] ?? 0) + value
    return sums
  }

  /** Idempotent. */
  close(): void {
    for (const dialer of this.#made.values()) dialer.close()
  }
}

function bindingOf({ interface: name, mark }: Extract<Upstream, { kind: 'direct' }>, bind: Binding): Binding {
  return name === '' && mark === 0 ? bind : { interface: name, mark }
}

function serverOf({ server }: Hop): Destination {
  if ('path' in server) throw new Error('a Unix socket behind another hop')
  const { host, port } = server
  const address = parseAddress(host)
  return address === undefined ? { name: host, port } : { address, port }
}
