/** Why an HTTP proxy did not connect, from its answer: one line for a log, without secrets. */
import { quote } from '../../redact.ts'
import type { DialError, DialFailure } from '../dialer.ts'
import { byteText, fieldTexts, type ResponseFields } from './http-codec.ts'

type Reason = readonly [DialFailure, string]

const STATUSES: { readonly [status: number]: Reason } = {
  401: ['authentication', 'it wants credentials for itself as for a web server'],
  403: ['prohibited', 'not allowed by its rules'],
  404: ['host-unreachable', 'destination not found'],
  405: ['unsupported', 'CONNECT is not allowed: is this a proxy?'],
  407: ['authentication', 'it wants a user name and a password'],
  408: ['timeout', 'time is over'],
  451: ['prohibited', 'not allowed for legal reasons'],
  501: ['unsupported', 'CONNECT is not supported: is this a proxy?'],
  502: ['host-unreachable', 'the destination cannot be reached'],
  503: ['host-unreachable', 'the destination cannot be reached'],
  504: ['host-unreachable', 'the destination does not answer'],
  505: ['unsupported', 'HTTP/1.1 is not supported'],
}

/** RFC 9209 §2.3. */
const PROXY_STATUS: { readonly [error: string]: Reason } = {
  dns_timeout: ['host-unreachable', 'its name server does not answer'],
  dns_error: ['host-unreachable', 'the name cannot be looked up'],
  destination_not_found: ['host-unreachable', 'destination not found'],
  destination_unavailable: ['host-unreachable', 'destination unavailable'],
  destination_ip_prohibited: ['prohibited', 'address not allowed by its rules'],
  destination_ip_unroutable: ['net-unreachable', 'network unreachable'],
  connection_refused: ['refused', 'connection refused'],
  connection_terminated: ['general', 'connection broken off'],
  connection_timeout: ['timeout', 'the destination does not answer'],
  connection_read_timeout: ['timeout', 'the destination says nothing'],
  connection_write_timeout: ['timeout', 'the destination takes nothing'],
  connection_limit_reached: ['general', 'its connections are all in use'],
  tls_protocol_error: ['general', 'TLS failed'],
  tls_certificate_error: ['general', 'wrong certificate'],
  tls_alert_received: ['general', 'TLS failed'],
  http_request_denied: ['prohibited', 'not allowed by its rules'],
  proxy_internal_error: ['general', 'an internal error'],
  proxy_configuration_error: ['general', 'its configuration is wrong'],
  proxy_loop_detected: ['general', 'it has come to itself again'],
}

/** What squid calls it, in X-Squid-Error: `NAME ERRNO`. */
const SQUID: { readonly [name: string]: Reason } = {
  ERR_ACCESS_DENIED: ['prohibited', 'not allowed by its rules'],
  ERR_FORWARDING_DENIED: ['prohibited', 'not allowed by its rules'],
  ERR_DNS_FAIL: ['host-unreachable', 'the name cannot be looked up'],
  ERR_CANNOT_FORWARD: ['host-unreachable', 'no way to the destination'],
  ERR_CONNECT_FAIL: ['host-unreachable', 'the destination cannot be reached'],
  ERR_READ_TIMEOUT: ['timeout', 'the destination says nothing'],
  ERR_LIFETIME_EXP: ['timeout', 'time is over'],
  ERR_SOCKET_FAILURE: ['general', 'it has no socket left'],
  ERR_SHUTTING_DOWN: ['general', 'it is being stopped'],
  ERR_TOO_BIG: ['general', 'the request is too large'],
  ERR_UNSUP_REQ: ['unsupported', 'CONNECT is not supported'],
  ERR_INVALID_URL: ['unsupported', 'the destination is not understood'],
  ERR_INVALID_REQ: ['unsupported', 'the request is not understood'],
  ERR_UNSUP_HTTPVERSION: ['unsupported', 'HTTP/1.1 is not supported'],
}

const REFUSED: Reason = ['refused', 'connection refused']
const NO_ANSWER: Reason = ['timeout', 'the destination does not answer']
const NO_NETWORK: Reason = ['net-unreachable', 'network unreachable']
const NO_HOST: Reason = ['host-unreachable', 'host unreachable']
const DENIED: Reason = ['prohibited', 'not allowed by a firewall']

/** errno of ERR_CONNECT_FAIL: Linux's first, then the BSDs'; none is another reason's on the other. */
const ERRNOS: { readonly [errno: string]: Reason } = {
  111: REFUSED,
  61: REFUSED,
  110: NO_ANSWER,
  60: NO_ANSWER,
  101: NO_NETWORK,
  51: NO_NETWORK,
  113: NO_HOST,
  65: NO_HOST,
  13: DENIED,
  1: DENIED,
}

/** By an answer that is no 2xx; 407 without a look at its challenges. */
export function refusedByHttp(bytes: Uint8Array, fields: ResponseFields): DialError {
  const { status, reasonAt, reasonLength } = fields
  const exact = status === 407 ? undefined : (byProxyStatus(bytes, fields) ?? bySquid(bytes, fields))
  const [failure, text] = exact ?? STATUSES[status] ?? ['general', unknownReason(status)]
  const phrase = exact !== undefined || STATUSES[status] !== undefined ? '' : byteText(bytes, reasonAt, reasonLength)
  return { failure, message: `the proxy answered ${status}${phrase === '' ? '' : ` ${quote(phrase)}`} (${text})` }
}

function unknownReason(status: number): string {
  if (status >= 300 && status < 400) return 'a redirect: is there a log-in page before it?'
  return status < 200 ? 'an answer to another question' : 'an unknown reason'
}

/** The first that says why: nearest to the destination (RFC 9209 §2). */
function byProxyStatus(bytes: Uint8Array, fields: ResponseFields): Reason | undefined {
  const members = fieldTexts(bytes, fields, 'proxy-status').join()
  for (const [, , error] of members.matchAll(/("(?:[^"\\]|\\[\s\S]?)*"?)|; *error=([a-z_]{1,40})/g)) {
    if (error !== undefined && Object.hasOwn(PROXY_STATUS, error)) return PROXY_STATUS[error]
  }
  return undefined
}

function bySquid(bytes: Uint8Array, fields: ResponseFields): Reason | undefined {
  const [name = '', errno = ''] = (fieldTexts(bytes, fields, 'x-squid-error')[0] ?? '').split(' ')
  if (!Object.hasOwn(SQUID, name)) return undefined
  return (name === 'ERR_CONNECT_FAIL' ? ERRNOS[errno] : undefined) ?? SQUID[name]
}

const PROTOCOLS: readonly (readonly [name: string, beginning: readonly number[]])[] = [
  ['this is a SOCKS5 proxy?', [5]],
  ['this is an SSH server?', [...Buffer.from('SSH-')]],
  ['it wants TLS? (https://)', [0x15, 3]], // an alert, RFC 8446 §5.1
  ['this is a SOCKS4 proxy?', [0, 0x5b]],
]

/** What came in place of an answer; `bytes` begin with the first of them. */
export function alienToHttp(bytes: Uint8Array): string {
  const [name] = PROTOCOLS.find(([, beginning]) =>
    beginning.every((byte, at) => at >= bytes.length || byte === bytes[at]),
  ) ?? ['is this the right port?']
  return `the proxy's answer is not HTTP (it begins with ${Buffer.from(bytes.subarray(0, 4)).toString('hex')}): ${name}`
}
