/** What is said of TLS that failed: one line for a log, which check it was, and what to do about it. */
import { escapeControls } from '../../redact.ts'
import type { ProxyFailure } from '../proxy/proxy-health.ts'

/** An Error of node:tls: `code` is OpenSSL's name of a check, or ERR_SSL_ and its reason. */
interface TlsError extends Error {
  readonly code?: string
  /** Of ERR_TLS_CERT_ALTNAME_INVALID: the certificate. */
  readonly cert?: { readonly subjectaltname?: string }
}

export interface TlsFailure {
  readonly message: string
  readonly end: ProxyFailure
}

/** A certificate may name thousands. */
const MAX_NAMES = 100

const UNKNOWN_AUTHORITY =
  'nobody who is trusted has signed it: give the certificate of its authority as ca=FILE in the URL'
/** X509_verify_cert_error_string(3). */
const CHECKS: { readonly [code: string]: string } = {
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it has signed itself: give it as ca=FILE in the URL',
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_AUTHORITY,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_AUTHORITY,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: `${UNKNOWN_AUTHORITY}, or let the proxy send those between`,
  CERT_HAS_EXPIRED: "it has expired: renew it at the proxy, unless this machine's clock is wrong",
  CERT_NOT_YET_VALID: "it is not valid yet: is this machine's clock right?",
  CERT_SIGNATURE_FAILURE: 'its signature is wrong: is ca=FILE an older one of the same name?',
  CERT_REVOKED: 'it was revoked: renew it at the proxy',
  INVALID_CA: 'who has signed it may not sign others',
  INVALID_PURPOSE: 'it is not meant for a server: it needs the extended key usage serverAuth',
}

/** Alerts of the proxy about our own certificate (RFC 8446 §6.2). */
const OURS: { readonly [code: string]: string } = {
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'wants a certificate of ours: give cert=FILE and key=FILE in the URL',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'does not know the authority of our certificate: is cert=FILE the right one?',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'refuses our certificate: is cert=FILE the right one, and needed?',
  ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 'refuses the kind of our certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: 'says that our certificate was revoked: renew cert=FILE',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'says that our certificate has expired: renew cert=FILE',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'refuses our certificate: is cert=FILE the right one?',
  ERR_SSL_TLSV1_ALERT_ACCESS_DENIED: 'does not let our certificate in',
}

/** What came is no record of TLS. */
const ALIEN = new Set([
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_RECORD_LENGTH_MISMATCH',
  'ERR_SSL_UNEXPECTED_MESSAGE',
  'ERR_SSL_HTTP_REQUEST',
])

const VERSIONS = new Set([
  'ERR_SSL_UNSUPPORTED_PROTOCOL',
  'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  'ERR_SSL_NO_PROTOCOLS_AVAILABLE',
])

/** @param host whose certificate was expected */
export function tlsFailure(error: TlsError, host: string): TlsFailure {
  const code = error.code ?? ''
  const check = CHECKS[code]
  if (check !== undefined) return { message: `the proxy's certificate is refused: ${check} (${code})`, end: 'denied' }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return { message: wrongName(error, host), end: 'denied' }
  const ours = OURS[code]
  if (ours !== undefined) return { message: `the proxy ${ours} (${code})`, end: 'denied' }
  if (ALIEN.has(code)) {
    const message = `the proxy does not speak TLS there: is its port right, or the scheme of its URL? (${code})`
    return { message, end: 'alien' }
  }
  if (VERSIONS.has(code)) return { message: `the proxy speaks neither TLS 1.2 nor TLS 1.3 (${code})`, end: 'alien' }
  if (code === 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME' || code === 'ERR_SSL_TLSV1_ALERT_UNRECOGNIZED_NAME') {
    return {
      message: `the proxy does not know the name ${host}: give another as servername=NAME (${code})`,
      end: 'denied',
    }
  }
  return { message: `TLS with the proxy failed: ${escapeControls(code || error.message)}`, end: 'unreached' }
}

function wrongName({ cert }: TlsError, host: string): string {
  const names = escapeControls(cert?.subjectaltname ?? '')
  const short = names.length > MAX_NAMES ? `${names.slice(0, MAX_NAMES)}…` : names || 'no name'
  return `the proxy's certificate is refused: it is for ${short}, not for ${host}: give servername=NAME in the URL, or renew it`
}

/** `errno`: '' for an end of stream. */
export function brokenOff(errno: string): string {
  const how = errno === '' ? 'closed the connection' : `broke off the connection (${errno})`
  return `the proxy ${how} within the handshake of TLS: is its port one for TLS?`
}

/** The same behind the handshake: RFC 8446 §6.1 wants a close_notify before it. */
export function cut(errno: string): string {
  return `the connection to the proxy was cut inside of TLS (${errno || 'an end without close_notify'})`
}
