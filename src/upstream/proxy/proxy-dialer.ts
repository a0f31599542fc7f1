/** Opens flows through a proxy, whatever its protocol and however it is reached. */
import { type Destination, formatAddress, type IpEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import type { Poller, Watcher } from '../../io/poller.ts'
import { type Binding, lacksResources, Socket } from '../../io/socket.ts'
import { Complaints } from '../../log-limits.ts'
import type { Relays } from '../datagrams/relays.ts'
import { StreamAssociation } from '../datagrams/stream-association.ts'
import { type Chained, relayAssociation } from '../datagrams/through-association.ts'
import { UdpClimb } from '../datagrams/udp-climb.ts'
import type { UdpLadder, UdpRung } from '../datagrams/udp-ladder.ts'
import type { Arena, Associating, AssociationListener, Dial, DialError, Dialer, DialListener } from '../dialer.ts'
import { Command, type ReplyFields } from '../socks5/socks5-codec.ts'
import type { Manner, Manners } from '../socks5/socks5-manners.ts'
import type { Transport } from '../transport/transport.ts'
import { notConnected } from '../transport/transport-reasons.ts'
import type { Authentication } from './authentication.ts'
import { ConnectionPool, TICK_MS } from './connection-pool.ts'
import type { Ask, Handshake, HandshakeEnd, HandshakeListener } from './handshake.ts'
import { type NotConnected, Opening, type OpeningHost } from './opening.ts'
import { PathProbe } from './path-probe.ts'
import type { HealthLog, ProxyHealth } from './proxy-health.ts'
import { ProxyProbes } from './proxy-probe.ts'
import type { ProxyState } from './proxy-state.ts'

/** What connect() says of the network, not of this machine. */
const NETWORK_ERRORS = new Set(['ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'ETIMEDOUT', 'EACCES', 'EADDRNOTAVAIL'])
/** It is this machine that refuses: no descriptor, no right, no such interface. */
const NO_SOCKET = 'no socket to the proxy can be made'
const DENIED = 'the proxy does not accept the user name and password of a client'

/** While more are being opened for clients, each connection made in advance would keep them waiting. */
const BUSY_OPENINGS = 8
/** Of the descriptors that there may be: when more are in use, none is kept for a dial that may come. */
const POOL_SHARE = 0.75
/** For whom a connection is made in advance. */
const NOBODY: IpEndpoint = { address: new Uint8Array(4), port: 0 }

const NOT_RESOLVED: NotConnected = {
  error: { failure: 'upstream-down', message: "the proxy's name has no address (yet)" },
  end: 'local',
  proxy: undefined,
}

/** What a dialer must know of its proxy's protocol. */
export interface Protocol {
  /** Why this cannot be asked of such a proxy. Not there: everything can. */
  readonly objection?: (ask: Ask) => DialError | undefined
  handshake(manner: Manner, listener: HandshakeListener): Handshake
}

export interface ProxyParts {
  readonly poller: Poller
  readonly arena: Arena
  readonly proxy: ProxyState
  readonly transport: Transport
  readonly protocol: Protocol
  /** Connections made in advance at most. */
  readonly pool: number
  readonly binding: Binding
  readonly log: Pick<HealthLog, 'warn'>
  /** How the proxy is reached; undefined: straight. */
  readonly chain?: Chained | undefined
}

export class ProxyDialer implements Dialer, OpeningHost {
  readonly poller: Poller
  readonly arena: Arena
  readonly health: ProxyHealth
  readonly ladder: UdpLadder
  readonly manners: Manners
  readonly hasUserPerClient: boolean
  readonly #chain: Chained | undefined
  readonly #transport: Transport
  readonly #protocol: Protocol
  readonly #authentication: Authentication
  readonly #binding: Binding
  readonly #log: Pick<HealthLog, 'warn'>
  readonly #pool: ConnectionPool
  readonly #openings = new Set<Opening>()
  readonly #probes: ProxyProbes
  readonly probe: NonNullable<Dialer['probe']>
  readonly #path = new PathProbe(
    watcher => this.#transport.probe(watcher),
    () => this.#onPath(),
  )
  readonly relays: Relays
  readonly #counters = { handshakes: 0, handshake_failures: 0, handshake_fallbacks: 0 }
  readonly #complaints = new Complaints()
  #clock: NodeJS.Timeout | undefined

  constructor({ poller, arena, proxy, transport, protocol, pool, binding, log, chain }: ProxyParts) {
    this.#chain = chain
    this.poller = poller
    this.arena = arena
    this.#binding = binding
    this.#log = { warn: (message, fields) => log.warn(message, { upstream: proxy.name, ...fields }) }
    this.health = proxy.health
    this.ladder = proxy.ladder
    this.manners = proxy.manners
    this.#transport = transport
    this.#protocol = protocol
    this.#authentication = proxy.authentication
    this.hasUserPerClient = proxy.authentication.isPerSource || chain?.through.hasUserPerClient === true
    this.relays = proxy.relays
    this.#pool = new ConnectionPool(this, pool)
    this.#probes = new ProxyProbes(poller, proxy, transport, asker => protocol.handshake(this.manners.ahead, asker))
    this.probe = listener => this.#probes.start(listener)
  }

  connect(destination: Destination, client: IpEndpoint, listener: DialListener): Dial {
    return this.#start(new ProxyDial(this, destination, client, listener))
  }

  associate(client: IpEndpoint, listener: AssociationListener, name?: string): Associating {
    const open = (rung: UdpRung, of: AssociationListener) =>
      this.#start(
        rung === 'tcp'
          ? new StreamAssociation(this, client, of, name)
          : relayAssociation(this, this.#chain, client, of, name),
      )
    const climb = new UdpClimb(this.ladder, this.health, open, listener)
    climb.start()
    return climb
  }

  #start<O extends Opening>(opening: O): O {
    this.#counters.handshakes++
    this.#openings.add(opening)
    this.#clock ??= setInterval(() => this.poller.turn(() => this.#tick()), TICK_MS).unref()
    const objection = this.#protocol.objection?.(opening)
    if (objection !== undefined) opening.refuse(objection)
    else if (this.#authentication.isSet) this.#authentication.of(opening.client).admit(opening)
    else opening.start()
    return opening
  }

  #tick(): void {
    let waitInVain = false
    for (const opening of this.#openings) {
      opening.tick()
      waitInVain ||= opening.waitsInVain
    }
    this.#path.tick(waitInVain)
    this.#authentication.tick()
    if (this.#pool.tick() || this.#openings.size > 0) return
    clearInterval(this.#clock)
    this.#clock = undefined
  }

  #onPath(): void {
    for (const opening of this.#openings) if (opening.waitsInVain) opening.reconnect()
  }

  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.#transport.isPeer(destination, client) || this.relays.has(destination)
  }

  // ---- connections ----

  takePooled(): Handshake | undefined {
    return this.#pool.size === 0 ? undefined : this.#pool.take(this.#transport.peer)
  }

  connectAnew(listener: HandshakeListener, client: IpEndpoint, manner?: Manner): Handshake | NotConnected {
    // a password that was refused is shown once in a dial, not first in one manner and then in the other
    const isOnTrial = this.manners.learns && this.#authentication.of(client).isDenied
    try {
      return this.#connect(
        manner ?? (isOnTrial ? this.manners.strict : this.manners.towards(this.#transport.peer)),
        client,
        listener,
      )
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      if (error.code === 'ENOTFOUND') return NOT_RESOLVED
      const isNetwork = NETWORK_ERRORS.has(error.code)
      if (!isNetwork) this.#complain(NO_SOCKET, { reason: error.code })
      return { error: notConnected(error), end: isNetwork ? 'unreached' : 'local', proxy: this.#transport.peer }
    }
  }

  connectAhead(listener: HandshakeListener): Handshake | undefined {
    try {
      return this.#connect(this.manners.ahead, NOBODY, listener)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      return undefined
    }
  }

  #connect(manner: Manner, client: IpEndpoint, listener: HandshakeListener): Handshake {
    const handshake = this.#protocol.handshake(manner, listener)
    handshake.connecting = this.#transport.connect(handshake, client)
    return handshake
  }

  connectUdp(relay: IpEndpoint, watcher: Watcher): Socket {
    try {
      return Socket.connectUdp(this.poller, relay, this.#binding, watcher)
    } catch (error) {
      if (error instanceof SystemError && lacksResources(error)) this.#complain(NO_SOCKET, { reason: error.code })
      throw error
    }
  }

  #complain(message: string, fields: Record<string, unknown>): void {
    if (this.#complaints.isDue(message, performance.now())) this.#log.warn(message, fields)
  }

  mayFill(): boolean {
    const hasRoom = this.poller.used < this.poller.capacity * POOL_SHARE
    return this.health.isUp && this.#openings.size <= BUSY_OPENINGS && hasRoom
  }

  pooledServed(): void {
    this.#pool.served()
  }

  pooledDied(): void {
    this.#pool.died()
  }

  // ---- how openings end ----

  fellBack(): void {
    this.#counters.handshake_fallbacks++
  }

  opened(opening: Opening): void {
    this.cancelled(opening)
    this.health.answered()
  }

  failed(opening: Opening, error: DialError, end: HandshakeEnd, proxy?: IpEndpoint): void {
    this.cancelled(opening)
    this.#counters.handshake_failures++
    if (end === 'denied' && this.#authentication.isPerSource && this.#authentication.of(opening.client).isDenied) {
      this.health.answered() // others have other users
      this.#complain(DENIED, { client: formatAddress(opening.client.address), reason: error.message })
    } else if (end === 'refused') this.health.answered()
    else if (end !== 'local' && this.health.failed(end, error.message)) {
      this.ladder.forget()
      this.#transport.failed(proxy, this.health.answers)
    }
  }

  cancelled(opening: Opening): void {
    this.#openings.delete(opening)
    if (this.#authentication.isSet) this.#authentication.of(opening.client).left(opening)
  }

  stayedMute(reason: string, proxy: IpEndpoint | undefined): void {
    this.#counters.handshake_failures++
    this.health.failed('unreached', reason)
    this.#transport.failed(proxy, this.health.answers)
  }

  counters(): Record<string, number> {
    return { ...this.#counters, ...this.#pool.counters() }
  }

  close(): void {
    clearInterval(this.#clock)
    this.#clock = undefined
    for (const opening of this.#openings) opening.cancel()
    this.#pool.close()
    this.#path.close()
    this.#probes.close()
    this.#transport.close()
  }
}

class ProxyDial extends Opening implements Dial {
  readonly #listener: DialListener

  constructor(host: OpeningHost, destination: Destination, client: IpEndpoint, listener: DialListener) {
    super(host, Command.connect, destination, client)
    this.#listener = listener
  }

  protected override onOpened(
    { socket }: Handshake,
    _: ReplyFields,
    early: Uint8Array | undefined,
    readable: boolean,
  ): void {
    this.#listener.onConnected({ socket, early, readable })
  }

  protected override onNotOpened(error: DialError): void {
    this.#listener.onFailed(error)
  }
}
