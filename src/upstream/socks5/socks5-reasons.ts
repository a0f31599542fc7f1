/** What is said of a handshake that failed: one line for a log, with what to do where that is known, without secrets. */
import type { SystemError } from '../../errors.ts'
import { lacksResources } from '../../io/socket.ts'
import type { DialError, DialFailure } from '../dialer.ts'
import { Method, Reply } from './socks5-codec.ts'

/** What the proxy was asked last: to accept, for what the way to it needs beside (TLS, another hop), for its method, for its verdict on user and password, for its reply. */
export type Awaited = 'connect' | 'way' | 'method' | 'auth' | 'reply'

const REPLIES: { readonly [reply: number]: readonly [DialFailure, string] } = {
  [Reply.generalFailure]: ['general', 'general failure'],
  [Reply.prohibited]: ['prohibited', 'not allowed by its rules'],
  [Reply.netUnreachable]: ['net-unreachable', 'network unreachable'],
  [Reply.hostUnreachable]: ['host-unreachable', 'host unreachable'],
  [Reply.refused]: ['refused', 'connection refused'],
  [Reply.ttlExpired]: ['ttl-expired', 'TTL expired'],
  [Reply.commandUnsupported]: ['unsupported', 'command not supported'],
  [Reply.addressUnsupported]: ['unsupported', 'address type not supported'],
}

/** By a reply (RFC 1928 §6) that is not 0. */
export function refusedBy(reply: number): DialError {
  const [failure, text] = REPLIES[reply] ?? ['general', 'an unknown reason']
  return { failure, message: `the proxy answered ${reply} (${text})` }
}

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

const PROTOCOLS: readonly (readonly [name: string, beginning: readonly number[]])[] = [
  ['this is an HTTP proxy, or a web server?', [...Buffer.from('HTTP/')]],
  ['this is an SSH server?', [...Buffer.from('SSH-')]],
  ['it wants TLS?', [0x15, 3]], // an alert, RFC 8446 §5.1
  ['this is a SOCKS5 proxy?', [5]],
  ['it speaks SOCKS4 alone?', [0, 0x5b]], // a reply, and "rejected"
]

/** What came in place of the choice of a method; `bytes` may be the first of them alone. */
export function alien(bytes: Uint8Array, expected: 'SOCKS5' | 'SOCKS4' = 'SOCKS5'): string {
  const [name] = PROTOCOLS.find(([, beginning]) =>
    beginning.every((byte, at) => at >= bytes.length || byte === bytes[at]),
  ) ?? ['is this the right port?']
  return `the proxy does not speak ${expected} (its first byte is 0x${bytes[0]!.toString(16).padStart(2, '0')}): ${name}`
}

/** What came in place of a verdict or a reply. */
export function malformed(bytes: Uint8Array): string {
  return `the proxy's answer is malformed (it begins with ${Buffer.from(bytes.subarray(0, 4)).toString('hex')})`
}

/** The proxy's choice is no method that can be used. */
export function objection(method: number, withPassword: boolean): string {
  if (method === Method.password || (method === Method.unacceptable && !withPassword)) {
    return 'the proxy wants a user name and a password: none is configured'
  }
  if (method === Method.unacceptable) return 'the proxy accepts neither user name and password nor a client without'
  return `the proxy chose a method that was not offered to it (${method})`
}

/** Bytes that came before anything was asked. */
export function spokeUnasked(): DialError {
  return { failure: 'upstream-down', message: 'the proxy spoke before it was asked' }
}
