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
  /** Number of its prefix and device, from 1. */
  readonly index: number
  readonly way: Way
  readonly mtu: number
  readonly udp: boolean
  /** Words of the command; empty for the bound. Writes files into `folder`. */
  command(folder: string): string[]
}

const REDSOCKS_PORT = 12345

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

/** `cli`: path of the compiled command. @throws Error for a name that is not known. */
export function listContenders(options: BenchOptions, cli: string): Contender[] {
  const values = (index: number, mtu: number) => ({
    tun: `bench${index}`,
    mtu,
    proxyHost: PROXY_HOST,
    proxyPort: PROXY_PORT,
  })
  const all: Omit<Contender, 'index' | 'command'>[] = [{ name: 'bound', way: 'socks', mtu: 1500, udp: true }]
  const commands: ((index: number, folder: string) => string[])[] = [() => []]
  const add = (name: string, way: Way, mtu: number, make: (index: number, folder: string) => string[]) => {
    all.push({ name, way, mtu, udp: way !== 'redirect' })
    commands.push(make)
  }
  // the crowd alone is as many flows as the default limit
  const base = `--proxy socks5://${PROXY_HOST}:${PROXY_PORT} --status-socket= --limits-flows ${2 * options.crowd}`
  const tungate = (name: string, mtu: number, flags: string) =>
    add(name, 'tun', mtu, (index, folder) => [
      process.execPath,
      cli,
      ...words(`run --tun bench${index} ${base} --mtu ${mtu}`),
      ...fillCommand(flags, folder, values(index, mtu)),
    ])
  tungate('tungate', options.mtu, '')
  tungate('tungate-plain', options.mtu, '--offload off')
  for (const variant of options.variants) tungate(variant.name, variant.mtu, variant.command)
  add('redsocks', 'redirect', 1500, (_, folder) => redsocksCommand(folder))
  for (const { name, mtu, command } of options.peers)
    add(name, 'tun', mtu, (index, folder) => fillCommand(command, folder, values(index, mtu)))

  const wanted = options.contenders.length > 0 ? options.contenders : all.map(({ name }) => name)
  const unknown = wanted.find(name => !all.some(each => each.name === name))
  if (unknown !== undefined)
    throw new Error(`--contenders: ${unknown} is none of ${all.map(each => each.name).join(', ')}`)
  return wanted.map((name, position) => {
    const at = all.findIndex(each => each.name === name)
    const index = position + 1
    return { ...all[at]!, index, command: folder => commands[at]!(index, folder) }
  })
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
    const { PATH, HOME, LANG } = process.env
    const child = this.#topology.start('gateway', argv, {
      environment: { PATH, HOME, LANG, XDG_RUNTIME_DIR: this.#folder },
    })
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
