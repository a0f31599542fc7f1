import type { EventEmitter } from 'node:events'

import { ConfigError } from './errors.ts'

/**
 * What a gateway is told: the plain, frozen object that config.ts makes and that library users write by hand.
 * Every field has its default, unit and reason in config/default.yaml.
 */
export interface ProxyOptions {
  /** Host name, IPv4 or IPv6 address (no brackets). */
  readonly host: string
  readonly port: number
  readonly username?: string
  readonly password?: string
}

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
  readonly proxy: ProxyOptions
  /** How the proxy is spoken to. */
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
export const DEFAULTS: Omit<GatewayOptions, 'proxy'> = {
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
  udp: { idleTimeoutMs: MINUTE, maxAssociations: 1_024 },
  limits: { flows: 10_000, dials: 1_024, dialsPerSource: 256 },
  icmp: { echo: 'off' },
  workers: 'auto',
}

export const MAX_WORKERS = 16

/** What a library user writes: the proxy, and whatever differs from DEFAULTS. */
export type GatewayInput = { readonly proxy: ProxyOptions } & {
  readonly [section in keyof typeof DEFAULTS]?: Partial<GatewayOptions[section]>
}

/** Fills in DEFAULTS. Throws ConfigError for an unknown section or field, or a value of another type. */
export function completeOptions(input: GatewayInput): GatewayOptions {
  const { host, port } = input.proxy ?? {}
  if (typeof host !== 'string' || host === '') throw wrong('proxy.host', host, 'a host name or an address')
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw wrong('proxy.port', port, '1 to 65535')
  checkCredentials(input.proxy)
  const options: Record<string, object> = { proxy: Object.freeze({ ...input.proxy }) }
  const { proxy: _proxy, workers: _workers, ...sections } = input as Record<string, unknown>
  for (const section of Object.keys(sections)) {
    if (section !== 'log' && !(section in DEFAULTS)) throw wrong(section, 'a section', Object.keys(DEFAULTS).join(', '))
  }
  const { workers: _auto, ...known } = DEFAULTS
  for (const [section, defaults] of Object.entries(known)) {
    const given = Object.fromEntries(
      Object.entries((sections[section] ?? {}) as object).filter(([, value]) => value !== undefined),
    )
    for (const [field, value] of Object.entries(given)) requireLike(`${section}.${field}`, value, defaults, field)
    options[section] = Object.freeze({ ...defaults, ...given })
  }
  const workers = checkedWorkers(input)
  return Object.freeze({ ...options, workers }) as unknown as GatewayOptions
}

function checkedWorkers({ workers = DEFAULTS.workers, tun }: GatewayInput): GatewayOptions['workers'] {
  const found: unknown = workers
  if (found === 'auto') return found
  if (typeof found !== 'number' || !Number.isInteger(found) || found < 1 || found > MAX_WORKERS) {
    throw wrong('workers', found, `auto, or 1 to ${MAX_WORKERS}`)
  }
  if (found > 1 && tun?.fd !== undefined) throw wrong('workers', found, '1 with tun.fd, which is a single queue')
  return found
}

/** RFC 1929: both have 1 to 255 bytes. */
function checkCredentials({ username, password }: ProxyOptions): void {
  if (username === undefined && password === undefined) return
  for (const [field, value] of Object.entries({ username, password })) {
    const bytes = typeof value === 'string' ? Buffer.byteLength(value) : 0
    if (bytes < 1 || bytes > 255) throw wrong(`proxy.${field}`, `${bytes} bytes`, '1 to 255 bytes, both or none')
  }
}

/** How many data planes there are to be. */
export function workerCount({ workers }: Pick<GatewayOptions, 'workers'>): number {
  return workers === 'auto' ? 1 : workers
}

const WORDS: { readonly [path: string]: readonly string[] } = {
  'upstream.handshake': ['auto', 'strict', 'pipelined'],
  'tun.offload': ['auto', 'off'],
  'icmp.echo': ['off', 'reply'],
}

/** Fields without a default: descriptors and process numbers. */
const NUMBERS_WITHOUT_DEFAULT = new Set(['fd', 'pid'])

function requireLike(path: string, value: unknown, defaults: object, field: string): void {
  const like = NUMBERS_WITHOUT_DEFAULT.has(field) ? 0 : (defaults as Record<string, unknown>)[field]
  if (like === undefined) throw wrong(path, value, `one of ${Object.keys(defaults).join(', ')}`)
  if (typeof like === 'string' && typeof value !== 'string') throw wrong(path, value, 'text')
  const words = WORDS[path]
  if (words !== undefined && !words.includes(String(value))) throw wrong(path, value, words.join(', '))
  if (typeof like === 'number' && !(Number.isInteger(value) && Number(value) >= 0)) {
    throw wrong(path, value, 'a whole number, 0 or more')
  }
}

function wrong(path: string, found: unknown, allowed: string): ConfigError {
  return new ConfigError('CONFIG_VALUE', `${path}: found ${String(found)}, allowed: ${allowed}`)
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
}
