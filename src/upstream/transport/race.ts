/**
 * Happy Eyeballs (RFC 8305 §5): TCP to the addresses of one name in their order, the next one 250 ms behind the last or as soon as
 * that has failed. The first connection that stands is taken, the others are given up.
 */
import { type IpEndpoint, sameEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import { addon, ERROR, HANGUP, WRITABLE } from '../../io/addon.ts'
import type { Poller, Watcher } from '../../io/poller.ts'
import { type Binding, Socket } from '../../io/socket.ts'

/** RFC 8305 §8, Connection Attempt Delay. */
const DELAY_MS = 250

/** One of the two is called, once; none inside of begin(). */
export interface RaceListener {
  /** `readable`: events have been seen that tell of more than that it stands. The socket's watcher is to be replaced. */
  onWon(socket: Socket, endpoint: IpEndpoint, readable: boolean): void
  /** The error of the last that has answered, if there is one. */
  onLost(error: SystemError): void
}

export class Race {
  readonly #poller: Poller
  readonly #binding: Binding
  readonly #endpoints: readonly IpEndpoint[]
  readonly #listener: RaceListener
  readonly #running = new Set<Attempt>()
  #begun = 0
  #last: SystemError | undefined
  #timer: NodeJS.Timeout | undefined

  /** @param endpoints one or more */
  constructor(poller: Poller, binding: Binding, endpoints: readonly IpEndpoint[], listener: RaceListener) {
    this.#poller = poller
    this.#binding = binding
    this.#endpoints = endpoints
    this.#listener = listener
  }

  /** The error when all have failed at once: then the listener hears nothing. */
  begin(): SystemError | undefined {
    while (this.#begun < this.#endpoints.length) {
      const endpoint = this.#endpoints[this.#begun++]!
      try {
        this.#running.add(new Attempt(this, this.#poller, endpoint, this.#binding))
        this.#wait()
        return undefined
      } catch (error) {
        if (!(error instanceof SystemError)) throw error
        this.#last ??= error // what another address has answered tells more
      }
    }
    return this.#running.size === 0 ? this.#last : undefined
  }

  #wait(): void {
    clearTimeout(this.#timer)
    if (this.#begun === this.#endpoints.length) return
    this.#timer = setTimeout(() => this.#poller.turn(() => this.#next()), DELAY_MS).unref()
  }

  #next(): void {
    const error = this.begin()
    if (error !== undefined) this.#listener.onLost(error)
  }

  stands(attempt: Attempt, readable: boolean): void {
    this.#running.delete(attempt)
    this.cancel()
    this.#listener.onWon(attempt.socket, attempt.endpoint, readable)
  }

  failed(attempt: Attempt, errno: number): void {
    this.#running.delete(attempt)
    attempt.socket.close()
    const name = addon.errnoName(errno)
    this.#last = new SystemError(name, `connect: ${name}`, 'connect', -errno)
    this.#next()
  }

  /** One of its connections that do not stand yet is that of `client` to `destination`. */
  isOwn(destination: IpEndpoint, client: IpEndpoint): boolean {
    for (const attempt of this.#running) if (attempt.isOwn(destination, client)) return true
    return false
  }

  /** Idempotent; nothing is called afterwards. */
  cancel(): void {
    clearTimeout(this.#timer)
    this.#begun = this.#endpoints.length
    for (const { socket } of this.#running) socket.close(true)
    this.#running.clear()
  }
}

class Attempt implements Watcher {
  readonly endpoint: IpEndpoint
  readonly socket: Socket
  readonly #race: Race
  #local: IpEndpoint | undefined

  /** Throws SystemError. */
  constructor(race: Race, poller: Poller, endpoint: IpEndpoint, binding: Binding) {
    this.#race = race
    this.endpoint = endpoint
    this.socket = Socket.connectTcp(poller, endpoint, binding, this)
  }

  isOwn(destination: IpEndpoint, client: IpEndpoint): boolean {
    if (!sameEndpoint(this.endpoint, destination)) return false
    this.#local ??= this.socket.localEndpoint(destination.address.length === 4 ? 4 : 6)
    return this.#local !== undefined && sameEndpoint(this.#local, client)
  }

  onReady(events: number): void {
    if ((events & (WRITABLE | ERROR | HANGUP)) === 0 || !this.socket.open) return
    const errno = this.socket.takeError()
    if (errno === 0) this.#race.stands(this, (events & ~WRITABLE) !== 0)
    else this.#race.failed(this, errno)
  }
}

/** Addresses of both families in turns, the first one's family first (RFC 8305 §4). */
export function interleaved(endpoints: readonly IpEndpoint[]): readonly IpEndpoint[] {
  const first = endpoints[0]?.address.length
  const own = endpoints.filter(({ address }) => address.length === first)
  const other = endpoints.filter(({ address }) => address.length !== first)
  return own.flatMap((endpoint, at) => [endpoint, ...other.slice(at, at + 1)]).concat(other.slice(own.length))
}
