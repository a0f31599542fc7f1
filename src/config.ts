/**
 * The configuration: defaults, then a file, then `TUNGATE_…` variables, then flags; the later wins. Each value is
 * checked where it comes from, also when a later one covers it, so that an error names its file and line, variable or
 * flag. Nothing is read from the process here: the caller gives environment and flags.
 */
import { accessSync, constants } from 'node:fs'
import { dirname, resolve } from 'node:path'
import convict from 'convict'
import { deepFreeze } from './config/deep-freeze.ts'
import { readConfigFile } from './config/file.ts'
import { FormatError } from './config/format-error.ts'
import type { Value } from './config/formats.ts'
import { KEYS, variableOf } from './config/keys.ts'
import type { Split } from './config/list-formats.ts'
import { suggestion } from './config/suggest.ts'
import { resolveUpstreams, type WrittenPlace } from './config/upstreams.ts'
import type { WrittenChain, WrittenGroup, WrittenHop } from './config/written-upstream.ts'
import { ConfigError } from './errors.ts'
import type { GatewayOptions, WrittenRule } from './options.ts'
import { escapeControls, quote } from './redact.ts'

/** Frozen. Durations in milliseconds. */
export interface Config {
  /** undefined: not set, so there is nothing to run. */
  readonly proxy: string | undefined
  readonly upstreams: GatewayOptions['upstreams']
  readonly rules: GatewayOptions['rules']
  readonly tun: Omit<GatewayOptions['tun'], 'fd' | 'pid'> & { readonly fd: number | 'none' }
  readonly upstream: GatewayOptions['upstream']
  readonly bind: GatewayOptions['bind']
  readonly tcp: {
    readonly connectTimeout: number
    readonly halfCloseTimeout: number
    readonly idleTimeout: number
    readonly keepAlive: number
  }
  readonly udp: Pick<GatewayOptions['udp'], 'maxAssociations' | 'mode' | 'quic'> & { readonly idleTimeout: number }
  readonly dns: GatewayOptions['dns']
  readonly limits: GatewayOptions['limits']
  readonly icmp: GatewayOptions['icmp']
  readonly workers: GatewayOptions['workers']
  readonly log: { readonly level: 'error' | 'warn' | 'info' | 'debug'; readonly format: 'text' | 'json' }
  /** '' for off; `chosen`: the user named it, so a gateway that cannot have it must not start. */
  readonly status: { readonly socket: string; readonly chosen: boolean }
}

export interface Sources {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly flags: readonly FlagEntry[]
  /** --config; TUNGATE_CONFIG otherwise. */
  readonly file?: string
  readonly uid: number
  readonly requireProxy: boolean
}

/** A flag as the user wrote it, its key, and its text. */
export interface FlagEntry {
  readonly flag: string
  readonly path: string
  readonly raw: string
}

export interface Loaded {
  readonly config: Config
  /** Key → where its value comes from (`gateway.yaml:3`, `TUNGATE_TUN_MTU`, `--mtu`); a key at its default is not in it. */
  readonly origins: ReadonlyMap<string, string>
  /** Key → its value as a text that can be given again; passwords masked. */
  readonly shown: ReadonlyMap<string, string>
}

interface Entry {
  readonly origin: string
  readonly path: string
  readonly raw: unknown
}

/** Throws ConfigError with one line for the user. Does nothing but read files. */
export function loadConfig(sources: Sources): Loaded {
  const layer = environmentEntries(sources.environment)
  const file = sources.file ?? sources.environment.TUNGATE_CONFIG
  if (file === '') {
    const origin = sources.file === undefined ? 'TUNGATE_CONFIG' : '--config'
    throw new ConfigError('CONFIG_VALUE', `${origin}: found an empty text, allowed the path of a file`)
  }
  const values = convict(schema(), { env: {}, args: [] })
  const origins = new Map<string, string>()
  for (const { origin, path, raw } of [
    ...(file === undefined ? [] : fileEntries(file)),
    ...layer,
    ...sources.flags.map(flagEntry),
  ]) {
    values.set(path, parsed(origin, path, raw))
    origins.set(path, origin)
  }
  values.validate({ allowed: 'strict' })
  const config = assemble(values, origins, sources)
  const shown = new Map(KEYS.map(key => [key.path, key.format.print(values.get(key.path) as Value)]))
  return { config, origins, shown }
}

