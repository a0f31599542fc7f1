/**
 * A data plane with what it stands on: the stack, the poller, the queue of the device, the dialer. A stack that stops (a
 * failed assertion inside lwIP) costs its flows, not the process: a new one takes its place on the same queue.
 */
import { parseAddress } from '../endpoint.ts'
import { asGatewayError, GatewayError } from '../errors.ts'
import { DataPlane } from '../flow/data-plane.ts'
import type { PlaneLog } from '../flow/plane-report.ts'
import { addon, type TunInfo } from '../io/addon.ts'
import { Poller } from '../io/poller.ts'
import type { FlowView, GatewayOptions } from '../options.ts'
import type { LoadedRules } from '../rules/load-rules.ts'
import { Stack, stackModule } from '../stack/stack.ts'
import type { Module } from '../stack/webassembly.ts'
import { LinuxTun } from '../tun/linux.ts'
import { Dialers, type UpstreamCells, Upstreams } from '../upstream/upstreams.ts'
import type { RunningNames } from './names-service.ts'
import { PlaneNames } from './plane-names.ts'
import { PlaneRules } from './plane-rules.ts'
import { RulesRouter } from './rules-router.ts'
import { TrapLimit } from './trap-limit.ts'

/** What a gateway says while it works; src/log.ts makes one from winston. */
export interface GatewayLog extends PlaneLog {
  info(message: string, fields?: Record<string, unknown>): void
}

/** The data planes of a gateway: one in this thread (Plane), or several in threads of their own (PlaneThreads). */
export interface Planes {
  /** Packets are answered when it resolves, and the proxy's name was looked up. Rejects when a plane cannot work. */
  start(): Promise<void>
  counters(): Record<string, number>
  flows(): FlowView[]
  /** For flows that begin from now on. Rejects with ConfigError, and then nothing has changed. */
  useRules(rules: LoadedRules): Promise<void>
  /** Ends all flows; clients get RST. Resolves with the queues' descriptors that could not be let go of. Idempotent. */
  close(): Promise<readonly number[]>
}

export interface PlaneSetup {
  readonly options: GatewayOptions
  /** Its descriptor stays with whoever opened it. */
  readonly queue: TunInfo
  readonly log: GatewayLog
  /** Where the dialer says whether the proxy is up. */
  readonly upstreamLog: Pick<GatewayLog, 'info' | 'warn'>
  /** Sockets to the proxy at most: what the process may have open, or its part of it. */
  readonly sockets: number
  /** Called for each stack that stopped and is replaced. */
  readonly onTrap?: (error: GatewayError) => void
  /** Called once, when the plane cannot go on: it is closed already. */
  readonly onFatal: (error: GatewayError) => void
  /** Compiled by another thread. */
  readonly module?: Module
  /** To begin with; undefined: none. */
  readonly rules?: LoadedRules | undefined
  /** Of the name map, for all planes of the gateway; undefined where names have no addresses. */
  readonly names?: SharedArrayBuffer | undefined
  /** What is known of the proxy, shared with the planes of other threads. */
  readonly known?: UpstreamCells
}

/** Endpoints of one batch of packets, which wait for older ones to give way. */
const ENDPOINT_HEADROOM = 64

interface Running {
  readonly stack: Stack
  readonly poller: Poller
  readonly plane: DataPlane
  readonly names: RunningNames | undefined
}

export class Plane implements Planes {
  readonly #setup: PlaneSetup
  /** What is known of them a stack that stops does not change. */
  readonly #upstreams: Upstreams
  readonly #rules: PlaneRules
  readonly #names: PlaneNames
  #running: Running | undefined
  /** It failed, or was closed. */
  #over = false
  readonly #traps = new TrapLimit()
  #restarts = 0

  constructor(setup: PlaneSetup) {
    this.#setup = setup
    const { options, log, upstreamLog, known } = setup
    this.#rules = new PlaneRules({ upstreams: Object.keys(options.upstreams) }, message => log.warn(message))
    this.#upstreams = new Upstreams(options, upstreamLog, known)
    this.#names = new PlaneNames(options, upstreamLog, setup.names)
  }

