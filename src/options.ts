import type { EventEmitter } from 'node:events'

/** A SOCKS5 proxy over TCP, as library users may write it. */
export interface ProxyOptions {
  /** Host name, IPv4 or IPv6 address (no brackets). */
  readonly host: string
  readonly port: number
  readonly username?: string
  readonly password?: string
}

/** In a user name: the address of the client. */
export const SOURCE = '{source}'

/** Where a proxy listens. Hosts are names or addresses, without brackets. */
export type Server = { readonly host: string; readonly port: number } | { readonly path: string }

export interface Tls {
  /** Files, PEM: whom to believe in place of the well-known authorities, and who we are. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** The name in the certificate, when it is not the host. */
  readonly servername?: string
  /** The certificate is not checked at all. */
  readonly insecure: boolean
}

/** Which rungs of the ladder may be used. */
export type UdpWay = 'auto' | 'associate' | 'tcp' | 'off'

interface Proxied {
  readonly server: Server
  readonly username?: string
  readonly password?: string
  /** `{source}` in the user name is to be replaced. */
  readonly isPerSource: boolean
  readonly udp: UdpWay
}

export type Upstream =
  | ({ readonly kind: 'socks5'; readonly tls?: Tls } & Proxied)
  /** `names`: 4a, the proxy looks names up. */
  | ({ readonly kind: 'socks4'; readonly names: boolean } & Proxied)
  | ({ readonly kind: 'http'; readonly tls?: Tls } & Proxied)
  /** interface '' and mark 0 for none. */
  | { readonly kind: 'direct'; readonly interface: string; readonly mark: number }
  | { readonly kind: 'reject' }

export type GroupPolicy = 'failover' | 'round-robin' | 'least-latency'

export type UpstreamOptions =
  | {
      readonly kind: 'chain'
      /** One or more, the one nearest to us first. */
      readonly hops: readonly Upstream[]
      /** For people: without passwords. */
      readonly text: string
    }
  | {
      readonly kind: 'group'
      readonly policy: GroupPolicy
      /** Names of upstreams and of groups; at least one, each once, in the order of preference. */
      readonly members: readonly string[]
      /** Pause between two probes of a member that is idle. */
      readonly probeMs: number
    }

/** Who is asked for names. */
export interface ResolverAddress {
  /** tls: RFC 7858; https: RFC 8484. */
  readonly protocol: 'udp' | 'tcp' | 'tls' | 'https'
  /** An IP address without brackets; of all but udp perhaps a name, which the proxy looks up. */
  readonly host: string
  readonly port: number
  /** Of https. */
  readonly path?: string
}

/** A rule as it is written: each key with its values. `line` 0: there are no lines. */
export interface WrittenRule {
  readonly line: number
  readonly keys: readonly {
    readonly key: string
    readonly line: number
    readonly values: readonly { readonly line: number; readonly text: string }[]
  }[]
}

/** Rules as they are written in the configuration, or the file that they stand in. */
export interface RulesOptions {
  readonly written: readonly WrittenRule[]
  /** Where `written` stands, for errors: a file, a variable, a flag. */
  readonly place: string
  /** Absolute: where the paths of lists in `written` begin. */
  readonly folder: string
  /** Absolute path; '' for none. `written` is empty then. */
  readonly file: string
}

/**
 * What a gateway is told: the plain, frozen object that config.ts makes and that library users write by hand.
 * Every field has its default, unit and reason in config/default.yaml.
 */
export interface GatewayOptions {
  readonly tun: {
    readonly name: string
    /** Inherited descriptor of an attached tun; wins over `name`. */
    readonly fd?: number
    /** Make or attach the device in the namespaces of this process. */
    readonly pid?: number
    readonly mtu: number
    /** `198.18.0.1/15`; '' for none. Set only on a device that we make. */
    readonly address4: string
    readonly address6: string
    /** vnet_hdr checksum and segmentation offload: used when the kernel has it, or never. */
    readonly offload: 'auto' | 'off'
  }
  /** The name of the upstream that a flow takes when no rule says another. */
  readonly proxy: string
  /** By name; `direct` and `reject` are always among them. */
  readonly upstreams: { readonly [name: string]: UpstreamOptions }
  /** Which upstream a flow takes instead. */
  readonly rules: RulesOptions
  /** How a proxy is spoken to. */
  readonly upstream: {
    /** One message after another, all in one write, or whichever the proxy understands. */
    readonly handshake: 'auto' | 'strict' | 'pipelined'
    /** Connections made in advance at most, filled by demand; 0 for none. */
    readonly pool: number
  }
  /** How the gateway's own sockets leave the machine beside the tun. */
  readonly bind: {
    readonly interface: string
    /** SO_MARK; 0 for none. */
    readonly mark: number
  }
  readonly tcp: {
    readonly connectTimeoutMs: number
    readonly halfCloseTimeoutMs: number
    readonly idleTimeoutMs: number
    readonly keepAliveMs: number
  }
  readonly udp: {
    readonly idleTimeoutMs: number
    /** Client source endpoints with a live association; the least recently used goes first. */
    readonly maxAssociations: number
    /** Whatever way the upstream has; a relay alone, a stream alone, none. */
    readonly mode: UdpWay
    /** Datagrams to port 443: as others, or port unreachable at once. */
    readonly quic: 'allow' | 'reject'
  }
  /** What becomes of queries to port 53. */
  readonly dns: {
    /** Answered in the best way there is; answered with addresses that stand for the names; left alone. */
    readonly mode: 'auto' | 'map' | 'forward'
    /** Asked through the upstream where that whom the client asks cannot be, in this order. */
    readonly resolver: readonly ResolverAddress[]
    /** By suffix in lower case, '' for all names: asked beside the tun. */
    readonly split: { readonly [suffix: string]: ResolverAddress }
    /** Where addresses that stand for names are kept across restarts; '' for nowhere. */
    readonly mapFile: string
    /** Answers kept at most; 0 for none. */
    readonly cacheEntries: number
  }
  readonly limits: {
    readonly flows: number
    readonly dials: number
    readonly dialsPerSource: number
  }
  readonly icmp: { readonly echo: 'off' | 'reply' }
  /** Data planes, each in a thread with a queue of the device; 1: in the calling thread. 1 to 16. */
  readonly workers: 'auto' | number
}

