/**
 * Where a TCP flow goes, when there is something to decide. Where that hangs on a name that only the client's first bytes tell,
 * the client is answered before the dial: its bytes are kept in the stack for the upstream, and a dial that fails can only reset it.
 *
 *     decide ──dial─────────────────────────────────────────────▶ dialed ──▶ answered
 *       │ ├──────look──▶ answered ──name, none, or 300 ms──▶ decide ──▶ dialed
 *       │ └──────ask───▶ held ──verdict──▶ as it says
 *       └─reject, drop─▶ turned away
 */
import type { Destination, IpEndpoint } from '../endpoint.ts'
import type { Dialer } from '../upstream/dialer.ts'
import { FirstLook, type LookHost } from './first-look.ts'
import type { Decision, RoutedFlow, Router } from './router.ts'

export interface RouteHost extends LookHost {
  readonly router: Router
}

/** The flow. */
export interface RouteOwner {
  readonly id: number
  readonly client: IpEndpoint
  readonly destination: IpEndpoint
  dial(dialer: Dialer, destination: Destination): void
  /** Of a client that was not answered; `answer` is one of the stack's constants. */
  refuse(answer: number, reason: string): void
  /** Of one that was. */
  abort(reason: string): void
}

const NO_NAME = 'no name stands behind this virtual address any more'

export class TcpRoute implements RoutedFlow {
  readonly protocol = 'tcp'
  readonly source: IpEndpoint
  readonly destination: Destination
  domain: string | undefined
  /** For people: what was decided. */
  why = ''
  /** A verdict, or the client's first bytes, are waited for. */
  isPending = false
  /** The client was answered before the dial. */
  answered = false
  /** And has sent FIN since. */
  clientEnded = false
  readonly #host: RouteHost
  readonly #owner: RouteOwner
  /** The destination's address stands for `domain`, and is held until the end. */
  #isHeld: boolean
  #look: FirstLook | undefined

  constructor(host: RouteHost, owner: RouteOwner) {
    this.#host = host
    this.#owner = owner
    this.source = owner.client
    const { address, port } = owner.destination
    this.domain = host.router.names?.acquire(address)
    this.#isHeld = this.domain !== undefined && this.domain !== ''
    this.destination = this.#isHeld ? { name: this.domain!, port } : owner.destination
  }

  begin(): void {
    if (this.domain === '') this.#owner.refuse(this.#host.stack.abi.answerHostUnreachable, NO_NAME)
    else this.#follow(this.#host.router.decide(this))
  }

  #follow(decision: Decision): void {
    this.why = decision.why
    if (decision.kind === 'dial') this.#owner.dial(decision.dialer, this.destination)
    else if (decision.kind === 'look') this.#answerFirst()
    else if (decision.kind === 'ask') this.#ask()
    else this.#turnAway(decision.kind)
  }

  #turnAway(kind: 'reject' | 'drop'): void {
    const { answerReset, answerSilence } = this.#host.stack.abi
    // who was answered already can only be reset
    if (this.answered) this.#owner.abort(kind)
    else this.#owner.refuse(kind === 'reject' ? answerReset : answerSilence, kind)
  }

  #ask(): void {
    const { router, poller } = this.#host
    this.isPending = true
    void router.ask(this).then(decision => {
      poller.turn(() => {
        if (!this.isPending) return
        this.isPending = false
        this.#follow(decision)
      })
    })
  }

  #answerFirst(): void {
    this.isPending = true
    this.answered = true
    this.#host.stack.exports.tg_tcp_accept(this.#owner.id)
  }

  /** Bits of the stack's events, of a client that was answered before the dial, until there is a relay. */
  onEvents(bits: number): void {
    const { abi, exports } = this.#host.stack
    if (bits & abi.eventOpen) this.#look = new FirstLook(this.#host, this.#owner.id, () => this.#onLooked(''))
    const found = bits & abi.eventData ? this.#look?.look() : undefined
    // out of the slots of the device
    if (bits & abi.eventData) exports.tg_tcp_consume(this.#owner.id, 0)
    if (bits & abi.eventFin) this.clientEnded = true
    if (found !== undefined || bits & abi.eventFin) this.#onLooked(found ?? '')
  }

  #onLooked(domain: string): void {
    if (this.#look === undefined) return
    this.isPending = false
    this.#endLook()
    this.domain = domain
    this.#follow(this.#host.router.decide(this))
  }

  #endLook(): void {
    this.#look?.end()
    this.#look = undefined
  }

  /** The flow is over. Idempotent: where the stack stops meanwhile, it is called again. */
  end(): void {
    this.isPending = false
    this.#endLook()
    if (this.#isHeld) this.#host.router.names?.release(this.#owner.destination.address)
    this.#isHeld = false
  }
}
