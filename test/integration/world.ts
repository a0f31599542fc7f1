/**
 * The network that the integration tests share, one for each file:
 *
 *     client namespace                       server namespace
 *     programs → tg0 → gateway → veth0 ────── veth0 (proxies) → lo (destinations)
 *                                10.8.0.1     10.8.0.2          203.0.113.0/24, 2001:db8::/64
 *                                fd08::1      fd08::2
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { readStatus, type StatusDocument } from '../../src/status.ts'
import { commandFile } from '../helpers/command-file.ts'
import { connectNamespaces, createNamespace, type Namespace } from '../helpers/namespaces.ts'
import { Agent } from './agent.ts'

export const PROXY4 = '10.8.0.2'
export const PROXY6 = 'fd08::2'
export const DEST4 = '203.0.113.7'
export const DEST6 = '2001:db8::7'
/** In no route of the server namespace. */
export const NOWHERE4 = '192.0.2.77'

export class World {
  readonly client: Namespace
  readonly server: Namespace
  readonly near: Agent
  readonly far: Agent
  readonly folder: string
  #gateways = 0

  constructor(client: Namespace, server: Namespace, near: Agent, far: Agent, folder: string) {
    this.client = client
    this.server = server
    this.near = near
    this.far = far
    this.folder = folder
  }

  /** Starts `tungate run`, with the default routes of the client namespace into its device. */
  async gateway(options: GatewayOptions = {}): Promise<GatewayProcess> {
    const tun = options.tun ?? 'tg0'
    const socket = join(this.folder, `status${this.#gateways++}`)
    const proxy = options.proxy ?? `socks5://${PROXY4}:1080`
    const args = ['run', '--tun', tun, '--proxy', proxy, '--status-socket', socket]
    const log = ['--log-level', 'debug', '--log-format', 'json']
    const workers = options.workers ?? 1
    const more = ['--workers', String(workers), ...(options.args ?? [])]
    const program = [process.execPath, ...(options.node ?? []), commandFile, ...args, ...log, ...more] as const
    // Node takes what the hard limit allows
    const limited =
      options.files === undefined ? program : (['prlimit', `--nofile=${options.files}`, ...program] as const)
    const [file, ...rest] = this.client.argv(limited[0], limited.slice(1))
    const env = { ...process.env, ...options.environment }
    const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'], env })
    const gateway = new GatewayProcess(child, tun, socket, workers)
    await gateway.untilLog('gateway started')
    if (options.routes !== false) await this.client.routeAllInto(tun)
    return gateway
  }

  async close(): Promise<void> {
    await this.client.close()
    await this.server.close()
    await rm(this.folder, { recursive: true, force: true })
  }

  async hasDevice(name: string): Promise<boolean> {
    return (await this.client.run('ip', ['link', 'show', 'dev', name])).code === 0
  }
}

export interface GatewayOptions {
  readonly tun?: string
  readonly proxy?: string
  readonly args?: readonly string[]
  /** Arguments for Node itself. */
  readonly node?: readonly string[]
  /** Default: 1. */
  readonly workers?: number
  /** Files that the process may have open (RLIMIT_NOFILE). */
  readonly files?: number
  /** Beside that of the test. */
  readonly environment?: Readonly<Record<string, string>>
  /** false: leave the routes as they are. */
  readonly routes?: boolean
}

export interface LogLine {
  readonly level: string
  readonly message: string
  readonly [field: string]: unknown
}

export class GatewayProcess {
  readonly child: ChildProcess
  readonly tun: string
  readonly workers: number
  readonly statusSocket: string
  #text = ''

  constructor(child: ChildProcess, tun: string, socket: string, workers: number) {
    this.child = child
    this.tun = tun
    this.workers = workers
    this.statusSocket = socket
    const keep = (chunk: Buffer) => {
      this.#text = (this.#text + chunk).slice(-8_000_000)
    }
    child.stdout!.on('data', keep)
    child.stderr!.on('data', keep)
  }

  get text(): string {
    return this.#text
  }

  lines(): LogLine[] {
    const found: LogLine[] = []
    for (const line of this.#text.split('\n')) {
      if (line.startsWith('{') && line.endsWith('}')) found.push(JSON.parse(line) as LogLine)
    }
    return found
  }

  logged(text: string): LogLine[] {
    return this.lines().filter(line => line.message.includes(text))
  }

  async untilLog(text: string, timeoutMs = 10_000): Promise<LogLine> {
    await until(() => this.logged(text).length > 0 || this.child.exitCode !== null, `"${text}" in the log`, timeoutMs)
    const [line] = this.logged(text)
    if (line === undefined) throw new Error(`the gateway ended with ${this.child.exitCode}: ${this.#text}`)
    return line
  }

  status(): Promise<StatusDocument> {
    return readStatus(this.statusSocket)
  }

  async counter(name: string): Promise<number> {
    const { counters } = await this.status()
    if (counters[name] === undefined) throw new Error(`no counter ${name}: ${Object.keys(counters).join(' ')}`)
    return counters[name]
  }