const SECOND = 1_000
const MINUTE = 60 * SECOND

/** What holds where nothing is said; the reasons stand in config/default.yaml. */
export const DEFAULTS: Omit<GatewayOptions, 'proxy' | 'upstreams' | 'rules'> = {
  tun: {
    name: 'tungate0',
    mtu: 1_500,
    address4: '198.18.0.1/15',
    address6: 'fd74:756e::1/64',
    offload: 'auto',
  },
  upstream: { handshake: 'auto', pool: 16 },
  bind: { interface: '', mark: 0 },
  tcp: {
    connectTimeoutMs: 10 * SECOND,
    halfCloseTimeoutMs: 5 * MINUTE,
    idleTimeoutMs: 120 * MINUTE,
    keepAliveMs: MINUTE,
  },
  udp: { idleTimeoutMs: MINUTE, maxAssociations: 1_024, mode: 'auto', quic: 'allow' },
  dns: {
    mode: 'auto',
    resolver: [
      { protocol: 'https', host: '1.1.1.1', port: 443, path: '/dns-query' },
      { protocol: 'tls', host: '9.9.9.9', port: 853 },
    ],
    split: {},
    mapFile: '',
    cacheEntries: 10_000,
  },
  limits: { flows: 10_000, dials: 1_024, dialsPerSource: 256 },
  icmp: { echo: 'off' },
  workers: 'auto',
}

export const MAX_WORKERS = 16

/** URLs with `user:password`, the first one nearest to us; or the name of an upstream. */
export type ProxyInput = ProxyOptions | string | readonly string[]

export interface GroupInput {
  readonly group: GroupPolicy
  readonly members: readonly string[]
  /** Default 10,000. */
  readonly probeMs?: number
}

export interface DnsInput extends Partial<Omit<GatewayOptions['dns'], 'resolver' | 'split'>> {
  /** Each as a key `dns.resolver` of a file has it, or complete. */
  readonly resolver?: readonly (string | ResolverAddress)[]
  readonly split?: { readonly [suffix: string]: string | ResolverAddress }
}

type OneOrMore<T> = T | readonly T[]

/** A rule of a library user: the keys are those of a rules file (docs/rules.md). */
export interface RuleInput {
  /** An upstream, a group, `direct`, `reject` or `drop`. */
  readonly to: string
  readonly name?: string | undefined
  readonly protocol?: OneOrMore<'tcp' | 'udp'> | undefined
  readonly source?: OneOrMore<string> | undefined
  readonly destination?: OneOrMore<string> | undefined
  readonly destinationFile?: OneOrMore<string> | undefined
  readonly port?: OneOrMore<number | string> | undefined
  readonly domain?: OneOrMore<string> | undefined
  readonly domainSuffix?: OneOrMore<string> | undefined
  readonly domainFile?: OneOrMore<string> | undefined
  readonly domainSuffixFile?: OneOrMore<string> | undefined
  readonly sniff?: boolean | undefined
}

/** What a library user writes: the proxy, and whatever differs from DEFAULTS. */
export type GatewayInput = {
  readonly proxy: ProxyInput
  readonly upstreams?: { readonly [name: string]: ProxyInput | GroupInput | UpstreamOptions }
  /** In the order in which they count; or the path of the file with them. */
  readonly rules?: readonly RuleInput[] | string | RulesOptions
  readonly dns?: DnsInput
} & {
  readonly [section in Exclude<keyof typeof DEFAULTS, 'dns'>]?: Partial<GatewayOptions[section]>
}

/** How many data planes there are to be. */
export function workerCount({ workers }: Pick<GatewayOptions, 'workers'>): number {
  return workers === 'auto' ? 1 : workers
}

/** A live flow, for people: addresses are text (`198.18.0.1:50000`, `[fd74:756e::1]:53`). */
export interface FlowView {
  readonly id: number
  readonly protocol: 'tcp' | 'udp'
  readonly client: string
  readonly destination: string
  readonly state: string
  readonly ageMs: number
  /** Bytes from the client, and to it. */
  readonly bytesUp: number
  readonly bytesDown: number
  /** That the client asked for, where it is known: behind a virtual address, or from its first bytes. */
  readonly domain?: string
  /** Where there was something to decide: the rule, and where it leads. */
  readonly why?: string
}

/**
 * A running gateway. It emits 'error' with a GatewayError once, when it cannot go on: whoever owns it then calls
 * `close()`.
 */
export interface Gateway extends EventEmitter {
  /** The device's name; known once start() has resolved. */
  readonly tunName: string
  /** Opens device, stack and dialer. Rejects with GatewayError, and then nothing is left open. */
  start(): Promise<void>
  /** Ends all flows and closes in the reverse order. Idempotent; also while start() is under way. */
  close(): Promise<void>
  counters(): Readonly<Record<string, number>>
  flows(): FlowView[]
  /**
   * Reads the rules and their lists again, or puts others in their place; flows that are there stay where they are. Rejects
   * with ConfigError, and then nothing has changed. Changes of the files are seen without it.
   */
  reloadRules(rules?: GatewayInput['rules']): Promise<void>
}
