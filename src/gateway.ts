/**
 * The library's entry and the composition root: opens the device and the data planes that work on it, and closes them in
 * the reverse order.
 */
import { EventEmitter } from 'node:events'

import { completeOptions } from './config/complete-options.ts'
import { rulesFromInput } from './config/list-input.ts'
import { asGatewayError, GatewayError, SystemError } from './errors.ts'
import { addon, type TunInfo } from './io/addon.ts'
import { socketsPerPlane } from './io/descriptors.ts'
import { Socket } from './io/socket.ts'
import { silentLog } from './log.ts'
import { type FlowView, type Gateway, type GatewayInput, type GatewayOptions, workerCount } from './options.ts'
import { NameKeeper } from './plane/name-keeper.ts'
import { type GatewayLog, Plane, type Planes } from './plane/plane.ts'
import type { LoadedRules } from './rules/load-rules.ts'
import type { RulesKeeper } from './rules/rules-keeper.ts'
import { openTun } from './tun/linux.ts'

export { ConfigError, GatewayError, SystemError } from './errors.ts'
export type { FlowView, Gateway, GatewayInput, GatewayOptions, ProxyOptions, RuleInput } from './options.ts'
export { DEFAULTS } from './options.ts'
export type { GatewayLog } from './plane/plane.ts'

/** errno(3). */
const EBUSY = 16

/** Throws ConfigError when an option is of the wrong kind. Nothing is opened before start(). */
export function createGateway(input: GatewayInput & { readonly log?: GatewayLog }): Gateway {
  return new TunGateway(completeOptions(input), input.log ?? silentLog)
}

class TunGateway extends EventEmitter implements Gateway {
  readonly #options: GatewayOptions
  readonly #log: GatewayLog
  /** One for each data plane. */
  #queues: readonly TunInfo[] = []
  #planes: Planes | undefined
  /** Made when there are rules. */
  #rules: RulesKeeper | undefined
  /** As they were read last, for planes that are not made yet. */
  #loaded: LoadedRules | undefined
  #isStarting = false
  /** Where addresses stand for names. */
  #names: NameKeeper | undefined
  #closing: Promise<void> | undefined
  #failed = false
  /** Rejects start(), while it is under way. */
  #failStart: ((error: GatewayError) => void) | undefined

  constructor(options: GatewayOptions, log: GatewayLog) {
    super()
    this.#options = options
    this.#log = log
  }

  get tunName(): string {
    return this.#queues[0]?.name ?? this.#options.tun.name
  }

