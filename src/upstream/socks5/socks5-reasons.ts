/** What is said of a SOCKS proxy's answers: one line for a log, with what to do where that is known, without secrets. */
import type { DialError, DialFailure } from '../dialer.ts'
import { Method, Reply } from './socks5-codec.ts'

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
