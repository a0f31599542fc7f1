/** What is known of a proxy's TLS: this outlives a stack, and belongs to one thread. */
import type { HealthLog } from './proxy-health.ts'
import type { TlsOptions } from './tls-options.ts'

export class TlsServer {
  readonly options: TlsOptions
  /** The youngest ticket: with it the next handshake needs no certificate (RFC 8446 §2.2, RFC 5077). */
  session: Buffer | undefined

  /** @param name of the proxy, for the warning that it is not checked */
  constructor(options: TlsOptions, name: string, log: Pick<HealthLog, 'warn'>) {
    this.options = options
    if (options.rejectUnauthorized) return
    log.warn(
      'the certificate of the proxy is not checked: whoever stands between may read and change all (insecure=true)',
      {
        upstream: name,
      },
    )
  }

  keep(session: Buffer): void {
    this.session = session
  }

  /** It may be that which was wrong. */
  forget(): void {
    this.session = undefined
  }
}
