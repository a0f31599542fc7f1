/** No proxy at all: sockets of our own, beside the tun by mark or interface. */
import type { LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import { type Destination, type IpEndpoint, parseAddress, sameEndpoint } from '../../endpoint.ts'
import type { SystemError } from '../../errors.ts'
import type { Poller } from '../../io/poller.ts'
import { type Binding, lacksResources, type Socket } from '../../io/socket.ts'
import type {
  Arena,
  Associating,
  AssociationListener,
  Dial,
  DialError,
  Dialer,
  DialFailure,
  DialListener,
  ProbeListener,
  Probing,
} from '../dialer.ts'
import { interleaved, Race, type RaceListener } from '../transport/race.ts'
import { DirectAssociation } from './direct-association.ts'

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

/** Who has given up leaves his look-up behind, which nobody can end; the system does four at a time. */
const MAX_LOOK_UPS = 256
const TOO_MANY_NAMES: DialError = {
  failure: 'no-resources',
  message: `too many names are being looked up (${MAX_LOOK_UPS})`,
}

export class DirectDialer implements Dialer {
  readonly #poller: Poller
  readonly #arena: Arena
  readonly #binding: Binding
  readonly #associations = new Set<DirectAssociation>()
  readonly #dials = new Set<DirectDial>()
  readonly #counters = { direct_dials: 0, direct_failures: 0 }
  readonly #isHop: boolean
  /** Of a hop: where the next one was looked for last. */
  #next: readonly IpEndpoint[] = []

  readonly #resolve: (name: string) => Promise<readonly LookupAddress[]>
  #lookUps = 0

  /**
   * @param isHop all that is dialed is one proxy
   * @param resolve for tests
   */
  constructor(
    poller: Poller,
    arena: Arena,
    binding: Binding,
    isHop = false,
    resolve: (name: string) => Promise<readonly LookupAddress[]> = name => lookup(name, { all: true }),
  ) {
    this.#isHop = isHop
    this.#resolve = resolve
    this.#poller = poller
    this.#arena = arena
    this.#binding = binding
  }

  connect(destination: Destination, _client: IpEndpoint, listener: DialListener): Dial {
    this.#counters.direct_dials++
    const dial = new DirectDial(this, listener)
    this.#dials.add(dial)
    if ('address' in destination) dial.race([destination])
    else {
      const { name, port } = destination
      const onFound = (addresses: readonly Uint8Array[]) =>
        dial.race(interleaved(addresses.map(address => ({ address, port }))))
      this.#lookUp(name, onFound, error => dial.fail(error))
    }
    return dial
  }

  /** One of the two is called, in a turn of its own. Addresses are one or more, those to try first at the front. */
  #lookUp(
    name: string,
    onFound: (addresses: readonly Uint8Array[]) => void,
    onFailed: (error: DialError) => void,
  ): void {
    if (this.#lookUps >= MAX_LOOK_UPS) return this.#poller.later(() => onFailed(TOO_MANY_NAMES))
    this.#lookUps++
    const ended = () => {
      this.#lookUps--
    }
    const looking = this.#resolve(name)
    looking.then(ended, ended)
    looking.then(
      found => {
        const addresses = found.map(({ address }) => parseAddress(address)).filter(address => address !== undefined)
        this.#poller.turn(() => (addresses.length > 0 ? onFound(addresses) : onFailed(unknownName('ENODATA'))))
      },
      (error: { code?: string }) => this.#poller.turn(() => onFailed(unknownName(error.code))),
    )
  }

  /** @param name all datagrams go there */
  associate(_client: IpEndpoint, listener: AssociationListener, name?: string): Associating {
    this.#counters.direct_dials++
    const onClose = () => void this.#associations.delete(association)
    const association = new DirectAssociation(this.#poller, this.#arena, this.#binding, listener, onClose)
    this.#associations.add(association)
    if (name === undefined) this.#poller.later(() => association.open())
    else
      this.#lookUp(
        name,
        ([first]) => association.open(first),
        error => association.fail(error),
      )
    return association
  }

  /** There is nobody who could be down. */
  probe(listener: ProbeListener): Probing {
    let isOver = false
    this.#poller.later(() => {
      if (!isOver) listener.onProbed()
    })
    return {
      cancel: () => {
        isOver = true
      },
    }
  }

  newRace(endpoints: readonly IpEndpoint[], listener: RaceListener): Race {
    if (this.#isHop) this.#next = endpoints
    return new Race(this.#poller, this.#binding, endpoints, listener)
  }

  ended(dial: DirectDial, hasFailed: boolean): void {
    this.#dials.delete(dial)
    if (hasFailed) this.#counters.direct_failures++
  }

  /** Of a hop the next one; else there is no proxy, and it is `client` that may be one of our sockets. */
  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    if (this.#next.some(next => sameEndpoint(next, destination))) return true
    if (client === undefined) return false
    for (const dial of this.#dials) if (dial.isOwn(destination, client)) return true
    for (const association of this.#associations) if (association.isOwn(client)) return true
    return false
  }

  counters(): Record<string, number> {
    return { ...this.#counters }
  }

  close(): void {
    for (const dial of this.#dials) dial.cancel()
    for (const association of this.#associations) association.close()
  }
}

const unknownName = (reason: string | undefined): DialError => ({
  failure: 'host-unreachable',
  message: `the name cannot be looked up (${reason})`,
})

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

  isOwn(destination: IpEndpoint, client: IpEndpoint): boolean {
    return this.#race?.isOwn(destination, client) === true
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
