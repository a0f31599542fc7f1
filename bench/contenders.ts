/** Who takes part, and how each is started, entered and left. */
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { BenchOptions } from './options.ts'
import { PROXY_HOST, PROXY_PORT, prefixOf, type Topology } from './topology.ts'

/** How the load reaches the contender: by speaking SOCKS5 itself, by a tun, or by a redirect of the packet filter. */
export type Way = 'socks' | 'tun' | 'redirect'

export interface Contender {
  readonly name: string
  /** Its name in tables. */
  readonly label: string
  /** Number of its prefix and device, from 1. */
  readonly index: number
  readonly way: Way
  readonly mtu: number
  readonly udp: boolean
  /** Whether its process is Node's, so that a bare node is its floor. */
  readonly isNode: boolean
  readonly isRival: boolean
  /** Words of the command; empty for the bound. Writes files into `folder`. */
  command(folder: string): string[]
}

const REDSOCKS_PORT = 12345

/** Nobody's start carries what this shell has set; an extra CA file costs Node 48 ms. */
export function environmentOf(folder: string): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG } = process.env
  return { PATH, HOME, LANG, XDG_RUNTIME_DIR: folder }
}

/** Splits at blanks; double quotes keep a word together. */
const words = (text: string): string[] => [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(match => match[1] ?? match[2]!)

/** Fills placeholders; `{template:FILE}` becomes the path of a filled copy of FILE in `folder`. */
export function fillCommand(command: string, folder: string, values: Record<string, string | number>): string[] {
  const fill = (text: string) => text.replace(/\{(\w+)\}/g, (whole, key: string) => String(values[key] ?? whole))
  return words(command).map(word =>
    fill(
      word.replace(/\{template:([^}]+)\}/g, (_, file: string) => {
        const copy = join(folder, basename(file))
        writeFileSync(copy, fill(readFileSync(file, 'utf8')))
        return copy
      }),
    ),
  )
}

function redsocksCommand(folder: string): string[] {
  const file = join(folder, 'redsocks.conf')
  writeFileSync(
    file,
    `base { log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables; }
redsocks { local_ip = 127.0.0.1; local_port = ${REDSOCKS_PORT}; ip = ${PROXY_HOST}; port = ${PROXY_PORT}; type = socks5; }
`,
  )
  return ['redsocks', '-c', file]
}

/** Those that take part only when named by `--also` or `--contenders`. */
const EXTRA = ['tungate-plain', 'redsocks']

/** Everybody there is. `cli`: path of the compiled command. */
function allContenders(options: BenchOptions, cli: string): Omit<Contender, 'index'>[] {
  type Make = (index: number, folder: string) => string[]
  const entry = (name: string, label: string, way: Way, mtu: number, make: Make, more: Partial<Contender> = {}) => ({
    name,
    label,
    way,
    mtu,
    udp: way !== 'redirect',
    isNode: false,
    isRival: false,
    command(this: Contender, folder: string) {
      return make(this.index, folder)
    },
    ...more,
  })
  const fill = (command: string, index: number, mtu: number, folder: string) =>
    fillCommand(command, folder, { tun: `bench${index}`, mtu, proxyHost: PROXY_HOST, proxyPort: PROXY_PORT })
  // the crowd alone is as many flows as the default limit
  const base = `run --proxy socks5://${PROXY_HOST}:${PROXY_PORT} --limits-flows ${2 * options.crowd}`
  const tungate = (name: string, label: string, mtu: number, flags: string) => {
    const make: Make = (index, folder) => [
      process.execPath,
      cli,
      ...words(`${base} --tun bench${index} --mtu ${mtu} --status-socket ${join(folder, 'status.sock')}`),
      ...fill(flags, index, mtu, folder),
    ]
    return entry(name, label, 'tun', mtu, make, { isNode: true })
  }
  const { mtu } = options
  return [
    tungate('tungate', `tungate, MTU ${mtu}`, mtu, ''),
    entry('bound', 'bound', 'socks', 1500, () => []),
    ...options.variants.map(variant => tungate(variant.name, variant.label, variant.mtu, variant.command)),
    ...options.rivals.map(({ name, label, mtu, command }) =>
      entry(name, label, 'tun', mtu, (index, folder) => fill(command, index, mtu, folder), { isRival: true }),
    ),
    tungate('tungate-plain', `tungate-plain, MTU ${mtu}`, mtu, '--offload off'),
    entry('redsocks', 'redsocks', 'redirect', 1500, (_, folder) => redsocksCommand(folder)),
  ]
}

