/** What is said of a connection to a proxy that failed: one line for a log, with what to do where that is known. */
import type { SystemError } from '../../errors.ts'
import { lacksResources } from '../../io/socket.ts'
import type { DialError } from '../dialer.ts'

/** What the proxy was asked last: to accept, for what the way to it needs beside (TLS, another hop), for its method, for its verdict on user and password, for its reply. */
export type Awaited = 'connect' | 'way' | 'method' | 'auth' | 'reply'

const ADVICE: { readonly [errno: string]: string } = {
  ECONNREFUSED: ': nobody listens there; is the proxy running, and is its port right?',
  EHOSTUNREACH: ': is its address right, and is there a route to it?',
  ENETUNREACH: ': is there a route to it?',
  ETIMEDOUT: ': is it running, and does a firewall drop its packets?',
  EADDRNOTAVAIL: ': this machine has no address, or no free port, for it',
}

export function unreachable(errno: string): string {
  return `the proxy cannot be reached: ${errno}${ADVICE[errno] ?? ''}`
}

/** By what the kernel, or this process, says of a connection to it. */
export function notConnected(error: SystemError): DialError {
  return { failure: lacksResources(error) ? 'no-resources' : 'upstream-down', message: unreachable(error.code) }
}

const MESSAGES: { readonly [awaited in Awaited]: string } = {
  connect: 'its greeting',
  way: 'its greeting',
  method: 'its choice of a method',
  auth: 'its answer to user name and password',
  reply: 'its reply to the request',
}

/** `errno`: '' for an end in order. `partial`: some bytes of the message had come. */
export function broken(awaited: Awaited, partial: boolean, errno: string): string {
  const how = errno === '' ? 'closed the connection' : `broke off the connection (${errno})`
  return `the proxy ${how} ${partial ? 'within' : 'before'} ${MESSAGES[awaited]}`
}

const SILENCES: { readonly [awaited in Awaited]: string } = {
  connect: 'the proxy does not answer: is it running, and does a firewall drop its packets?',
  way: 'the connection to the proxy is not ready',
  method: 'the proxy accepted the connection and says nothing: is it a SOCKS5 proxy, or does it hang?',
  auth: 'the proxy does not say whether it accepts user name and password',
  reply: 'the proxy has not answered the request: its destination does not answer, perhaps',
}

export function silent(awaited: Awaited): string {
  return SILENCES[awaited]
}

/** Bytes that came before anything was asked. */
export function spokeUnasked(): DialError {
  return { failure: 'upstream-down', message: 'the proxy spoke before it was asked' }
}