/** What the gateway is told. Throws ConfigError when no proxy is set. */
export function gatewayOptions(config: Config): GatewayOptions {
  if (config.proxy === undefined) throw missingProxy('')
  const { fd, ...tun } = config.tun
  const { idleTimeout, ...udp } = config.udp
  return {
    tun: fd === 'none' ? tun : { ...tun, fd },
    proxy: config.proxy,
    upstreams: config.upstreams,
    rules: config.rules,
    upstream: config.upstream,
    bind: config.bind,
    tcp: {
      connectTimeoutMs: config.tcp.connectTimeout,
      halfCloseTimeoutMs: config.tcp.halfCloseTimeout,
      idleTimeoutMs: config.tcp.idleTimeout,
      keepAliveMs: config.tcp.keepAlive,
    },
    udp: { ...udp, idleTimeoutMs: idleTimeout },
    dns: config.dns,
    limits: config.limits,
    icmp: config.icmp,
    workers: config.workers,
  }
}

function schema(): convict.Schema<Record<string, unknown>> {
  const root: Record<string, unknown> = {}
  for (const key of KEYS) {
    const leaf = {
      doc: key.meaning,
      default: key.default,
      // What is set has been through `parsed`, and a structured value does not parse itself.
      format: (value: unknown) => void (key.format.isStructured || key.format.parse(value)),
      sensitive: key.secret === true,
    }
    const [section, name] = key.path.split('.') as [string, string | undefined]
    if (name === undefined) root[section] = leaf
    else root[section] = { ...(root[section] as object | undefined), [name]: leaf }
  }
  return root as convict.Schema<Record<string, unknown>>
}

function parsed(origin: string, path: string, raw: unknown): Value {
  const key = KEYS.find(candidate => candidate.path === path)!
  try {
    return key.format.parse(raw)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    const { line = 0, within = '' } = error.place ?? {}
    throw valueError(atLine(origin, line), `${path}${within}`, error.found, error.allowed)
  }
}

/** A part of what a file holds. */
function atLine(origin: string, line: number): string {
  return line === 0 ? origin : origin.replace(/:\d+$/, `:${line}`)
}

function valueError(origin: string, path: string, found: string, allowed: string): ConfigError {
  return new ConfigError(
    'CONFIG_VALUE',
    `${origin === '' ? '' : `${origin}: `}${path}: found ${found}, allowed ${allowed}`,
  )
}

function fileEntries(file: string): Entry[] {
  const name = escapeControls(file)
  return readConfigFile(file).map(({ path, raw, line }) => ({ origin: `${name}:${line}`, path, raw }))
}

function flagEntry({ flag, path, raw }: FlagEntry): Entry {
  return { origin: flag, path, raw }
}

/** Variables that container platforms make for a service which happens to be named tungate. */
const PLATFORM_VARIABLE = /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/

