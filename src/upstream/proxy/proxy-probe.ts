/** Whether a proxy answers: a connection, and the greeting where the protocol has one and a password may be shown. */
import type { IpEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import { addon, ERROR, HANGUP, WRITABLE } from '../../io/addon.ts'
import type { Poller } from '../../io/poller.ts'
import { lacksResources, type Socket } from '../../io/socket.ts'
import type { DialError, ProbeListener, Probing } from '../dialer.ts'
import type { Connecting, Transport, TransportUser } from '../transport/transport.ts'
import { notConnected, unreachable } from '../transport/transport-reasons.ts'
import type { Handshake, HandshakeEnd, HandshakeListener } from './handshake.ts'
import type { ProxyFailure } from './proxy-health.ts'
import type { ProxyState } from './proxy-state.ts'

const EAGAIN = -11
const NOTHING = new Uint8Array(0)
/** Nobody's: no client has asked for it. */
const NOBODY: IpEndpoint = { address: new Uint8Array(4), port: 0 }

/** Those of one dialer. */
export class ProxyProbes {
  readonly #poller: Pick<Poller, 'later'>
  readonly #proxy: ProxyState
  readonly #transport: Transport
  readonly #handshake: (listener: HandshakeListener) => Handshake
  readonly #running = new Set<ProxyProbe>()

  /** @param handshake a new one that begins ahead of a request */
  constructor(
    poller: Pick<Poller, 'later'>,
    proxy: ProxyState,
    transport: Transport,
    handshake: (listener: HandshakeListener) => Handshake,
  ) {
    this.#poller = poller
    this.#proxy = proxy
    this.#transport = transport
    this.#handshake = handshake
  }

  start(listener: ProbeListener): Probing {
    const { health, authentication } = this.#proxy
    const { isSet, isPerSource, isSettled } = authentication
    const probe = new ProxyProbe(this.#poller, this.#running, (error, end, peer) => {
      if (error === undefined) {
        health.answered()
        return listener.onProbed()
      }
      if (end !== 'local' && end !== 'refused' && health.failed(end, error.message))
        this.#transport.failed(peer, health.answers)
      listener.onFailed(error)
    })
    const mayGreet = !isSet || (!isPerSource && isSettled)
    probe.start(this.#transport, mayGreet ? this.#handshake(probe) : undefined)
    return probe
  }

  close(): void {
    for (const probe of this.#running) probe.cancel()
  }
}

/** @param error undefined: the proxy answers */
type ProbeEnded = (error: DialError | undefined, end: HandshakeEnd, peer: IpEndpoint | undefined) => void

class ProxyProbe implements TransportUser, HandshakeListener, Probing {
  readonly #poller: Pick<Poller, 'later'>
  readonly #running: Set<ProxyProbe>
  readonly #ended: ProbeEnded
  #handshake: Handshake | undefined
  #connecting: Connecting | undefined
  #socket: Socket | undefined
  #peer: IpEndpoint | undefined
  #over = false
  #calledOff = false

  /**
   * @param running it is in there until it is over
   * @param ended called once, in a turn of its own; not after cancel()
   */
  constructor(poller: Pick<Poller, 'later'>, running: Set<ProxyProbe>, ended: ProbeEnded) {
    this.#poller = poller
    this.#running = running
    running.add(this)
    this.#ended = ended
  }

  /** @param handshake begins ahead of a request; undefined: that a connection stands must do */
  start(transport: Transport, handshake: Handshake | undefined): void {
    this.#handshake = handshake
    handshake?.begin()
    try {
      this.#connecting = transport.connect(this, NOBODY)
      if (handshake !== undefined && this.#connecting !== undefined) handshake.connecting = this.#connecting
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      this.#finish(notConnected(error), lacksResources(error) ? 'local' : 'unreached')
    }
  }

  attach(socket: Socket, peer: IpEndpoint | undefined, readable: boolean): void {
    this.#connecting = undefined
    this.#socket = socket
    this.#peer = peer
    this.#handshake?.attach(socket, peer, readable)
    if (this.#over) return
    // one that was another's stands without an event: a write says so
    const sent = addon.writeBytes(socket.fd, NOTHING)
    if (sent === 0) this.onReady(WRITABLE)
    else if (sent === EAGAIN) this.#look()
    else this.#unreached(addon.errnoName(sent))
  }

  onUnconnected(error: DialError, end: 'local' | ProxyFailure): void {
    this.#handshake?.cancel()
    this.#finish(error, end)
  }

  onReady(events: number): void {
    if (this.#over) return
    if (this.#handshake !== undefined) {
      this.#handshake.onReady(events)
      return this.#look()
    }
    if ((events & (ERROR | HANGUP)) !== 0) {
      const errno = this.#socket!.takeError()
      this.#unreached(errno === 0 ? 'closed' : addon.errnoName(errno))
    } else if ((events & WRITABLE) !== 0) this.#finish(undefined, 'local')
  }

  #unreached(reason: string): void {
    this.#finish({ failure: 'upstream-down', message: unreachable(reason) }, 'unreached')
  }

  /** It is ready to be asked. */
  #look(): void {
    if (this.#handshake !== undefined && this.#handshake.waitsFor === undefined) this.#finish(undefined, 'local')
  }

  onReply(): void {}
  onAskAgain(): void {}

  onHandshakeFailed(_: Handshake, error: DialError, end: HandshakeEnd): void {
    this.#finish(error, end)
  }

  #finish(error: DialError | undefined, end: HandshakeEnd): void {
    if (this.#over) return
    this.#close()
    this.#poller.later(() => {
      if (this.#calledOff) return
      this.#running.delete(this)
      this.#ended(error, end, this.#peer)
    })
  }

  #close(): void {
    this.#over = true
    this.#connecting?.cancel()
    this.#handshake?.cancel()
    this.#socket?.close()
  }

  cancel(): void {
    this.#calledOff = true
    this.#running.delete(this)
    this.#close()
  }
}
