/**
 * Every key, once: the convict schema, the flags, the variables, `--help` and the tests of docs and config/default.yaml
 * are made from this table. Defaults are values as the format gives them (durations in milliseconds).
 */
import { DEFAULTS, MAX_WORKERS } from '../options.ts'
import {
  addressWithPrefix,
  descriptor,
  duration,
  type Format,
  filePath,
  integer,
  interfaceName,
  oneOf,
  optionalInterface,
  socketPath,
  type Value,
  wordOrInteger,
} from './formats.ts'
import { resolvers, rules, splits } from './list-formats.ts'
import { proxyFormat, upstreamsFormat } from './upstream-formats.ts'

export interface Key {
  /** `tcp.idleTimeout`; sections are one level deep. */
  readonly path: string
  readonly default: Value
  readonly format: Format<Value>
  readonly unit: string
  readonly meaning: string
  /** Word for the value in `--help`. */
  readonly value: string
  /** Short flag beside the one made from the path, with its dashes. */
  readonly short?: string
  readonly secret?: true
}

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const { tun, upstream, bind, tcp, udp, dns, limits, icmp, workers } = DEFAULTS

export const KEYS: readonly Key[] = [
  {
    path: 'proxy',
    default: [],
    format: proxyFormat,
    unit: 'URL',
    value: 'URL',
    secret: true,
    meaning: 'the upstream proxy, a chain of them, or a name of `upstreams`; must be set to run',
  },
  {
    path: 'proxyPasswordFile',
    default: '',
    format: filePath,
    unit: 'path',
    value: 'FILE',
    meaning: "file that holds the proxy's password",
  },
  {
    path: 'upstreams',
    default: [],
    format: upstreamsFormat,
    unit: 'mapping',
    value: '{NAME: URL}',
    secret: true,
    meaning: 'further upstreams and groups, by name',
  },
  {
    path: 'rules',
    default: [],
    format: rules,
    unit: 'list',
    value: '[{to: …}]',
    meaning: 'which flow takes which upstream, the first that fits',
  },
  {
    path: 'rulesFile',
    default: '',
    format: filePath,
    unit: 'path',
    value: 'FILE',
    meaning: 'file of rules instead: YAML, JavaScript or TypeScript',
  },
  {
    path: 'tun.name',
    default: tun.name,
    format: interfaceName,
    unit: 'interface',
    value: 'NAME',
    short: '--tun',
    meaning: 'device to attach to, or to make',
  },
  {
    path: 'tun.fd',
    default: 'none',
    format: descriptor,
    unit: 'descriptor',
    value: 'N',
    meaning: 'inherited descriptor of an attached device; wins over the name',
  },
  {
    path: 'tun.mtu',
    default: tun.mtu,
    format: integer(576, 65_535),
    unit: 'bytes',
    value: 'BYTES',
    short: '--mtu',
    meaning: 'largest packet; at least 1280 with IPv6',
  },
  {
    path: 'tun.address4',
    default: tun.address4,
    format: addressWithPrefix(4),
    unit: 'address/bits',
    value: 'ADDR',
    meaning: 'IPv4 address of a device that tungate makes',
  },
  {
    path: 'tun.address6',
    default: tun.address6,
    format: addressWithPrefix(6),
    unit: 'address/bits',
    value: 'ADDR',
    meaning: 'IPv6 address of a device that tungate makes',
  },
  {
    path: 'tun.offload',
    default: tun.offload,
    format: oneOf('auto', 'off'),
    unit: '',
    value: 'auto|off',
    short: '--offload',
    meaning: "the kernel's segmentation and checksum offload",
  },
  {
    path: 'upstream.handshake',
    default: upstream.handshake,
    format: oneOf('auto', 'strict', 'pipelined'),
    unit: '',
    value: 'auto|strict|pipelined',
    meaning: 'message by message, or in one write',
  },
  {
    path: 'upstream.pool',
    default: upstream.pool,
    format: integer(0, 256),
    unit: 'count',
    value: 'N',
    meaning: 'connections to the proxy made in advance; 0: none',
  },
  {
    path: 'bind.interface',
    default: bind.interface,
    format: optionalInterface,
    unit: 'interface',
    value: 'IF',
    meaning: 'interface by which the sockets to the proxy leave',
  },
  {
    path: 'bind.mark',
    default: bind.mark,
    format: integer(0, 4_294_967_295),
    unit: 'SO_MARK',
    value: 'N',
    short: '--mark',
    meaning: 'mark of the sockets to the proxy; 0: none',
  },
  {
    path: 'tcp.connectTimeout',
    default: tcp.connectTimeoutMs,
    format: duration(100, 10 * MINUTE),
    unit: 'time',
    value: 'TIME',
    meaning: 'wait for the proxy to open a connection',
  },
  {
    path: 'tcp.halfCloseTimeout',
    default: tcp.halfCloseTimeoutMs,
    format: duration(SECOND, 24 * HOUR),
    unit: 'time',
    value: 'TIME',
    meaning: 'silence after one side has ended',
  },
  {
    path: 'tcp.idleTimeout',
    default: tcp.idleTimeoutMs,
    format: duration(SECOND, 168 * HOUR),
    unit: 'time',
    value: 'TIME',
    meaning: 'silence after which a connection is ended',
  },
  {
    path: 'tcp.keepAlive',
    default: tcp.keepAliveMs,
    format: duration(SECOND, 24 * HOUR, 'off'),
    unit: 'time',
    value: 'TIME',
    meaning: 'silence after which the client is probed; 0: off',
  },
  {
    path: 'udp.idleTimeout',
    default: udp.idleTimeoutMs,
    format: duration(SECOND, 24 * HOUR),
    unit: 'time',
    value: 'TIME',
    meaning: 'silence after which an association is ended',
  },
  {
    path: 'udp.maxAssociations',
    default: udp.maxAssociations,
    format: integer(1, 65_536),
    unit: 'count',
    value: 'N',
    meaning: 'UDP client endpoints; the least recently used goes',
  },
  {
    path: 'udp.mode',
    default: udp.mode,
    format: oneOf('auto', 'associate', 'tcp', 'off'),
    unit: '',
    value: 'auto|associate|tcp|off',
    short: '--udp',
    meaning: 'how datagrams reach the proxy: what it can, its relay, a stream, not at all',
  },
  {
    path: 'udp.quic',
    default: udp.quic,
    format: oneOf('allow', 'reject'),
    unit: '',
    value: 'allow|reject',
    meaning: 'datagrams to port 443; reject: browsers take TCP at once',
  },
  {
    path: 'dns.mode',
    default: dns.mode,
    format: oneOf('auto', 'map', 'forward'),
    unit: '',
    value: 'auto|map|forward',
    short: '--dns',
    meaning: 'queries to port 53: answered, answered with virtual addresses, or plain flows',
  },
  {
    path: 'dns.resolver',
    default: dns.resolver,
    format: resolvers,
    unit: 'URLs',
    value: 'URL',
    meaning: 'asked through the proxy where whom the client asks cannot be reached',
  },
  {
    path: 'dns.split',
    default: [],
    format: splits,
    unit: 'mapping',
    value: '{SUFFIX: ADDR}',
    meaning: 'resolvers of their own for suffixes, asked beside the tun',
  },
  {
    path: 'dns.mapFile',
    default: dns.mapFile,
    format: filePath,
    unit: 'path',
    value: 'FILE',
    meaning: 'file that keeps virtual addresses across restarts',
  },
  {
    path: 'dns.cacheEntries',
    default: dns.cacheEntries,
    format: integer(0, 1_000_000),
    unit: 'count',
    value: 'N',
    meaning: 'answers kept; 0: none',
  },
  {
    path: 'limits.flows',
    default: limits.flows,
    format: integer(1, 65_536),
    unit: 'count',
    value: 'N',
    meaning: 'live TCP flows; more must wait',
  },
  {
    path: 'limits.dials',
    default: limits.dials,
    format: integer(1, 65_536),
    unit: 'count',
    value: 'N',
    meaning: 'connections being opened at once',
  },
  {
    path: 'limits.dialsPerSource',
    default: limits.dialsPerSource,
    format: integer(1, 65_536),
    unit: 'count',
    value: 'N',
    meaning: 'the same, for one client address',
  },
  {
    path: 'icmp.echo',
    default: icmp.echo,
    format: oneOf('off', 'reply'),
    unit: '',
    value: 'off|reply',
    short: '--echo',
    meaning: 'answer pings for every address (a made-up answer)',
  },
  {
    path: 'workers',
    default: workers,
    format: wordOrInteger('auto', 1, MAX_WORKERS),
    unit: 'count',
    value: 'auto|N',
    meaning: 'threads that move packets, each with a queue of the device',
  },
  {
    path: 'log.level',
    default: 'info',
    format: oneOf('error', 'warn', 'info', 'debug'),
    unit: '',
    value: 'LEVEL',
    meaning: 'error, warn, info or debug',
  },
  {
    path: 'log.format',
    default: 'text',
    format: oneOf('text', 'json'),
    unit: '',
    value: 'text|json',
    meaning: 'lines for people or for machines',
  },
  {
    path: 'status.socket',
    default: 'auto',
    format: socketPath,
    unit: 'path',
    value: 'PATH',
    meaning: "Unix socket of `tungate status`; '': off",
  },
]

export const SECTIONS: readonly string[] = [
  ...new Set(KEYS.filter(key => key.path.includes('.')).map(key => key.path.split('.')[0]!)),
]

/** tcp.idleTimeout → TUNGATE_TCP_IDLE_TIMEOUT */
export function variableOf(key: Key): string {
  return `TUNGATE_${words(key.path).join('_').toUpperCase()}`
}

/** tcp.idleTimeout → --tcp-idle-timeout */
export function flagOf(key: Key): string {
  return `--${words(key.path).join('-')}`
}

function words(path: string): string[] {
  return path.split(/\.|(?=[A-Z])/).map(word => word.toLowerCase())
}