function environmentEntries(environment: Sources['environment']): Entry[] {
  const known = new Map(KEYS.map(key => [variableOf(key), key.path]))
  const found: Entry[] = []
  for (const [name, raw] of Object.entries(environment)) {
    if (!name.startsWith('TUNGATE_') || name === 'TUNGATE_CONFIG' || raw === undefined) continue
    const path = known.get(name)
    if (path === undefined && (PLATFORM_VARIABLE.test(name) || /^(tcp|udp|sctp):\/\//.test(raw))) continue
    if (path === undefined) {
      const near = suggestion(name, [...known.keys(), 'TUNGATE_CONFIG'])
      const text = /^\w{1,60}$/.test(name) ? name : quote(name)
      throw new ConfigError(
        'CONFIG_KEY',
        `${text}: unknown variable${near === '' ? ', allowed those of `tungate help config`' : near}`,
      )
    }
    found.push({ origin: name, path, raw })
  }
  return found
}

/** What is put together from more than its key. */
type NotAsWritten = 'proxy' | 'upstreams' | 'rules' | 'dns' | 'status'

function assemble(
  values: convict.Config<Record<string, unknown>>,
  origins: Map<string, string>,
  sources: Sources,
): Config {
  const properties = values.getProperties() as unknown as Omit<Config, NotAsWritten> & {
    proxy: readonly WrittenHop[]
    proxyPasswordFile: string
    upstreams: readonly (WrittenChain | WrittenGroup)[]
    rules: readonly WrittenRule[]
    rulesFile: string
    dns: Omit<Config['dns'], 'split'> & { split: readonly Split[] }
    status: { socket: string }
  }
  const { proxy, proxyPasswordFile: passwordFile, upstreams: written, status, ...others } = properties
  const { rules, rulesFile, dns, ...rest } = others
  checkTogether(rest, origins)
  const chosen = status.socket !== 'auto'
  const socket = chosen ? status.socket : defaultSocket(rest.tun.name, sources)
  if (sources.requireProxy && proxy.length === 0) throw missingProxy(origins.get('proxy') ?? '')
  const placeText = ({ key, line, within }: WrittenPlace) => {
    const origin = origins.get(key)
    return `${origin === undefined ? '' : `${atLine(origin, line)}: `}${key}${within}`
  }
  const upstreams = resolveUpstreams({ proxy, passwordFile, upstreams: written }, placeText)
  const split = Object.fromEntries(dns.split.map(({ suffix, resolver }) => [suffix, resolver]))
  return deepFreeze({
    ...rest,
    ...upstreams,
    rules: rulesOptions(rules, rulesFile, origins),
    dns: { ...dns, split },
    status: { socket, chosen },
  })
}

function rulesOptions(
  written: readonly WrittenRule[],
  file: string,
  origins: ReadonlyMap<string, string>,
): Config['rules'] {
  const origin = written.length === 0 ? '' : (origins.get('rules') ?? '')
  if (file !== '' && written.length > 0)
    throw valueError(origins.get('rulesFile') ?? '', 'rulesFile', 'a file beside rules', 'one of the two')
  const configFile = /^(.*):\d+$/.exec(origin)?.[1]
  return {
    written,
    place: configFile ?? origin,
    folder: configFile === undefined ? resolve() : dirname(resolve(configFile)),
    file: file === '' ? '' : resolve(file),
  }
}

function checkTogether(config: Pick<Config, 'tun' | 'bind' | 'workers'>, origins: Map<string, string>): void {
  const { mtu, address6, name } = config.tun
  if (mtu < 1280 && address6 !== '') {
    const origin = origins.get('tun.mtu') ?? ''
    throw valueError(origin, 'tun.mtu', String(mtu), "1280 to 65535 with IPv6 (less with tun.address6 set to '')")
  }
  if (config.workers !== 'auto' && config.workers > 1 && config.tun.fd !== 'none') {
    const found = `${config.workers}, with tun.fd`
    throw valueError(origins.get('workers') ?? '', 'workers', found, '1, because a descriptor is one queue')
  }
  if (config.bind.interface === name) {
    const origin = origins.get('bind.interface') ?? origins.get('tun.name') ?? ''
    throw valueError(
      origin,
      'bind.interface',
      `tun.name, ${quote(name)}`,
      'another interface: traffic to the proxy would come back',
    )
  }
}

function missingProxy(origin: string): ConfigError {
  const allowed =
    'socks5://[user:password@]host[:port], http://, https:// or another scheme (give --proxy URL, TUNGATE_PROXY, or proxy in a file)'
  return valueError(origin, 'proxy', 'nothing', allowed)
}

/** root: /run/tungate; others: their runtime folder, or one of their own below /tmp. */
function defaultSocket(name: string, { environment, uid }: Sources): string {
  const runtime = environment.XDG_RUNTIME_DIR
  if (uid === 0 && isWritable('/run')) return `/run/tungate/${name}.sock`
  return runtime?.startsWith('/') ? `${runtime}/tungate/${name}.sock` : `/tmp/tungate-${uid}/${name}.sock`
}

/** root of a user namespace may not write to /run. */
function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}