  async start(): Promise<void> {
    if (this.#isStarting || this.#queues.length > 0 || this.#closing !== undefined) {
      throw new GatewayError('STARTED', 'a gateway starts once')
    }
    Socket.checkBinding(this.#options.bind)
    if (this.#hasRules) await this.#loadRules()
    // close() may have come while they were read
    this.#requireOpen()
    this.#queues = this.#openQueues()
    const failed = new Promise<never>((_, reject) => {
      this.#failStart = reject
    })
    try {
      await Promise.race([this.#startPlanes(), failed])
      this.#requireOpen()
    } catch (error) {
      await this.close()
      throw startError(error, this.#queues.length)
    } finally {
      this.#failStart = undefined
    }
    const { name, mtu, vnetHdr, created } = this.#queues[0]!
    const device = created ? 'made' : 'attached'
    const workers = this.#queues.length > 1 ? { workers: this.#queues.length } : {}
    this.#log.info('gateway started', { tun: name, mtu, offload: vnetHdr, device, ...workers })
  }

  get #hasRules(): boolean {
    const { file, written } = this.#options.rules
    return file !== '' || written.length > 0
  }

  /** First of all: when they are wrong, nothing was opened. */
  async #loadRules(): Promise<void> {
    this.#isStarting = true
    try {
      this.#loaded = await (await this.#keeper()).load()
    } finally {
      this.#isStarting = false
    }
  }

  /** Without a device nobody waits for rules that change. */
  #openQueues(): TunInfo[] {
    try {
      return openQueues(this.#options)
    } catch (error) {
      this.#rules?.close()
      this.#rules = undefined
      throw error
    }
  }

  async #startPlanes(): Promise<void> {
    if (this.#options.dns.mode === 'map') this.#names = new NameKeeper(this.#options, this.#log)
    await this.#names?.start()
    const [queue, ...more] = this.#queues
    const threads = more.length === 0 ? undefined : await import('./plane/plane-threads.ts')
    this.#requireOpen()
    const setup = {
      options: this.#options,
      rules: this.#loaded,
      names: this.#names?.memory,
      log: this.#log,
      onFatal: (error: GatewayError) => this.#fail(error),
    }
    this.#planes =
      threads === undefined
        ? new Plane({ ...setup, queue: queue!, upstreamLog: this.#log, sockets: socketsPerPlane(1) })
        : new threads.PlaneThreads({ ...setup, queues: this.#queues })
    await this.#planes.start()
  }

  async #keeper(): Promise<RulesKeeper> {
    const { RulesKeeper } = await import('./rules/rules-keeper.ts')
    this.#requireOpen()
    const { rules: source, upstreams, proxy, dns } = this.#options
    this.#rules ??= new RulesKeeper({
      source,
      targets: { upstreams: Object.keys(upstreams), defaultUpstream: proxy },
      namesKnown: dns.mode === 'map',
      log: this.#log,
      onRules: async rules => {
        if (this.#planes === undefined) this.#loaded = rules
        else await this.#planes.useRules(rules)
      },
    })
    return this.#rules
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) throw new GatewayError('CLOSED', 'the gateway was closed while it started')
  }

  #fail(error: GatewayError): void {
    if (this.#failed || this.#closing !== undefined) return
    this.#failed = true
    if (this.#failStart !== undefined) this.#failStart(error)
    else this.emit('error', error)
  }

  counters(): Readonly<Record<string, number>> {
    const counters = this.#planes?.counters() ?? { stack_restarts: 0, open_descriptors: addon.openDescriptors() }
    return { ...counters, ...this.#rules?.counters(), ...this.#names?.counters() }
  }

  async reloadRules(rules?: GatewayInput['rules']): Promise<void> {
    await (await this.#keeper()).reload(rules === undefined ? undefined : rulesFromInput(rules))
  }

  flows(): FlowView[] {
    return this.#planes?.flows() ?? []
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#rules?.close()
    const held = (await this.#planes?.close()) ?? []
    await this.#names?.close()
    // the number of one that a thread still reads must not become another file's
    for (const { fd } of this.#queues) if (!held.includes(fd)) addon.close(fd, false)
    if (held.length > 0) this.#log.warn('a worker does not end: the device stays until the process does')
    if (this.#queues.length > 0) this.#log.info('gateway stopped', { tun: this.tunName })
  }
}

/** A queue of the device for each data plane; the first call makes the device. Throws SystemError, and then none is left. */
function openQueues(options: GatewayOptions): TunInfo[] {
  const { tun } = options
  const workers = workerCount(options)
  const opening = {
    name: tun.name,
    offload: tun.offload === 'auto',
    multiQueue: workers > 1,
    ...(tun.fd === undefined ? {} : { fd: tun.fd }),
    ...(tun.pid === undefined ? {} : { pid: tun.pid }),
  }
  const link = { mtu: tun.mtu, addresses: [tun.address4, tun.address6].filter(address => address !== '') }
  const queues: TunInfo[] = []
  try {
    while (queues.length < workers) {
      const info = openTun(opening, link)
      // an inherited descriptor of another namespace may not tell its device's MTU
      queues.push({ ...info, mtu: info.mtu || tun.mtu })
    }
    // an inherited queue is the caller's, and its name that of a device in another namespace, perhaps
    if (tun.fd === undefined) requireOurs(queues)
    return queues
  } catch (error) {
    for (const { fd } of queues) addon.close(fd, false)
    const tooFew = error instanceof SystemError && ['EINVAL', 'E2BIG'].includes(error.code)
    if (workers === 1 || !tooFew) throw startError(error, workers)
    throw new SystemError(error.code, `workers ${workers}: ${error.message}`, error.syscall, error.errno)
  }
}

/** A worker needs descriptors of its own, and reads its program: what the limit of open files has to do with it is told. */
function startError(error: unknown, workers: number): GatewayError {
  const known = asGatewayError(error)
  const lacksFiles = known instanceof SystemError && ['EMFILE', 'ENFILE'].includes(known.code)
  if (workers === 1 || !lacksFiles) return known
  const message = `workers ${workers} needs more open files (ulimit -n): ${known.message}`
  return new SystemError(known.code, message, known.syscall, known.errno)
}

/** The kernel spreads flows over all queues of a device: those of another program would take some of ours. */
function requireOurs(opened: readonly TunInfo[]): void {
  const { name, queues } = opened.at(-1)!
  const others = queues - opened.length
  if (others <= 0) return
  const held = others === 1 ? 'a queue' : `${others} queues`
  const message = `${name}: another program holds ${held} of this device, and would get a part of its packets: end it first`
  throw new SystemError('EBUSY', message, 'rtnetlink(RTM_GETLINK)', EBUSY)
}
