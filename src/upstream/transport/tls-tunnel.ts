/**
 * TLS on a connection of any kind, as a socket of the poller: node:tls speaks on the connection, and what it has deciphered
 * goes through a pair of sockets whose other end is the user's.
 *
 *     user ◀─ socket of a pair ─▶ tunnel ◀─▶ node:tls ◀─ SocketStream ─▶ the connection
 *
 * Each side ends apart: FIN on the pair is close_notify in TLS (RFC 8446 §6.1), and the other way round. An end without
 * close_notify is a cut, by whomever: it becomes a fault of the user's socket. node:tls tells one as the other, so the end of
 * the connection is kept from it: when it tells an end nevertheless, that was a close_notify.
 */
import { connect, type TLSSocket } from 'node:tls'
import type { IpEndpoint } from '../../endpoint.ts'
import { SystemError } from '../../errors.ts'
import { addon } from '../../io/addon.ts'
import type { Poller } from '../../io/poller.ts'
import { lacksResources, Socket } from '../../io/socket.ts'
import type { DialError } from '../dialer.ts'
import type { ProxyFailure } from '../proxy/proxy-health.ts'
import { readChunk, SocketStream, type StreamOwner } from './socket-stream.ts'
import { brokenOff, cut, tlsFailure } from './tls-reasons.ts'
import type { TlsServer } from './tls-server.ts'
import type { Connecting, TransportUser } from './transport.ts'
import { silent, unreachable } from './transport-reasons.ts'

const EAGAIN = -11
const NOTHING = new Uint8Array(0)
/** Reads of the user's bytes in a row; then others have their turn. */
const READS_A_TURN = 4
/** The user has closed in order: so long may its last bytes wait for the proxy to take some. */
const LINGER_MS = 10_000

export interface TunnelHost {
  readonly poller: Poller
  readonly server: TlsServer
  /** It holds nothing any more. */
  ended(tunnel: TlsTunnel): void
}

export class TlsTunnel implements TransportUser, Connecting, StreamOwner {
  /** Of the connection below; until that is attached. */
  below: Connecting | undefined
  readonly #host: TunnelHost
  readonly #user: TransportUser
  #peer: IpEndpoint | undefined
  #connection: Socket | undefined
  #stream: SocketStream | undefined
  #tls: TLSSocket | undefined
  /** The two ends of the pair. */
  #outer: Socket | undefined
  #inner: Socket | undefined
  /** The handshake is done: the proxy is who it should be. */
  #secure = false
  #cancelled = false
  #over = false
  /** The user has closed its end, in order. */
  #outerClosed = false
  #linger: NodeJS.Timeout | undefined
  /** node:tls takes no more of the user's bytes for now. */
  #upBlocked = false
  #upEnded = false
  #upFinished = false
  #queued = false
  /** Deciphered, and not taken by the pair yet. */
  #rest: Uint8Array | undefined
  /** close_notify has come. */
  #downEnded = false
  /** Why the connection ended: '' or an errno. */
  #inputEnd: string | undefined

  constructor(host: TunnelHost, user: TransportUser) {
    this.#host = host
    this.#user = user
  }

  // ---- the connection below ----

  get stands(): boolean {
    return this.#tls !== undefined || this.below?.stands === true
  }

  attach(socket: Socket, peer: IpEndpoint | undefined): void {
    this.below = undefined
    this.#connection = socket
    this.#peer = peer
    this.#beginIfConnected(socket)
  }

  onUnconnected(error: DialError, end: 'local' | ProxyFailure): void {
    this.#over = true
    this.#host.ended(this)
    this.#user.onUnconnected(error, end)
  }

  onReady(): void {
    if (!this.#over) this.#beginIfConnected(this.#connection!)
  }

  /** Events of a connection that was another's are no help: what says whether it stands is a write. */
  #beginIfConnected(connection: Socket): void {
    const sent = addon.writeBytes(connection.fd, NOTHING)
    if (sent === 0) return this.#begin(connection)
    if (sent !== EAGAIN)
      this.#fail({ failure: 'upstream-down', message: unreachable(addon.errnoName(sent)) }, 'unreached')
  }

  #begin(connection: Socket): void {
    const { server } = this.#host
    this.#stream = new SocketStream(connection, this)
    connection.handOver(this.#stream)
    const { duplex } = this.#stream
    const { session } = server
    this.#tls = connect({ ...server.options, socket: duplex, ...(session === undefined ? {} : { session }) })
    this.#tls
      .on('error', error => this.#onTlsError(error))
      .on('session', made => server.keep(made))
      .once('secureConnect', () => this.#onSecure())
  }

  /** What is told to the user is told in a turn, and never inside of connect(). */
  #onSecure(): void {
    this.#secure = true
    this.#host.poller.later(() => {
      if (!this.#over) this.#attachUser()
    })
  }

  #onTlsError(error: Error): void {
    if (this.#over) return
    const { message, end } = tlsFailure(error, this.#host.server.options.host)
    if (this.#outer !== undefined) return this.#break(message)
    this.#host.server.forget()
    this.#fail({ failure: end === 'denied' ? 'authentication' : 'upstream-down', message }, end)
  }

  #fail(error: DialError, end: 'local' | ProxyFailure): void {
    this.#release(false)
    this.#host.poller.later(() => {
      if (!this.#cancelled) this.#user.onUnconnected(error, end)
    })
  }

