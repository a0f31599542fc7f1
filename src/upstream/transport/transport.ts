/**
 * How a connection to a proxy is made: by TCP, to a Unix socket, inside TLS, through another upstream. What is said on it is
 * the matter of its user, mostly a handshake. One transport for each dialer: it works with the sockets of one poller.
 */
import type { IpEndpoint } from '../../endpoint.ts'
import type { Watcher } from '../../io/poller.ts'
import type { Socket } from '../../io/socket.ts'
import type { DialError } from '../dialer.ts'
import type { ProxyFailure } from '../proxy/proxy-health.ts'

/** Of attach() and onUnconnected() one is called, once; none after cancel(). */
export interface TransportUser extends Watcher {
  /**
   * The socket is the user's, who is its watcher already. connect() may still be under way: then a write says EAGAIN, and
   * onReady tells when it stands.
   * @param peer the address of the proxy; undefined when it has none
   * @param readable the user must read without waiting for an event: another watcher has seen them before
   */
  attach(socket: Socket, peer: IpEndpoint | undefined, readable: boolean): void
  /** There is no connection. Never called inside of connect(). */
  onUnconnected(error: DialError, end: 'local' | ProxyFailure): void
}

/** A connection that is not attached yet. */
export interface Connecting {
  /** The proxy's side has answered, and what is missing takes its time: there is no sense in beginning anew. */
  readonly stands: boolean
  /** Nothing is called any more. Idempotent, harmless behind the end. */
  cancel(): void
  /** The same, because its time is over: why there is no connection so far, one line for a log. */
  expire(): string
}

export interface Transport {
  /** Where a connection is made to now, by identity: what was made to another is not as good. undefined: not by address. */
  readonly peer: IpEndpoint | undefined
  /**
   * @param client for whom; all zeros for a connection made in advance
   * @returns undefined when the user was attached
   * @throws SystemError when it fails at once, ENOTFOUND when the proxy's name has no address (yet); the user hears nothing
   */
  connect(user: TransportUser, client: IpEndpoint): Connecting | undefined
  /**
   * A connection that shows whether the proxy's machine can be reached, by whatever event comes first. undefined: none can
   * be made, or it is not for this transport to find out.
   */
  probe(watcher: Watcher): Socket | undefined
  /**
   * Nothing is to be had at `peer`: another address, if there is one, is used from now on.
   * @param answers of the proxy that were seen so far
   */
  failed(peer: IpEndpoint | undefined, answers: number): void
  /** It is where this transport's own packets go. */
  isPeer(destination: IpEndpoint, client?: IpEndpoint): boolean
  close(): void
}
