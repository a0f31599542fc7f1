/** The life of one TCP flow: dialed, answered, relayed (tcp-relay.ts), ended. */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import type { FlowView } from '../options.ts'
import type { Connected, Dial, DialError, Dialer, DialListener } from '../upstream/dialer.ts'
import { tcpAnswer } from './answer.ts'
import { type RelayHost, type RelayOwner, TcpRelay } from './tcp-relay.ts'

/** What a flow needs of the data plane around it. */
export interface TcpHost extends RelayHost {
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

export class TcpFlow implements DialListener, RelayOwner {
  /** The stack's number of the flow. */
  readonly id: number
  readonly startedAt: number
  readonly client: IpEndpoint
  readonly destination: IpEndpoint
  readonly #host: TcpHost
  #dialing = false
  #dial: Dial | undefined
  #relay: TcpRelay | undefined
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

  dial(dialer: Dialer): void {
    this.#dialing = true
    const dial = dialer.connect(this.destination, this.client, this)
    if (this.#dialing) this.#dial = dial // it may have failed at once
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
    this.#relay = new TcpRelay(this.#host, this.id, connected, this)
    this.#host.stack.exports.tg_tcp_accept(this.id)
  }

  onFailed(error: DialError): void {
    this.#dialEnded()
    this.refuse(tcpAnswer(this.#host.stack.abi, error.failure), error.message)
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
    }
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
    if (this.#dial !== undefined) this.refuse(this.#host.stack.abi.answerReset, reason)
    this.#relay?.close(true)
    this.#host.stack.exports.tg_tcp_abort(this.id)
    this.#finish(reason)
  }

  /** Lets go of the upstream without a word to the stack, which stopped. */
  discard(): void {
    this.#over = true
    this.#dial?.cancel()
    this.#relay?.close(true)
  }

  #finish(reason: string): void {
    this.#over = true
    this.#cancelDial()
    this.#host.stack.exports.tg_tcp_release(this.id)
    this.#host.ended(this, reason)
  }

  /** Called now and then: ends the flow when its time is over. */
  sweep(timeouts: TcpTimeouts): void {
    const { now } = this.#host
    if (this.#dial !== undefined) {
      if (now - this.startedAt < timeouts.connectTimeoutMs) return
      const { failure, message } = this.#dial.expire()
      this.#dialEnded()
      this.refuse(tcpAnswer(this.#host.stack.abi, failure), `the dial took too long: ${message}`)
      return
    }
    const relay = this.#relay
    if (relay === undefined) return
    if (!relay.clientOpen) {
      if (now - relay.activeAt >= timeouts.connectTimeoutMs) this.abort('the client did not answer')
      return
    }
    const half = relay.clientFinished || relay.upstreamFinished
    const limit = half ? timeouts.halfCloseTimeoutMs : timeouts.idleTimeoutMs
    if (now - relay.activeAt >= limit) this.abort(half ? 'half-closed and idle for too long' : 'idle for too long')
  }

  // ---- for people ----

  get bytesUp(): number {
    return this.#relay?.bytesUp ?? 0
  }

  get bytesDown(): number {
    return this.#relay?.bytesDown ?? 0
  }

  get state(): string {
    const relay = this.#relay
    if (relay === undefined) return 'dialing'
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
    }
  }
}
