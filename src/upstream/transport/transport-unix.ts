/** A proxy that listens on a Unix socket of this machine. */
import { SystemError } from '../../errors.ts'
import type { Poller } from '../../io/poller.ts'
import { Socket } from '../../io/socket.ts'
import { escapeControls } from '../../redact.ts'
import type { Connecting, Transport, TransportUser } from './transport.ts'
import { notConnected } from './transport-reasons.ts'

/** As many wait for the proxy to accept them as may: asked again after so many milliseconds. */
const RETRY_MS = 20

/** What connect() says of the path, not of this machine. */
const ADVICE: { readonly [errno: string]: string } = {
  ENOENT: 'there is nothing at',
  ENOTDIR: 'there is nothing at',
  ECONNREFUSED: 'nobody listens at',
  EACCES: 'its rights do not let us use',
  EPERM: 'its rights do not let us use',
  ELOOP: 'too many symbolic links lead to',
  EPROTOTYPE: 'no stream is spoken at',
}

/** What connect(2) says when as many wait for the proxy as may. */
const FULL = 'EAGAIN'

export class UnixTransport implements Transport {
  readonly peer = undefined
  readonly poller: Poller
  readonly path: string
  readonly #waiting = new Set<Waiting>()

  /** @param path absolute, of at most 107 bytes */
  constructor(poller: Poller, path: string) {
    this.poller = poller
    this.path = path
  }

  connect(user: TransportUser): Connecting | undefined {
    const outcome = this.try(user)
    if (outcome === undefined) return undefined
    const waiting = new Waiting(this, user, outcome)
    this.#waiting.add(waiting)
    return waiting
  }

  /** Why there is no connection, in words, or FULL; undefined: the user has it. Throws SystemError for what is this machine's. */
  try(user: TransportUser): string | undefined {
    try {
      user.attach(Socket.connectUnix(this.poller, this.path, user), undefined, false)
      return undefined
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      if (error.code === FULL) return FULL
      const advice = ADVICE[error.code]
      if (advice === undefined) throw error
      return `the proxy cannot be reached: ${advice} ${escapeControls(this.path)} (${error.code})`
    }
  }

  waited(waiting: Waiting): void {
    this.#waiting.delete(waiting)
  }

  probe(): undefined {}

  failed(): void {}

  isPeer(): boolean {
    return false
  }

  close(): void {
    for (const waiting of this.#waiting) waiting.cancel()
  }
}

/** One that was not connected at once: it is asked again, or told why not. */
class Waiting implements Connecting {
  readonly stands = true
  readonly #transport: UnixTransport
  readonly #user: TransportUser
  #outcome: string
  #timer: NodeJS.Timeout | undefined

  constructor(transport: UnixTransport, user: TransportUser, outcome: string) {
    this.#transport = transport
    this.#user = user
    this.#outcome = outcome
    this.#wait()
  }

  #wait(): void {
    const work = () => this.#transport.poller.turn(() => this.#goOn())
    this.#timer = setTimeout(work, this.#outcome === FULL ? RETRY_MS : 0)
  }

  #goOn(): void {
    try {
      const outcome = this.#outcome === FULL ? this.#transport.try(this.#user) : this.#outcome
      if (outcome === FULL) return this.#wait()
      this.cancel()
      if (outcome !== undefined) this.#user.onUnconnected({ failure: 'upstream-down', message: outcome }, 'unreached')
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      this.cancel()
      this.#user.onUnconnected(notConnected(error), 'local')
    }
  }

  cancel(): void {
    clearTimeout(this.#timer)
    this.#transport.waited(this)
  }

  expire(): string {
    this.cancel()
    return `the proxy accepts no connection: too many wait at ${escapeControls(this.#transport.path)}`
  }
}
