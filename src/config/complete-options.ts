/** What a library user writes → all that a gateway is told. */
import { ConfigError } from '../errors.ts'
import { DEFAULTS, type GatewayInput, type GatewayOptions, MAX_WORKERS } from '../options.ts'
import { deepFreeze } from './deep-freeze.ts'
import { dnsFromInput, rulesFromInput } from './list-input.ts'
import { upstreamsFromInput } from './upstream-input.ts'

/** Fills in DEFAULTS. Throws ConfigError for an unknown section or field, or a value of another type. */
export function completeOptions(input: GatewayInput): GatewayOptions {
  const upstreams = deepFreeze(upstreamsFromInput(input))
  const sound: Record<string, object> = {}
  const dns = deepFreeze(dnsFromInput(input.dns ?? {}))
  const rules = deepFreeze(rulesFromInput(input.rules ?? []))
  const { proxy: _, upstreams: _a, rules: _b, workers: _c, ...sections } = { ...input, dns } as Record<string, unknown>
  for (const section of Object.keys(sections)) {
    if (section !== 'log' && !(section in DEFAULTS)) throw wrong(section, 'a section', Object.keys(DEFAULTS).join(', '))
  }
  const { workers: _auto, ...known } = DEFAULTS
  for (const [section, defaults] of Object.entries(known)) {
    const given = Object.fromEntries(
      Object.entries((sections[section] ?? {}) as object).filter(([, value]) => value !== undefined),
    )
    for (const [field, value] of Object.entries(given)) requireLike(`${section}.${field}`, value, defaults, field)
    sound[section] = Object.freeze({ ...defaults, ...given })
  }
  const workers = checkedWorkers(input)
  return Object.freeze({ ...upstreams, rules, ...sound, workers }) as unknown as GatewayOptions
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

const WORDS: { readonly [path: string]: readonly string[] } = {
  'upstream.handshake': ['auto', 'strict', 'pipelined'],
  'tun.offload': ['auto', 'off'],
  'icmp.echo': ['off', 'reply'],
  'udp.mode': ['auto', 'associate', 'tcp', 'off'],
  'udp.quic': ['allow', 'reject'],
  'dns.mode': ['auto', 'map', 'forward'],
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