  /** Resident memory, bytes. */
  rss(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024
  }

  /** User and system time so far, milliseconds. */
  cpuMs(): number {
    const stat = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8')
    const [user, system] = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .slice(11, 13)
    return (Number(user) + Number(system)) * 10 // USER_HZ is 100 wherever Node runs
  }

  /** Files that the process has open. */
  async files(): Promise<number> {
    const { readdir } = await import('node:fs/promises')
    return (await readdir(`/proc/${this.child.pid}/fd`)).length
  }

  /** Ends it by a signal; its exit code and how long that took. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<{ code: number | null; ms: number }> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return { code: this.child.exitCode, ms: 0 }
    const start = performance.now()
    const ended = once(this.child, 'exit')
    this.child.kill(signal)
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(timer)
    return { code: this.child.exitCode, ms: performance.now() - start }
  }
}

export async function createWorld(): Promise<World> {
  const client = await createNamespace()
  try {
    const server = await createNamespace({ within: client })
    const addresses = { a: ['10.8.0.1/24', 'fd08::1/64'], b: [`${PROXY4}/24`, `${PROXY6}/64`] }
    await connectNamespaces(client, server, { addresses })
    // any address of these networks is the server's own
    const routes = ['route add local 203.0.113.0/24 dev lo', 'route add local 2001:db8::/64 dev lo']
    await server.ip([...routes, `address add ${DEST6}/128 dev lo nodad`])
    const folder = await mkdtemp(join(tmpdir(), 'world-'))
    return new World(client, server, await Agent.start(client), await Agent.start(server), folder)
  } catch (error) {
    await client.close()
    throw error
  }
}

/** Says that a test was not run, and why. */
export function skip(t: { log(text: string): void; pass(): void }, reason: string): void {
  t.log(`skipped: ${reason}`)
  t.pass()
}

/** Polls a state, which may take its time to be told; rejects when it has not come within `timeoutMs`. */
export async function until(
  state: () => boolean | Promise<boolean>,
  what: string | (() => string),
  timeoutMs = 5000,
): Promise<number> {
  const start = performance.now()
  while (!(await state())) {
    if (performance.now() - start > timeoutMs)
      throw new Error(`${typeof what === 'string' ? what : what()} did not come within ${timeoutMs} ms`)
    await delay(5)
  }
  return performance.now() - start
}

/** What a gateway holds that must be back where it was when its flows are over. */
export const HELD = [
  'pcbs',
  'flow_slots',
  'tcp_flows',
  'dials_in_flight',
  'open_descriptors',
  'send_buffer_bytes',
  'receive_buffer_bytes',
] as const

/** Polls until the gateway holds nothing of TCP any more. */
export async function untilAtRest(gateway: GatewayProcess, timeoutMs = 8000): Promise<void> {
  let seen: Record<string, number> = {}
  const held = async () => {
    const { counters } = await gateway.status()
    seen = Object.fromEntries(HELD.map(name => [name, counters[name]!]))
    const base = gateway.workers + (counters.udp_flows ?? 0) * 2 + (counters.pool_ready ?? 0)
    return HELD.every(name => (name === 'open_descriptors' ? seen[name]! <= base : seen[name] === 0))
  }
  await until(held, () => `a gateway at rest: ${JSON.stringify(seen)}`, timeoutMs)
}

/** For a file whose tests share a world and a gateway: both end with it, and a test that fails shows what the gateway said. */
export function endsWithFile(shared: () => { world: World | undefined; gateway: GatewayProcess | undefined }): void {
  test.after.always(async () => {
    const { world, gateway } = shared()
    await gateway?.stop()
    await world?.close()
  })
  test.afterEach.always(async t => {
    if (t.passed) return
    const { world, gateway } = shared()
    t.log(gateway?.text.slice(-2000))
    // what stays, as the gateway and its clients' kernel see it
    const status = await gateway?.status().catch(() => undefined)
    const sockets = await world?.client.run('ss', ['-tnoiem']).catch(() => undefined)
    t.log(JSON.stringify(status?.flows.slice(0, 20)), JSON.stringify(status?.counters), sockets?.stdout.slice(0, 4000))
  })
}

/**
 * For a file whose tests share a world, in which `prepare` was done, and start a gateway each, which ends with its test.
 * `keep` is given the world before the first test. Gives back the function that starts a gateway.
 */
export function gatewayForEach(
  prepare: (world: World) => Promise<void>,
  keep: (world: World) => void,
): (options?: GatewayOptions) => Promise<GatewayProcess> {
  let world: World | undefined
  let gateway: GatewayProcess | undefined
  endsWithFile(() => ({ world, gateway }))
  test.before(async () => {
    world = await createWorld()
    keep(world)
    await prepare(world)
  })
  test.afterEach.always(async () => {
    gateway?.child.kill('SIGCONT') // one that was stopped hears nothing else
    await gateway?.stop()
  })
  return async options => {
    gateway = await world!.gateway(options)
    return gateway
  }
}
