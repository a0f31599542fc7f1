/**
 * The library's entry and the composition root: opens the device, the stack and the dialer, and closes them in the
 * reverse order. A stack that stops (a failed assertion inside lwIP) costs its flows, not the process: a new one takes
 * its place on the same device.
 */
import { EventEmitter } from 'node:events'

import { GatewayError } from './errors.ts'
import { DataPlane, type PlaneLog } from './flow/data-plane.ts'
import { addon, type TunInfo } from './io/addon.ts'
import { Poller } from './io/poller.ts'
import { Socket } from './io/socket.ts'
import { completeOptions, type FlowView, type Gateway, type GatewayInput, type GatewayOptions } from './options.ts'
import { Stack } from './stack/stack.ts'
import { LinuxTun, openTun } from './tun/linux.ts'
import { Socks5Dialer } from './upstream/socks5.ts'

export { ConfigError, GatewayError, SystemError } from './errors.ts'
export type { FlowView, Gateway, GatewayInput, GatewayOptions, ProxyOptions } from './options.ts'
export { DEFAULTS } from './options.ts'

/** What a gateway says while it works; src/log.ts makes one from winston. */
export interface GatewayLog extends PlaneLog {
  info(message: string, fields?: Record<string, unknown>): void
}

const silent: GatewayLog = { debugEnabled: false, error() {}, warn() {}, info() {}, debug() {} }

/** Endpoints of one batch of packets, which wait for older ones to give way. */
const ENDPOINT_HEADROOM = 64

/** More stacks than this in a minute, and something is wrong that a new one does not mend. */
const MAX_RESTARTS_A_MINUTE = 10

/** Throws ConfigError when an option is of the wrong kind. Nothing is opened before start(). */
export function createGateway(input: GatewayInput & { readonly log?: GatewayLog }): Gateway {
  return new TunGateway(completeOptions(input), input.log ?? silent)
}

/** A data plane with what it stands on. */
interface Running {
  readonly stack: Stack
  readonly poller: Poller
  readonly plane: DataPlane
}

class TunGateway extends EventEmitter implements Gateway {
  readonly #options: GatewayOptions
  readonly #log: GatewayLog
  #tun: TunInfo | undefined
  #running: Running | undefined
  #closed = false
  #failed = false
  readonly #restarts: number[] = []
  #restartCount = 0

  constructor(options: GatewayOptions, log: GatewayLog) {
    super()
    this.#options = options
    this.#log = log
  }

  get tunName(): string {
    return this.#tun?.name ?? this.#options.tun.name
  }

  async start(): Promise<void> {
    if (this.#tun !== undefined || this.#closed) throw new GatewayError('STARTED', 'a gateway starts once')
    const { tun } = this.#options
    Socket.checkBinding(this.#options.bind)
    this.#tun = openTun(
      {
        name: tun.name,
        offload: tun.offload === 'auto',
        multiQueue: false,
        ...(tun.fd === undefined ? {} : { fd: tun.fd }),
        ...(tun.pid === undefined ? {} : { pid: tun.pid }),
      },
      { mtu: tun.mtu, addresses: [tun.address4, tun.address6].filter(address => address !== '') },
    )
    try {
      const dialer = this.#run()
      await dialer.ready()
      if (this.#closed) throw new GatewayError('CLOSED', 'the gateway was closed while it started')
    } catch (error) {
      await this.close()
      throw error
    }
    this.#log.info('gateway started', {
      tun: this.#tun.name,
      mtu: this.#mtu(),
      offload: this.#tun.vnetHdr,
      device: this.#tun.created ? 'made' : 'attached',
    })
  }

  /** The device's own MTU; an inherited descriptor of another namespace may not tell it. */
  #mtu(): number {
    return this.#tun!.mtu || this.#options.tun.mtu
  }

  #run(): Socks5Dialer {
    const options = this.#options
    const tunInfo = { ...this.#tun!, mtu: this.#mtu() }
    const stack = new Stack({
      mtu: tunInfo.mtu,
      vnetHdr: tunInfo.vnetHdr,
      uso: tunInfo.uso,
      echo: options.icmp.echo === 'reply',
      maxFlows: options.limits.flows,
      maxEndpoints: options.udp.maxAssociations + ENDPOINT_HEADROOM,
      keepAliveMs: options.tcp.keepAliveMs,
    })
    const onFailure = (error: unknown) => this.#onFailure(running, error)
    const poller = new Poller(stack.memory, () => plane.endTurn(), onFailure)
    const tun = new LinuxTun(poller.io, tunInfo)
    const arena = {
      bytes: stack.bytes,
      words: stack.words,
      scratch: stack.abi.scratch,
      scratchBytes: stack.abi.scratchBytes,
    }
    const dialer = new Socks5Dialer(poller, arena, options.proxy, options.upstream, options.bind, this.#log)
    const plane = new DataPlane({ stack, poller, tun, dialer }, options, this.#log, onFailure)
    const running = { stack, poller, plane }
    this.#running = running
    poller.add(tun.fd, plane, false)
    return dialer
  }

  #onFailure(running: Running, cause: unknown): void {
    if (this.#running !== running || this.#failed || this.#closed) return
    const error = running.stack.explain(cause)
    const trapped = error instanceof GatewayError && error.code === 'STACK_TRAP'
    running.plane.close(!trapped)
    running.poller.close()
    this.#running = undefined
    if (trapped && this.#mayRestart()) {
      this.#restartCount++
      this.#log.error('the stack stopped; its flows are lost, a new one goes on', { reason: error.message })
      try {
        this.#run()
      } catch (again) {
        this.#fail(again)
      }
    } else this.#fail(error)
  }

  #fail(error: unknown): void {
    this.#failed = true
    const fatal = error instanceof GatewayError ? error : new GatewayError('INTERNAL', String(error), { cause: error })
    this.emit('error', fatal)
  }

  #mayRestart(): boolean {
    const now = performance.now()
    while (this.#restarts.length > 0 && now - this.#restarts[0]! > 60_000) this.#restarts.shift()
    this.#restarts.push(now)
    return this.#restarts.length <= MAX_RESTARTS_A_MINUTE
  }

  counters(): Readonly<Record<string, number>> {
    return {
      ...this.#running?.plane.counters(),
      stack_restarts: this.#restartCount,
      open_descriptors: addon.openDescriptors(),
    }
  }

  flows(): FlowView[] {
    return this.#running?.plane.flows() ?? []
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const running = this.#running
    this.#running = undefined
    running?.plane.close()
    running?.poller.close()
    if (this.#tun === undefined) return
    addon.close(this.#tun.fd, false)
    this.#log.info('gateway stopped', { tun: this.#tun.name })
  }
}
