/** No proxy at all: sockets of our own, beside the tun by mark or interface. */
import { lookup } from 'node:dns/promises'
import { type Destination, type IpEndpoint, parseAddress } from '../endpoint.ts'
import type { SystemError } from '../errors.ts'
import type { Poller } from '../io/poller.ts'
import { type Binding, lacksResources, type Socket } from '../io/socket.ts'
import type { Associating, AssociationListener, Dial, DialError, Dialer, DialFailure, DialListener } from './dialer.ts'
import { interleaved, Race, type RaceListener } from './race.ts'

/** connect(2). */
const FAILURES: { readonly [errno: string]: DialFailure } = {
  ECONNREFUSED: 'refused',
  ENETUNREACH: 'net-unreachable',
  EHOSTUNREACH: 'host-unreachable',
  EHOSTDOWN: 'host-unreachable',
  ETIMEDOUT: 'timeout',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
  EINVAL: 'net-unreachable', // an address to which nobody can connect: a group, a reserved one
  EADDRNOTAVAIL: 'net-unreachable',
}

const NO_UDP: DialError = { failure: 'unsupported', message: 'datagrams do not go directly yet' }

export class DirectDialer implements Dialer {
  readonly #poller: Poller
  readonly #binding: Binding
  readonly #dials = new Set<DirectDial>()
  readonly #counters = { direct_dials: 0, direct_failures: 0 }

  constructor(poller: Poller, binding: Binding) {
    this.#poller = poller
    this.#binding = binding
  }

  connect(destination: Destination, _client: IpEndpoint, listener: DialListener): Dial {
    this.#counters.direct_dials++
    const dial = new DirectDial(this, listener)
    this.#dials.add(dial)
    if ('address' in destination) dial.race([destination])
    else void this.#lookUp(destination.name, destination.port, dial)
    return dial
  }

  /** A turn of its own comes behind the look-up. */
  async #lookUp(name: string, port: number, dial: DirectDial): Promise<void> {
    let endpoints: IpEndpoint[]
    try {
      const found = await lookup(name, { all: true })
      endpoints = found.map(({ address }) => ({ address: parseAddress(address)!, port }))
    } catch (error) {
      const { code } = error as { code?: string }
      const message = `the name cannot be looked up (${code})`
      return this.#poller.turn(() => dial.fail({ failure: 'host-unreachable', message }))
    }
    this.#poller.turn(() => dial.race(interleaved(endpoints)))
  }

  associate(_client: IpEndpoint, listener: AssociationListener): Associating {
    listener.onAssociationFailed(NO_UDP)
    return { close() {}, expire: () => NO_UDP }
  }

  newRace(endpoints: readonly IpEndpoint[], listener: RaceListener): Race {
    return new Race(this.#poller, this.#binding, endpoints, listener)
  }

  ended(dial: DirectDial, hasFailed: boolean): void {
    this.#dials.delete(dial)
    if (hasFailed) this.#counters.direct_failures++
  }

  isUpstream(): boolean {
    return false
  }

  counters(): Record<string, number> {
    return { ...this.#counters }
  }

  close(): void {
    for (const dial of this.#dials) dial.cancel()
  }
}

class DirectDial implements Dial, RaceListener {
  readonly #dialer: DirectDialer
  readonly #listener: DialListener
  #race: Race | undefined
  #over = false

  constructor(dialer: DirectDialer, listener: DialListener) {
    this.#dialer = dialer
    this.#listener = listener
  }

  race(endpoints: readonly IpEndpoint[]): void {
    if (this.#over) return
    this.#race = this.#dialer.newRace(endpoints, this)
    const error = this.#race.begin()
    if (error !== undefined) this.onLost(error)
  }

  onWon(socket: Socket, _: IpEndpoint, readable: boolean): void {
    this.#end(false)
    this.#listener.onConnected({ socket, early: undefined, readable })
  }

  onLost(error: SystemError): void {
    const failure = lacksResources(error) ? 'no-resources' : (FAILURES[error.code] ?? 'general')
    this.fail({ failure, message: `the destination cannot be reached: ${error.code}` })
  }

  fail(error: DialError): void {
    if (this.#over) return
    this.#end(true)
    this.#listener.onFailed(error)
  }

  #end(hasFailed: boolean): void {
    this.#over = true
    this.#dialer.ended(this, hasFailed)
  }

  cancel(): void {
    if (this.#over) return
    this.#end(false)
    this.#race?.cancel()
  }

  expire(): DialError {
    const isLookingUp = this.#race === undefined
    this.cancel()
    const message = isLookingUp ? 'the name is still being looked up' : 'the destination does not answer'
    return { failure: 'timeout', message }
  }
}