  async start(): Promise<void> {
    if (this.#setup.rules !== undefined) await this.#rules.use(this.#setup.rules)
    if (this.#over) return // it was closed meanwhile
    this.#run()
    await this.#upstreams.ready()
  }

  #run(): Running {
    const { options, queue, log, sockets, module = stackModule() } = this.#setup
    const stack = new Stack(
      {
        mtu: queue.mtu,
        vnetHdr: queue.vnetHdr,
        uso: queue.uso,
        echo: options.icmp.echo === 'reply',
        maxFlows: options.limits.flows,
        maxEndpoints: options.udp.maxAssociations + ENDPOINT_HEADROOM,
        ownAddresses: ownAddresses(options.tun),
        keepAliveMs: options.tcp.keepAliveMs,
      },
      module,
    )
    const onFailure = (error: unknown) => this.#onFailure(running, error)
    const poller = new Poller(stack.memory, onFailure, sockets)
    const tun = new LinuxTun(poller.io, queue)
    const arena = {
      bytes: stack.bytes,
      words: stack.words,
      scratch: stack.abi.scratch,
      scratchBytes: stack.abi.scratchBytes,
    }
    const dialers = new Dialers(this.#upstreams, { poller, arena, log })
    const router = new RulesRouter(dialers, options.proxy, this.#names.lookup)
    this.#rules.attach(router)
    const dialer = dialers.get(options.proxy)
    const names = this.#names.run({ stack, poller, dialer, flush: () => plane.flush() })
    const plane: DataPlane = new DataPlane({ stack, poller, tun, router, ...names }, options, log, onFailure)
    poller.attend(plane)
    const running = { stack, poller, plane, names }
    this.#running = running
    poller.add(tun.fd, plane, false)
    return running
  }

  #onFailure(running: Running, cause: unknown): void {
    if (this.#running !== running || this.#over) return
    const since = performance.now()
    const error = running.stack.explain(cause)
    const trapped = error instanceof GatewayError && error.code === 'STACK_TRAP'
    closeAll(running, !trapped)
    this.#running = undefined
    if (!trapped) return this.#fail(error)
    const last = this.#traps.add(error)
    if (last !== undefined) return this.#fail(last)
    this.#restarts++
    this.#setup.log.error('the stack stopped; its flows are reset, a new one goes on', { reason: error.message })
    this.#setup.onTrap?.(error)
    this.#replace(running.stack)
    this.#setup.log.info('a new stack serves', { ms: Math.round(performance.now() - since) })
  }

  #replace(stopped: Stack): void {
    try {
      const { stack, plane } = this.#run()
      try {
        stack.adopt(stopped, () => plane.flush())
      } catch (error) {
        // what lies in its memory is no list: its clients get RST with their next segment
        if (stack.explain(error) === error) throw error
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    this.#over = true
    this.#setup.onFatal(asGatewayError(error))
  }

  /** Those of this thread. */
  counters(): Record<string, number> {
    return {
      ...this.#running?.plane.counters(),
      ...this.#running?.names?.counters(),
      ...this.#rules.counters(),
      stack_restarts: this.#restarts,
      open_descriptors: addon.openDescriptors(),
    }
  }

  flows(): FlowView[] {
    return this.#running?.plane.flows() ?? []
  }

  useRules(rules: LoadedRules): Promise<void> {
    return this.#rules.use(rules)
  }

  async close(): Promise<readonly number[]> {
    this.#over = true
    const running = this.#running
    this.#running = undefined
    if (running !== undefined) closeAll(running, true)
    await this.#rules.close()
    return []
  }
}

/** `stackUsable`: as DataPlane.close. */
function closeAll({ names, plane, poller }: Running, stackUsable: boolean): void {
  names?.close()
  plane.close(stackUsable)
  poller.close()
}

function ownAddresses({ address4, address6 }: GatewayOptions['tun']): Uint8Array[] {
  return [address4, address6].map(text => parseAddress(text.split('/')[0]!)).filter(address => address !== undefined)
}