  // ---- the user's socket ----

  #attachUser(): void {
    const { poller } = this.#host
    const inner = { onReady: () => this.#onInner() }
    try {
      ;[this.#outer, this.#inner] = Socket.pair(poller, this.#user, inner)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      this.#release(true)
      const failure = lacksResources(error) ? 'no-resources' : 'general'
      return this.#user.onUnconnected({ failure, message: unreachable(error.code) }, 'local')
    }
    this.#outer.onClose = reset => this.#onOuterClose(reset)
    this.#tls!.on('readable', () => this.#pumpDown())
      .on('end', () => this.#onDownEnd())
      .on('drain', () => this.#onDrain())
    this.#user.attach(this.#outer, this.#peer, false)
    this.#pumpDown()
  }

  #onOuterClose(reset: boolean): void {
    if (this.#over) return
    if (reset || this.#upFinished) return this.#release(reset)
    this.#outerClosed = true
    this.#linger = setTimeout(() => this.#release(true), LINGER_MS).unref()
    this.#pumpDown() // into nothing
  }

  // ---- user → proxy ----

  #onInner(): void {
    if (this.#rest !== undefined) this.#pumpDown()
    this.#pumpUp()
  }

  #pumpUp(): void {
    if (this.#queued) return
    for (let reads = 0; !this.#upBlocked && !this.#upEnded && !this.#over; reads++) {
      if (reads === READS_A_TURN) {
        this.#queued = true
        setImmediate(() => {
          this.#queued = false
          this.#pumpUp()
        })
        return
      }
      const chunk = readChunk(this.#inner!)
      if (typeof chunk !== 'number') this.#upBlocked = !this.#tls!.write(chunk)
      else if (chunk === EAGAIN) return
      else {
        this.#upEnded = true
        this.#tls!.end()
      }
    }
  }

  #onDrain(): void {
    this.#upBlocked = false
    this.#linger?.refresh()
    this.#pumpUp()
  }

  onFinished(): void {
    this.#upFinished = true
    this.#endIfDone()
  }

  onOutputBroken(errno: string): void {
    // what the proxy had sent before is delivered first, if it is still to come
    if (this.#inputEnd !== undefined || this.#downEnded) setImmediate(() => this.#break(cut(errno)))
  }

  // ---- proxy → user ----

  #pumpDown(): void {
    while (!this.#over) {
      this.#rest ??= (this.#tls!.read() as Buffer | null) ?? undefined
      if (this.#rest === undefined) return this.#downEnded ? this.#endDown() : this.#breakIfCut()
      const sent = this.#outerClosed ? this.#rest.length : addon.writeBytes(this.#inner!.fd, this.#rest)
      if (sent === EAGAIN) return
      // a negative one: the user has closed its end, and says so in another way
      this.#rest = sent < 0 || sent === this.#rest.length ? undefined : this.#rest.subarray(sent)
    }
  }

  #onDownEnd(): void {
    this.#downEnded = true
    this.#pumpDown()
  }

  #endDown(): void {
    this.#inner!.end()
    this.#endIfDone()
  }

  #endIfDone(): void {
    const isDownDone = this.#outerClosed || (this.#downEnded && this.#rest === undefined)
    if (this.#upFinished && isDownDone) this.#release(false)
  }

  onInputEnd(errno: string): void {
    this.#inputEnd = errno
    this.#breakIfCut()
  }

  /** When all that had come is with the user, whose reads lead here, and node:tls could tell a close_notify in it. */
  #breakIfCut(): void {
    if (this.#inputEnd === undefined || this.#downEnded) return
    setImmediate(() => {
      if (this.#over || this.#downEnded || (this.#secure && this.#outer === undefined)) return
      const { duplex } = this.#stream!
      if (duplex.readableLength > 0) return duplex.isPaused() ? undefined : this.#breakIfCut()
      const errno = this.#inputEnd!
      if (!this.#secure) this.#fail({ failure: 'upstream-down', message: brokenOff(errno) }, 'unreached')
      else if (this.#rest === undefined && this.#tls!.readableLength === 0) this.#break(cut(errno))
    })
  }

  // ---- the end ----

  /** The user's socket says that this is no end in order. */
  #break(reason: string): void {
    if (this.#over) return
    if (this.#outer !== undefined) this.#outer.fault = this.#connection!.fault ?? reason
    this.#release(true)
  }

  #release(reset: boolean): void {
    this.#over = true
    clearTimeout(this.#linger)
    this.below?.cancel()
    this.below = undefined
    this.#tls?.destroy()
    this.#stream?.duplex.destroy()
    this.#connection?.close(reset)
    this.#inner?.close()
    this.#host.ended(this)
  }

  cancel(): void {
    this.#cancelled = true
    if (!this.#over) this.#release(true)
  }

  expire(): string {
    const { below } = this
    const isBelow = this.#tls === undefined
    this.cancel()
    if (!isBelow) return 'the proxy accepted the connection and does not answer in TLS: is its port one for TLS?'
    return below?.expire() ?? silent('connect')
  }

  /** Nobody uses the transport any more. */
  abandon(): void {
    this.#cancelled = true
    this.#break('the gateway has closed its connections')
  }
}