/** Those who take part. `cli`: path of the compiled command. @throws Error for a name that is not known, or is twice there. */
export function listContenders(options: BenchOptions, cli: string): Contender[] {
  const all = allContenders(options, cli)
  const names = all.map(({ name }) => name)
  const twice = names.find((name, at) => names.indexOf(name) !== at)
  if (twice !== undefined) throw new Error(`${twice}: two contenders have this name`)
  const byDefault = names.filter(name => !EXTRA.includes(name))
  const wanted = [...(options.contenders.length > 0 ? options.contenders : byDefault), ...options.also]
  const unknown = wanted.find(name => !names.includes(name))
  if (unknown !== undefined) throw new Error(`${unknown} is none of ${names.join(', ')}`)
  return [...new Set(wanted)].map((name, position) => ({
    ...all.find(each => each.name === name)!,
    index: position + 1,
  }))
}

/** A contender with its process, restarted in each round. */
export class Runner {
  readonly contender: Contender
  readonly #topology: Topology
  readonly #folder: string
  #child: ChildProcess | undefined
  #lastWords = ''

  constructor(contender: Contender, topology: Topology, folder: string) {
    this.contender = contender
    this.#topology = topology
    this.#folder = join(folder, contender.name)
    mkdirSync(this.#folder, { recursive: true })
  }

  async prepare(): Promise<void> {
    const { way, index, mtu } = this.contender
    const workers = this.contender.command(this.#folder).some(word => word.startsWith('--workers'))
    if (way === 'tun') await this.#topology.addTun(index, mtu, workers ? ['multi_queue'] : [])
    if (way === 'redirect') await this.#topology.routeBeside(index)
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Returns at once; the caller knows by an echo that it serves. */
  start(): void {
    const argv = this.contender.command(this.#folder)
    if (argv.length === 0) return
    const child = this.#topology.start('gateway', argv, { environment: environmentOf(this.#folder) })
    this.#lastWords = ''
    const listen = (chunk: unknown) => {
      this.#lastWords = `${this.#lastWords}${chunk}`.slice(-2000)
    }
    child.stdout?.on('data', listen)
    child.stderr?.on('data', listen)
    this.#child = child
  }

  /** The last line it said if it has ended, else undefined. */
  get obituary(): string | undefined {
    const child = this.#child
    if (child === undefined || (child.exitCode === null && child.signalCode === null)) return undefined
    const line = this.#lastWords.trim().split('\n').at(-1) || 'no word'
    return `${this.contender.name} ended (${child.exitCode ?? child.signalCode}): ${line}`
  }

  async dress(): Promise<void> {
    const { way, index, mtu } = this.contender
    if (way === 'tun') await this.#topology.dressTun(index, mtu)
  }

  async stop(): Promise<void> {
    if (this.#child !== undefined) await this.#topology.stop(this.#child)
    this.#child = undefined
  }

  /** The redirect stands only during its own turn, for its connection tracking would cost the others too. */
  async enter(): Promise<void> {
    if (this.contender.way !== 'redirect') return
    const rule = `ip daddr ${prefixOf(this.contender.index)} meta l4proto tcp redirect to :${REDSOCKS_PORT}`
    const chain = '{ type nat hook output priority -100 ; }'
    await this.#nft(`add table ip bench; add chain ip bench out ${chain}; add rule ip bench out ${rule}`)
  }

  async leave(): Promise<void> {
    if (this.contender.way === 'redirect') await this.#nft('delete table ip bench')
  }

  async #nft(commands: string): Promise<void> {
    await this.#topology.run('gateway', ['nft', commands])
  }
}
