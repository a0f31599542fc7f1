/** What the gateway is told about names. */

export interface ResolverAddress {
  readonly protocol: 'udp' | 'tcp'
  /** An IP address. */
  readonly host: string
  readonly port: number
}

export interface DnsOptions {
  /** `forward`: a query is a flow like any other. */
  readonly mode: 'auto' | 'map' | 'forward'
  /** Asked through the proxy where the resolver that the client asked cannot be, in this order. */
  readonly resolver: readonly ResolverAddress[]
  /** By suffix: asked directly, beside the tun. */
  readonly split: Readonly<Record<string, ResolverAddress>>
  /** Where virtual addresses are kept across restarts; '' for nowhere. */
  readonly mapFile: string
  /** Answers kept at most; 0 for none. */
  readonly cacheEntries: number
}

export const DNS_DEFAULTS: DnsOptions = {
  mode: 'auto',
  resolver: [],
  split: {},
  mapFile: '',
  cacheEntries: 10_000,
}
