/**
 * The configuration: defaults, then a file, then `TUNGATE_…` variables, then flags; the later wins. Each value is
 * checked where it comes from, also when a later one covers it, so that an error names its file and line, variable or
 * flag. Nothing is read from the process here: the caller gives environment and flags.
 */
import { accessSync, constants } from 'node:fs'
import convict from 'convict'
import { readConfigFile, readRegularFile } from './config/file.ts'
import { FormatError } from './config/format-error.ts'
import { KEYS, type Key, variableOf } from './config/keys.ts'
import { parseProxyUrl } from './config/proxy-url.ts'
import { suggestion } from './config/suggest.ts'
import { ConfigError } from './errors.ts'
import type { GatewayOptions, ProxyOptions } from './options.ts'
import { escapeControls, quote } from './redact.ts'

/** Frozen. Durations in milliseconds. */
export interface Config {
  /** undefined: not set, so there is nothing to run. */
  readonly proxy: ProxyOptions | undefined
  readonly tun: Omit<GatewayOptions['tun'], 'fd' | 'pid'> & { readonly fd: number | 'none' }
  readonly upstream: GatewayOptions['upstream']
  readonly bind: GatewayOptions['bind']
  readonly tcp: {
    readonly connectTimeout: number
    readonly halfCloseTimeout: number
    readonly idleTimeout: number
    readonly keepAlive: number
  }
  readonly udp: { readonly idleTimeout: number; readonly maxAssociations: number }
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
  /** Key → its value as a text that can be given again; the proxy's password masked. */
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
  const shown = new Map(KEYS.map(key => [key.path, shownValue(key, values.get(key.path))]))
  return { config, origins, shown }
}

/** What the gateway is told. Throws ConfigError when no proxy is set. */
export function gatewayOptions(config: Config): GatewayOptions {
  if (config.proxy === undefined) throw missingProxy('')
  const { fd, ...tun } = config.tun
  return {
    tun: fd === 'none' ? tun : { ...tun, fd },
    proxy: config.proxy,
    upstream: config.upstream,
    bind: config.bind,
    tcp: {
      connectTimeoutMs: config.tcp.connectTimeout,
      halfCloseTimeoutMs: config.tcp.halfCloseTimeout,
      idleTimeoutMs: config.tcp.idleTimeout,
      keepAliveMs: config.tcp.keepAlive,
    },
    udp: { idleTimeoutMs: config.udp.idleTimeout, maxAssociations: config.udp.maxAssociations },
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
      format: (value: unknown) => void key.format.parse(value),
      sensitive: key.secret === true,
    }
    const [section, name] = key.path.split('.') as [string, string | undefined]
    if (name === undefined) root[section] = leaf
    else root[section] = { ...(root[section] as object | undefined), [name]: leaf }
  }
  return root as convict.Schema<Record<string, unknown>>
}

function parsed(origin: string, path: string, raw: unknown): string | number {
  const key = KEYS.find(candidate => candidate.path === path)!
  try {
    return key.format.parse(raw)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    throw valueError(origin, path, error.found, error.allowed)
  }
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
    if (PLATFORM_VARIABLE.test(name) || /^(tcp|udp|sctp):\/\//.test(raw)) continue
    const path = known.get(name)
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

function assemble(
  values: convict.Config<Record<string, unknown>>,
  origins: Map<string, string>,
  sources: Sources,
): Config {
  const properties = values.getProperties() as unknown as Omit<Config, 'proxy' | 'status'> & {
    proxy: string
    proxyPasswordFile: string
    status: { socket: string }
  }
  const { proxy, proxyPasswordFile, status, ...rest } = properties
  checkTogether(rest, origins)
  const chosen = status.socket !== 'auto'
  const socket = chosen ? status.socket : defaultSocket(rest.tun.name, sources)
  const upstream = sources.requireProxy || proxy !== '' ? upstreamProxy(proxy, proxyPasswordFile, origins) : undefined
  return deepFreeze({ ...rest, proxy: upstream, status: { socket, chosen } })
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
  const allowed = 'socks5://[user:password@]host[:port] (give --proxy URL, TUNGATE_PROXY, or proxy in a file)'
  return valueError(origin, 'proxy', 'nothing', allowed)
}

const PASSWORD_FILE_BYTES = 4096

function upstreamProxy(url: string, passwordFile: string, origins: Map<string, string>): ProxyOptions {
  const origin = origins.get('proxy') ?? ''
  if (url === '') throw missingProxy(origin)
  const proxy = parseProxyUrl(url)
  if (passwordFile === '') {
    if (proxy.username === undefined || proxy.password !== undefined) return proxy
    throw valueError(
      origin,
      'proxy',
      'a user name without a password',
      'socks5://user:password@host, or proxyPasswordFile beside it',
    )
  }
  const source = origins.get('proxyPasswordFile') ?? ''
  if (proxy.username === undefined)
    throw valueError(source, 'proxyPasswordFile', 'no user name in proxy', 'socks5://user@host')
  if (proxy.password !== undefined)
    throw valueError(source, 'proxyPasswordFile', 'a password in proxy too', 'one of the two')
  return { ...proxy, password: readPassword(source, passwordFile) }
}

function readPassword(origin: string, file: string): string {
  let bytes: Buffer
  try {
    bytes = readRegularFile(file, PASSWORD_FILE_BYTES)
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause
    throw new ConfigError('CONFIG_FILE', `${origin}: proxyPasswordFile: ${cause.message}`)
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw valueError(origin, 'proxyPasswordFile', 'bytes that are not UTF-8', 'a password in UTF-8')
  }
  const password = text.replace(/\r?\n$/, '')
  const length = Buffer.byteLength(password)
  if (length < 1 || length > 255)
    throw valueError(origin, 'proxyPasswordFile', `a password of ${length} bytes`, '1 to 255 bytes')
  return password
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

function shownValue(key: Key, value: unknown): string {
  const text = key.format.print(value as string | number)
  if (key.secret !== true || text === '') return text
  return text.replace(
    /^([^:]*:\/\/)([^:@]*)(:.*)?@/s,
    (_, scheme: string, user: string, password?: string) => `${scheme}${user}${password === undefined ? '' : ':***'}@`,
  )
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part)
  return Object.freeze(value)
}
