/** The life of one TCP flow: decided about (tcp-route.ts), dialed, answered, relayed (tcp-relay.ts), ended. */
import { type Destination, formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import type { FlowView } from '../options.ts'
import type { Connected, Dial, DialError, Dialer, DialListener } from '../upstream/dialer.ts'
import { tcpAnswer } from './answer.ts'
import type { ServedStream, StreamService } from './stream-service.ts'
import { type RelayHost, type RelayOwner, TcpRelay } from './tcp-relay.ts'
import { type RouteHost, type RouteOwner, TcpRoute } from './tcp-route.ts'

/** What a flow needs of the data plane around it. */
export interface TcpHost extends RelayHost, RouteHost {
  /** A client was told, or left, without a connection. */
  refused(): void
  /** The flow is over: its number is free. */
  ended(flow: TcpFlow, reason: string): void
}

export interface TcpTimeouts {
  readonly connectTimeoutMs: number
  readonly halfCloseTimeoutMs: number
  readonly idleTimeoutMs: number
}

export class TcpFlow implements DialListener, RelayOwner, RouteOwner {
  /** The stack's number of the flow. */
  readonly id: number
  readonly startedAt: number
  readonly client: IpEndpoint
  readonly destination: IpEndpoint
  readonly #host: TcpHost
  /** Where there is something to decide. */
  #route: TcpRoute | undefined
  #dialing = false
  #dialedAt = 0
  #dial: Dial | undefined
  #relay: TcpRelay | undefined
  /** Where a service takes the place of the upstream. */
  #served: ServedStream | undefined
  /** Nothing is left of the client's side but bytes that the upstream has not taken yet. */
  #clientGone = false
  #over = false
  /** Why, when it was we who ended it. */
  #reason = ''

  constructor(host: TcpHost, id: number) {
    this.#host = host
    this.id = id
    this.startedAt = host.now
    const { abi, words } = host.stack
    const row = abi.flows + id * abi.flowBytes
    const length = words[(row + abi.flowFamily) / 4] === 6 ? 16 : 4
    this.client = this.#endpoint(row + abi.flowClient, length, words[(row + abi.flowClientPort) / 4]!)
    this.destination = this.#endpoint(row + abi.flowDest, length, words[(row + abi.flowDestPort) / 4]!)
  }

  #endpoint(at: number, length: number, port: number): IpEndpoint {
    return { address: this.#host.stack.bytes.slice(at, at + length), port }
  }

  // ---- the dial and its answer ----

  /** Decides where there is something to decide; else it is dialed at once. */
  begin(): void {
    const { single } = this.#host.router
    if (single !== undefined) return this.dial(single, this.destination)
    this.#route = new TcpRoute(this.#host, this)
    this.#route.begin()
  }

  dial(dialer: Dialer, destination: Destination): void {
    this.#dialing = true
    this.#dialedAt = this.#host.now
    const dial = dialer.connect(destination, this.client, this)
    if (this.#dialing) this.#dial = dial // it may have failed at once
  }

  /** The client is answered at once, for nothing has to be dialed. */
  serve(service: StreamService): void {
    this.#served = service.open(this.#host, this.id, this.destination)
    if (this.#served === undefined) this.refuse(this.#host.stack.abi.answerReset, 'too many streams to a service')
    else this.#host.stack.exports.tg_tcp_accept(this.id)
  }

  #dialEnded(): void {
    this.#dialing = false
    this.#dial = undefined
  }

  #cancelDial(): void {
    if (this.#dial === undefined) return
    this.#dial.cancel()
    this.#dialEnded()
  }

  onConnected(connected: Connected): void {
    this.#dialEnded()
    const relay = new TcpRelay(this.#host, this.id, connected, this)
    this.#relay = relay
    if (!this.#route?.answered) return this.#host.stack.exports.tg_tcp_accept(this.id)
    relay.openClient()
    if (!this.#over) relay.pumpUp()
    if (!this.#over && this.#route.clientEnded) relay.finishClient()
  }

  onFailed(error: DialError): void {
    this.#dialEnded()
    if (this.#route?.answered) this.#resetAnswered(error.message)
    else this.refuse(tcpAnswer(this.#host.stack.abi, error.failure), error.message)
  }

  #resetAnswered(reason: string): void {
    this.abort(`${reason} (the client was answered for its first bytes, so it could only be reset)`)
  }

  /** Tells a client that still waits; `answer` is one of the stack's answer constants. */
  refuse(answer: number, reason: string): void {
    this.#reason = reason
    this.#host.refused()
    this.#host.stack.exports.tg_tcp_refuse(this.id, answer)
  }

  // ---- what the stack says of the client ----

  /** `bits` of the stack's events, in the order in which they must be looked at. */
  onEvents(bits: number): void {
    const { abi } = this.#host.stack
    const relay = this.#relay
    if (relay !== undefined) {
      relay.activeAt = this.#host.now
      if (bits & abi.eventOpen) relay.openClient()
      if (bits & abi.eventData) relay.pumpUp()
      if (bits & abi.eventFin) relay.finishClient()
      if (bits & abi.eventRoom) relay.pumpDown()
    } else if (this.#route?.answered) this.#route.onEvents(bits)
    else this.#served?.onEvents(bits)
    if (bits & abi.eventGone) this.#gone()
  }

  #gone(): void {
    if (this.#over) return
    const { abi, words } = this.#host.stack
    const error = words[(abi.flows + this.id * abi.flowBytes + abi.flowError) / 4]!
    if (error === abi.errorNone && this.#relay?.upstreamEnded === false) {
      this.#clientGone = true // its last bytes are still on their way to the upstream
      return
    }
    this.#relay?.close(error !== abi.errorNone)
    this.#finish(this.#reason || this.#describe(error))
  }

  #describe(error: number): string {
    const { abi } = this.#host.stack
    if (error === abi.errorNone) return 'closed'
    if (error === abi.errorReset) return 'reset by the client'
    if (error === abi.errorTimeout) return 'the client does not answer any more'
    if (error === abi.errorDisplaced) return 'gave way to the dial of another client'
    return error === abi.errorMemory ? 'out of memory' : 'aborted'
  }

  // ---- what the relay says of the upstream ----

  onUpstreamEnded(): void {
    if (this.#clientGone) this.#gone()
  }

  onBroken(reason: string): void {
    this.abort(reason)
  }

  // ---- the end ----

  /** RST to both sides. Idempotent. */
  abort(reason: string): void {
    if (this.#over) return
    const isHeld = this.#dial !== undefined || this.#route?.isPending
    if (isHeld && !this.#route?.answered) this.refuse(this.#host.stack.abi.answerReset, reason)
    this.#relay?.close(true)
    this.#host.stack.exports.tg_tcp_abort(this.id)
    this.#finish(reason)
  }

  /** Lets go of the upstream without a word to the stack, which stopped. */
  discard(): void {
    this.#over = true
    this.#route?.end()
    this.#dial?.cancel()
    this.#relay?.close(true)
    this.#served?.close()
  }

  #finish(reason: string): void {
    this.#over = true
    this.#route?.end()
    this.#served?.close()
    this.#cancelDial()
    this.#host.stack.exports.tg_tcp_release(this.id)
    this.#host.ended(this, reason)
  }

  /** Called now and then: ends the flow when its time is over. */
  sweep(timeouts: TcpTimeouts): void {
    const { now } = this.#host
    if (this.#dial !== undefined) {
      if (now - this.#dialedAt < timeouts.connectTimeoutMs) return
      const { failure, message } = this.#dial.expire()
      this.#dialEnded()
      const reason = `the dial took too long: ${message}`
      if (this.#route?.answered) this.#resetAnswered(reason)
      else this.refuse(tcpAnswer(this.#host.stack.abi, failure), reason)
      return
    }
    const relay = this.#relay
    if (relay === undefined) return this.#sweepUnrelayed(now, timeouts)
    if (!relay.clientOpen) {
      if (now - relay.activeAt >= timeouts.connectTimeoutMs) this.abort('the client did not answer')
      return
    }
    const half = relay.clientFinished || relay.upstreamFinished
    const limit = half ? timeouts.halfCloseTimeoutMs : timeouts.idleTimeoutMs
    if (now - relay.activeAt >= limit) this.abort(half ? 'half-closed and idle for too long' : 'idle for too long')
  }

  #sweepUnrelayed(now: number, { connectTimeoutMs }: TcpTimeouts): void {
    const overdue = this.#served?.overdue(now)
    if (overdue !== undefined) this.abort(overdue)
    else if (this.#route?.answered && now - this.startedAt >= connectTimeoutMs) this.abort('the client did not answer')
  }

  // ---- for people ----

  get bytesUp(): number {
    return (this.#relay ?? this.#served)?.bytesUp ?? 0
  }

  get bytesDown(): number {
    return (this.#relay ?? this.#served)?.bytesDown ?? 0
  }

  get state(): string {
    const relay = this.#relay
    if (this.#served !== undefined) return this.#served.state
    if (relay === undefined) return this.#route?.isPending ? 'deciding' : 'dialing'
    if (!relay.clientOpen) return 'opening'
    if (relay.clientFinished && relay.upstreamFinished) return 'closing'
    return relay.clientFinished || relay.upstreamFinished ? 'half-closed' : 'open'
  }

  view(): FlowView {
    return {
      id: this.id,
      protocol: 'tcp',
      client: formatEndpoint(this.client),
      destination: formatEndpoint(this.destination),
      state: this.state,
      ageMs: Math.round(this.#host.now - this.startedAt),
      bytesUp: this.bytesUp,
      bytesDown: this.bytesDown,
      ...this.routeView,
    }
  }

  /** What was decided, and by which name. */
  get routeView(): Pick<FlowView, 'domain' | 'why'> {
    const { domain = '', why = '' } = this.#route ?? {}
    return { ...(domain === '' ? {} : { domain }), ...(why === '' ? {} : { why }) }
  }
}
