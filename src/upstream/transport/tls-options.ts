/** What node:tls is told about a proxy that is spoken to inside TLS. All files are read and checked here, at the start. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import { readRegularFile } from '../../config/regular-file.ts'
import { parseAddress } from '../../endpoint.ts'
import { ConfigError } from '../../errors.ts'
import type { Tls } from '../../options.ts'
import { escapeControls } from '../../redact.ts'

/** For `tls.connect({ ...options, socket })`. No ALPN: what is spoken inside is known. */
export interface TlsOptions {
  readonly secureContext: SecureContext
  /** Whose certificate it must be when there is no `servername`. */
  readonly host: string
  /** Sent as SNI, and looked for in the certificate. An address has none (RFC 6066 §3). */
  readonly servername?: string
  /** false only with `insecure`. */
  readonly rejectUnauthorized: boolean
}

type FileKey = 'ca' | 'cert' | 'key'

/** Of a PEM file. All authorities that Debian believes in are 220 KB. */
const MAX_PEM_BYTES = 1 << 20
const PEM = /-----BEGIN ([A-Z0-9 ]{1,40})-----[\s\S]*?-----END \1-----/g

/**
 * Throws ConfigError, whose message names the option and the file.
 * @param host of the proxy, without brackets
 * @param read a file's bytes, bounded; the message of what it throws names the file
 */
export function tlsOptions(tls: Tls, host: string, read: (path: string) => Buffer): TlsOptions {
  const file = (option: FileKey, path: string) => ({ option, path, text: readText(option, path, read) })
  const ca = tls.ca === undefined ? undefined : certificatesIn(file('ca', tls.ca))
  const cert = tls.cert === undefined ? undefined : certificatesIn(file('cert', tls.cert))
  const keyFile = tls.cert === undefined ? undefined : file(tls.key === undefined ? 'cert' : 'key', tls.key ?? tls.cert)
  const key = keyFile === undefined ? undefined : privateKeyIn(keyFile)
  if (cert !== undefined && key !== undefined && !cert[0]!.checkPrivateKey(key))
    throw wrong(keyFile!, `its key is not that of the first certificate of cert (${cert[0]!.subject})`)
  const servername = tls.servername ?? (parseAddress(host) === undefined ? host.replace(/\.$/, '') : undefined)
  return {
    secureContext: contextOf(ca, cert, key),
    host,
    ...(servername === undefined ? {} : { servername }),
    rejectUnauthorized: !tls.insecure,
  }
}

/** For `read` of tlsOptions(). */
export const readPem = (path: string): Buffer => readRegularFile(path, MAX_PEM_BYTES)

/** What is wrong with a proxy is told with the key of its upstream. */
export function underKey<T>(upstream: string, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof ConfigError) || upstream === 'proxy') throw error
    throw new ConfigError(error.code, error.message.replace(/^proxy:/, `upstreams.${upstream}:`), { cause: error })
  }
}

interface PemFile {
  readonly option: FileKey
  readonly path: string
  readonly text: string
}

function readText(option: FileKey, path: string, read: (path: string) => Buffer): string {
  try {
    return read(path).toString('latin1')
  } catch (cause) {
    throw new ConfigError('CONFIG_VALUE', `proxy: ${option}: ${(cause as Error).message}`, { cause })
  }
}

/** All of the file, at least one. */
function certificatesIn(file: PemFile): X509Certificate[] {
  const blocks = blocksOf(file.text)
  const certificates = blocks.filter(({ label }) => /^(X509 |TRUSTED )?CERTIFICATE$/.test(label))
  if (certificates.length === 0) throw wrong(file, `no certificate in PEM form, ${content(file.text, blocks)}`)
  return certificates.map(({ pem }, index) => {
    try {
      return new X509Certificate(pem)
    } catch (cause) {
      throw wrong(file, `certificate ${index + 1} of ${certificates.length} cannot be read`, cause)
    }
  })
}

function privateKeyIn(file: PemFile): KeyObject {
  const blocks = blocksOf(file.text)
  const key = blocks.find(({ label }) => label.endsWith('PRIVATE KEY'))
  if (key === undefined) throw wrong(file, `no private key in PEM form, ${content(file.text, blocks)}`)
  if (key.label.startsWith('ENCRYPTED') || key.pem.includes('Proc-Type: 4,ENCRYPTED'))
    throw wrong(file, 'a private key with a passphrase, which nobody could be asked for: store it without one')
  try {
    return createPrivateKey(key.pem)
  } catch (cause) {
    throw wrong(file, 'its private key cannot be read', cause)
  }
}

function contextOf(
  ca: readonly X509Certificate[] | undefined,
  cert: readonly X509Certificate[] | undefined,
  key: KeyObject | undefined,
): SecureContext {
  const text = (certificates: readonly X509Certificate[]) => certificates.map(String)
  try {
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ...(ca === undefined ? {} : { ca: text(ca) }),
      ...(cert === undefined || key === undefined
        ? {}
        : { cert: text(cert).join(''), key: key.export({ type: 'pkcs8', format: 'pem' }) }),
    })
  } catch (cause) {
    // OpenSSL's own rules: a key that is too short, a hash that is too weak.
    const { message } = cause as Error
    throw new ConfigError('CONFIG_VALUE', `proxy: ca, cert or key: OpenSSL refuses them: ${escapeControls(message)}`)
  }
}

function blocksOf(text: string): { label: string; pem: string }[] {
  return [...text.matchAll(PEM)].map(([pem, label]) => ({ label: label!, pem }))
}

/** What is there instead. */
function content(text: string, blocks: readonly { label: string }[]): string {
  if (blocks.length > 0) return `but ${blocks[0]!.label}`
  if (text === '') return 'the file is empty'
  return text.startsWith('\x30') ? 'but DER: convert it with openssl' : 'but something else'
}

function wrong({ option, path }: Pick<PemFile, 'option' | 'path'>, what: string, cause?: unknown): ConfigError {
  return new ConfigError('CONFIG_VALUE', `proxy: ${option}: ${escapeControls(path)}: ${escapeControls(what)}`, {
    cause,
  })
}
