/**
 * Three network namespaces, made for one run and gone with it:
 *
 *     gateway namespace                                        server namespace
 *     ┌──────────────────────────────────────────────┐         ┌───────────────────────────────────┐
 *     │ load client ── 10.88.K.0/24 ──> tun benchK   │         │ SOCKS5 server 10.77.0.2:1080      │
 *     │                    contender K <─────────────┘         │   └─> 10.88.K.1 on lo:            │
 *     │                      └─ g0 10.77.0.1 ────── veth ────── s0 10.77.0.2                       │
 *     │ bound: load client speaks SOCKS5 to 10.77.0.2│         │     echo, sink, source, iperf3    │
 *     │ forwards from g1 10.79.0.1 (GRO)             │         └───────────────────────────────────┘
 *     └──────────────────────┬───────────────────────┘
 *                          veth, packets of 1500 bytes
 *     client namespace: c0 10.79.0.2, load client of the forwarded measures
 *
 * Each contender K has its own destination prefix and, if it wants one, its own persistent tun, so that all of them
 * run side by side and take turns within seconds. A namespace lives as long as its holder, a `cat` whose standard input is a pipe
 * of this process; everything else dies with this process by PR_SET_PDEATHSIG.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readlinkSync } from 'node:fs'

export const PROXY_HOST = '10.77.0.2'
export const PROXY_PORT = 1080
const CLIENT_GATEWAY = '10.79.0.1'

const PLACES = ['gateway', 'server', 'client'] as const
export type Place = (typeof PLACES)[number]

export interface Output {
  readonly stdout: string
  readonly stderr: string
}

export interface StartOptions {
  readonly environment?: NodeJS.ProcessEnv
}

export const destinationOf = (index: number): string => `10.88.${index}.1`
export const prefixOf = (index: number): string => `10.88.${index}.0/24`

async function untilOtherNamespace(pid: number): Promise<void> {
  const own = readlinkSync('/proc/self/ns/net')
  const deadline = Date.now() + 5000
  while (Date.now() < deadline) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/net`) !== own) return
    } catch {}
    await new Promise(done => setTimeout(done, 5))
  }
  throw new Error('no network namespace could be made (unshare --net): run as root or allow user namespaces')
}

export class Topology {
  readonly #holders: Record<Place, ChildProcess>
  readonly #running = new Set<ChildProcess>()
  #congestionControl = ''

  private constructor(holders: Record<Place, ChildProcess>) {
    this.#holders = holders
    for (const holder of Object.values(holders)) {
      holder.on('error', () => {})
      this.#running.add(holder)
    }
  }

  /** `congestionControls`: the first one that the namespaces take. @throws Error when namespaces cannot be made. */
  static async open(contenders: number, congestionControls: readonly string[]): Promise<Topology> {
    const hold = () => spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] })
    const topology = new Topology({ gateway: hold(), server: hold(), client: hold() })
    try {
      for (const holder of Object.values(topology.#holders)) {
        if (holder.pid === undefined) throw new Error('unshare of util-linux is not installed')
        await untilOtherNamespace(holder.pid)
      }
      await topology.#link(contenders)
      topology.#congestionControl = await topology.#choose(congestionControls)
      return topology
    } catch (error) {
      await topology.close()
      throw error
    }
  }

  /** Of all that runs in the namespaces. */
  get pids(): number[] {
    return [...this.#running].flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
  }

  get congestionControl(): string {
    return this.#congestionControl
  }

  async #link(contenders: number): Promise<void> {
    const ip = (place: Place, command: string) => this.run(place, ['ip', ...command.split(' ')])
    await ip('server', `link add s0 type veth peer name g0 netns ${this.#holders.gateway.pid}`)
    await ip('client', `link add c0 type veth peer name g1 netns ${this.#holders.gateway.pid}`)
    for (const [place, device, address] of [
      ['server', 's0', PROXY_HOST],
      ['gateway', 'g0', '10.77.0.1'],
      ['gateway', 'g1', CLIENT_GATEWAY],
      ['client', 'c0', '10.79.0.2'],
    ] as const) {
      await ip(place, `addr add ${address}/24 dev ${device}`)
      await ip(place, 'link set lo up')
      await ip(place, `link set ${device} up`)
    }
    for (const place of PLACES) {
      await this.#set(place, 'net.ipv4.ip_local_port_range', '10000 65000')
      await this.#set(place, 'net.ipv4.tcp_max_tw_buckets', '1000')
    }
    await ip('client', `route add default via ${CLIENT_GATEWAY}`)
    await ip('server', 'route add 10.79.0.0/24 via 10.77.0.1')
    await this.#set('gateway', 'net.ipv4.ip_forward', '1')
    for (let index = 1; index <= contenders; index++) await ip('server', `addr add ${destinationOf(index)}/32 dev lo`)
  }

  async #choose(names: readonly string[]): Promise<string> {
    for (const name of names) {
      try {
        for (const place of PLACES) await this.#set(place, 'net.ipv4.tcp_congestion_control', name)
        return name
      } catch {
        // A restricted one cannot be the default of a namespace: the next is tried, and the report names the choice.
      }
    }
    throw new Error(`none of ${names.join(', ')} can be the congestion control of a namespace`)
  }

  async #set(place: Place, key: string, value: string): Promise<void> {
    await this.run(place, ['sysctl', '-qw', `${key}=${value}`])
  }

  /** A persistent tun with address and route; whoever takes part attaches to it. */
  async addTun(index: number, mtu: number, flags: readonly string[] = []): Promise<string> {
    const name = `bench${index}`
    await this.run('gateway', ['ip', 'tuntap', 'add', 'dev', name, 'mode', 'tun', ...flags])
    await this.dressTun(index, mtu)
    return name
  }

  /** Makes the client's veth like a wire: cut at one end, merged at the other. `load`: path of the load program. */
  async likeAWire(load: string): Promise<void> {
    await this.run('client', [load, 'cut', '-i', 'c0'])
    await this.run('gateway', [load, 'merge', '-i', 'g1'])
  }

  /** Again after a start, for programs that take away the address and with it the route. */
  async dressTun(index: number, mtu: number): Promise<void> {
    const device = `dev bench${index}`
    for (const command of [
      `link set ${device} mtu ${mtu} up`,
      `addr replace 198.18.${index}.1/24 ${device}`,
      `route replace ${prefixOf(index)} ${device}`,
    ])
      await this.run('gateway', ['ip', ...command.split(' ')])
  }

  async routeBeside(index: number): Promise<void> {
    await this.run('gateway', ['ip', 'route', 'replace', prefixOf(index), 'via', PROXY_HOST])
  }

  /** Starts a program in a namespace; the process id is the program's own. */
  start(place: Place, argv: readonly string[], options: StartOptions = {}): ChildProcess {
    const inside = [`--net=/proc/${this.#holders[place].pid}/ns/net`, 'setpriv', '--pdeathsig', 'KILL', ...argv]
    const child = spawn('nsenter', inside, { stdio: 'pipe', env: options.environment ?? process.env })
    this.#running.add(child)
    child.once('exit', () => this.#running.delete(child))
    child.on('error', () => this.#running.delete(child))
    child.stdin.on('error', () => {})
    return child
  }

  /** @throws Error with the program's own words when it fails or takes longer than `timeoutMs`. */
  async run(place: Place, argv: readonly string[], timeoutMs = 60_000): Promise<Output> {
    const child = this.start(place, argv)
    const output = { stdout: '', stderr: '' }
    child.stdout?.on('data', chunk => {
      output.stdout += chunk
    })
    child.stderr?.on('data', chunk => {
      output.stderr += chunk
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    const [code, signal] = await once(child, 'close')
    clearTimeout(timer)
    if (code !== 0) {
      const said = output.stderr.trim().split('\n').at(-1) || `exit ${code ?? signal}`
      throw new Error(signal === 'SIGKILL' ? `stopped after ${timeoutMs / 1000} s` : said)
    }
    return output
  }

  /** Ends one program: SIGTERM, after 3 s SIGKILL. */
  async stop(child: ChildProcess): Promise<void> {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const timer = setTimeout(() => child.kill('SIGKILL'), 3000)
    child.kill('SIGTERM')
    await once(child, 'exit')
    clearTimeout(timer)
  }

  async close(): Promise<void> {
    const holders: ChildProcess[] = Object.values(this.#holders)
    await Promise.all([...this.#running].filter(child => !holders.includes(child)).map(child => this.stop(child)))
    for (const holder of holders) {
      holder.stdin?.destroy()
      if (holder.exitCode === null && holder.signalCode === null && holder.pid !== undefined) await once(holder, 'exit')
    }
  }
}

/** The program's first line of output, or an error when it ends before one. */
export async function firstLine(child: ChildProcess, timeoutMs: number): Promise<string> {
  let said = ''
  let complaint = ''
  child.stderr?.on('data', chunk => {
    complaint += chunk
  })
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`silent for ${timeoutMs / 1000} s`)), timeoutMs)
    child.stdout?.on('data', chunk => {
      said += chunk
      if (!said.includes('\n')) return
      clearTimeout(timer)
      resolve(said.slice(0, said.indexOf('\n')))
    })
    child.once('close', () => {
      clearTimeout(timer)
      reject(new Error(complaint.trim().split('\n').at(-1) || 'it ended without a word'))
    })
  })
}

export function kernelRelease(): string {
  return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim().replace(/-.*/, '')
}
