/** What is known of a proxy's TLS: this outlives a stack, and belongs to one thread. */
import type { ProxyHealth } from '../proxy/proxy-health.ts'
import type { TlsOptions } from './tls-options.ts'

const NOT_CHECKED =
  'the certificate of the proxy is not checked: whoever stands between may read and change all (insecure=true)'

export class TlsServer {
  readonly options: TlsOptions
  /** The youngest ticket: with it the next handshake needs no certificate (RFC 8446 §2.2, RFC 5077). */
  session: Buffer | undefined

  constructor(options: TlsOptions, health: Pick<ProxyHealth, 'warnOnce'>) {
    this.options = options
    if (!options.rejectUnauthorized) health.warnOnce(NOT_CHECKED)
  }

  keep(session: Buffer): void {
    this.session = session
  }

  /** It may be that which was wrong. */
  forget(): void {
    this.session = undefined
  }
}
