/** An association that is being made: one way after another, until one stands or the upstream has no more (udp-ladder.ts). */
import type { Associating, Association, AssociationListener, DialError } from '../dialer.ts'
import type { ProxyHealth } from '../proxy/proxy-health.ts'
import type { UdpLadder, UdpRung } from './udp-ladder.ts'

/** An association of one way. */
export interface OneWay extends Associating {
  /** Another may take the place of the one that it was made with. */
  listener: AssociationListener
}

export class UdpClimb implements Associating, AssociationListener {
  readonly #ladder: UdpLadder
  readonly #health: Pick<ProxyHealth, 'isUp'>
  readonly #open: (way: UdpRung, listener: AssociationListener) => OneWay
  readonly #listener: AssociationListener
  #way: UdpRung | undefined
  #current: OneWay | undefined
  #closed = false

  /** `open` may fail at once, by its listener. */
  constructor(
    ladder: UdpLadder,
    health: Pick<ProxyHealth, 'isUp'>,
    open: (way: UdpRung, listener: AssociationListener) => OneWay,
    listener: AssociationListener,
  ) {
    this.#ladder = ladder
    this.#health = health
    this.#open = open
    this.#listener = listener
  }

  /** What fails at once is told at once. */
  start(): void {
    const { way } = this.#ladder
    if (way === undefined) this.#fail(this.#ladder.refusal)
    else this.#try(way)
  }

  #try(way: UdpRung): void {
    this.#way = way
    this.#current = undefined
    const opened = this.#open(way, this)
    if (this.#way === way && !this.#closed) this.#current = opened
  }

  onAssociated(association: Association): void {
    this.#ladder.stands(this.#way!)
    this.#current!.listener = this.#listener
    this.#listener.onAssociated(association)
  }

  onAssociationFailed(error: DialError): void {
    const next = this.#ladder.failed(this.#way!, error, this.#health.isUp)
    if (next !== undefined) this.#try(next)
    else this.#fail(this.#ladder.way === undefined ? { ...this.#ladder.refusal, message: error.message } : error)
  }

  onDatagrams(): void {
    this.#listener.onDatagrams()
  }

  #fail(error: DialError): void {
    this.#closed = true
    this.#listener.onAssociationFailed(error)
  }

  close(): void {
    this.#closed = true
    this.#current?.close()
  }

  expire(): DialError {
    const error = this.#current!.expire()
    this.#closed = true
    this.#ladder.failed(this.#way!, error, this.#health.isUp)
    return error
  }
}
