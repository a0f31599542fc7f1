import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, createServer, type SecureVersion } from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { readRegularFile } from '../../../src/config/regular-file.ts'
import { ConfigError } from '../../../src/errors.ts'
import type { Tls } from '../../../src/options.ts'
import { tlsOptions } from '../../../src/upstream/transport/tls-options.ts'
import { makeCertificate } from '../../helpers/certificates.ts'

const authority = makeCertificate({ name: 'test authority' })
const other = makeCertificate({ name: 'another authority' })
const proxy = makeCertificate({ name: 'proxy', hosts: ['proxy.example', '127.0.0.1'], issuer: authority })
const client = makeCertificate({ name: 'client 1', issuer: authority })

const folder = mkdtempSync(join(tmpdir(), 'tls-options-'))
test.after.always(() => rmSync(folder, { recursive: true }))

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const CA = file('ca.pem', `a comment\n${other.cert}\n${authority.cert}`)
const CERT = file('client.pem', client.cert)
const KEY = file('client.key', client.key)
const BOTH = file('both.pem', client.key + client.cert)

const read = (path: string) => readRegularFile(path, 1 << 20)
const options = (tls: Partial<Tls>, host = 'proxy.example') => tlsOptions({ insecure: false, ...tls }, host, read)

function refusal(t: ExecutionContext, tls: Partial<Tls>, message: RegExp): void {
  const error = t.throws(() => options(tls), { instanceOf: ConfigError })
  t.is(error.code, 'CONFIG_VALUE')
  t.regex(error.message, message)
  t.false(/\n|PRIVATE KEY-----/.test(error.message))
}

test('tls-options: the host is the name in the certificate and the SNI, an address the former alone', t => {
  t.like(options({}), { host: 'proxy.example', servername: 'proxy.example', rejectUnauthorized: true })
  t.is(options({}, 'proxy.example.').servername, 'proxy.example')
  t.false('servername' in options({}, '192.0.2.1'))
  t.false('servername' in options({}, '2001:db8::1'))
  t.like(options({ servername: 'x.example' }, '192.0.2.1'), { host: '192.0.2.1', servername: 'x.example' })
  t.false(options({ insecure: true }).rejectUnauthorized)
  t.false('ALPNProtocols' in options({}))
})

test('tls-options: files that cannot be read, or hold something else, are told with option and path', t => {
  const empty = file('empty', '')
  const der = file('der', Buffer.from(proxy.cert.replace(/-----.*-----|\n/g, ''), 'base64'))
  const text = file('text', 'hello')
  const broken = file('broken', authority.cert.replace(/\n.{8}/, '\nAAAAAAAA'))
  refusal(t, { ca: join(folder, 'none') }, /^proxy: ca: .*\/none: cannot be read: there is no such file$/)
  refusal(t, { ca: folder }, /^proxy: ca: .*found a folder/)
  refusal(t, { ca: '/dev/zero' }, /^proxy: ca: .*found a device/)
  refusal(t, { ca: empty }, /^proxy: ca: .*\/empty: no certificate in PEM form, the file is empty$/)
  refusal(t, { ca: der }, /no certificate in PEM form, but DER/)
  refusal(t, { ca: text }, /no certificate in PEM form, but something else$/)
  refusal(t, { ca: KEY }, /no certificate in PEM form, but PRIVATE KEY$/)
  refusal(t, { ca: broken }, /certificate 1 of 1 cannot be read$/)
  refusal(t, { ca: file('two', authority.cert + authority.cert.replace(/\n.{8}/, '\nAAAAAAAA')) }, /certificate 2 of 2/)
  refusal(t, { ca: file('half', authority.cert.slice(0, -20)) }, /no certificate/)
})

test('tls-options: a certificate needs its own key, without a passphrase', t => {
  const locked = client.privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
  const old = client.privateKey.export({ type: 'sec1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' })
  const sec1 = client.privateKey.export({ type: 'sec1', format: 'pem' })
  refusal(t, { cert: CERT }, /^proxy: cert: .*no private key in PEM form, but CERTIFICATE$/)
  refusal(t, { cert: CERT, key: CERT }, /^proxy: key: .*no private key/)
  refusal(t, { cert: CERT, key: file('locked', locked) }, /^proxy: key: .*passphrase/)
  refusal(t, { cert: CERT, key: file('old', old) }, /^proxy: key: .*passphrase/)
  refusal(
    t,
    { cert: CERT, key: file('proxy.key', proxy.key) },
    /not that of the first certificate of cert \(CN=client 1\)$/,
  )
  refusal(t, { cert: CERT, key: file('bad.key', client.key.replace(/\n.{8}/, '\nAAAAAAAA')) }, /key cannot be read$/)
  t.notThrows(() => options({ cert: CERT, key: KEY }))
  t.notThrows(() => options({ cert: CERT, key: file('sec1', sec1) }))
  t.notThrows(() => options({ cert: BOTH }))
})

/** What a TLS server on loopback says of a client with these options: its name and SNI; or the client's error. */
async function handshake(
  t: ExecutionContext,
  tls: Partial<Tls>,
  host: string,
  maxVersion: SecureVersion = 'TLSv1.3',
): Promise<string> {
  const listener = createServer(
    { maxVersion, cert: proxy.cert, key: proxy.key, ca: authority.cert, requestCert: true, rejectUnauthorized: false },
    socket => {
      socket.on('error', () => undefined)
      const subject = socket.getPeerCertificate().subject as { CN?: string } | undefined
      socket.end(
        `${subject?.CN ?? 'nobody'}, ${String(socket.servername || 'no SNI')}, ALPN ${String(socket.alpnProtocol)}`,
      )
    },
  )
  listener.on('tlsClientError', () => undefined)
  t.teardown(() => listener.close())
  await once(listener.listen(0, '127.0.0.1'), 'listening')
  const { port } = listener.address() as AddressInfo
  const socket = connect({ ...options(tls, host), socket: connectTcp(port, '127.0.0.1') })
  t.teardown(() => socket.destroy())
  let text = ''
  socket.on('data', chunk => {
    text += chunk.toString()
  })
  try {
    await once(socket, 'end')
    return text
  } catch (error) {
    return (error as { code?: string }).code ?? 'no code'
  }
}

test('tls-options: the proxy must have a certificate of the right name from the right authority', async t => {
  t.is(await handshake(t, { ca: CA }, 'proxy.example'), 'nobody, proxy.example, ALPN false')
  t.is(await handshake(t, { ca: CA }, 'proxy.example', 'TLSv1.2'), 'nobody, proxy.example, ALPN false')
  t.is(await handshake(t, { ca: CA }, '127.0.0.1'), 'nobody, no SNI, ALPN false')
  t.is(await handshake(t, { ca: CA, servername: 'proxy.example' }, '127.0.0.2'), 'nobody, proxy.example, ALPN false')
  t.is(await handshake(t, { ca: CA }, 'other.example'), 'ERR_TLS_CERT_ALTNAME_INVALID')
  t.is(await handshake(t, { ca: CA }, '127.0.0.2'), 'ERR_TLS_CERT_ALTNAME_INVALID')
  t.is(await handshake(t, {}, 'proxy.example'), 'SELF_SIGNED_CERT_IN_CHAIN')
  t.is(await handshake(t, { ca: file('other.pem', other.cert) }, 'proxy.example'), 'SELF_SIGNED_CERT_IN_CHAIN')
  t.is(await handshake(t, { insecure: true }, 'other.example'), 'nobody, other.example, ALPN false')
})

test('tls-options: the client shows its certificate', async t => {
  t.is(await handshake(t, { ca: CA, cert: CERT, key: KEY }, 'proxy.example'), 'client 1, proxy.example, ALPN false')
  t.is(await handshake(t, { ca: CA, cert: BOTH }, '127.0.0.1'), 'client 1, no SNI, ALPN false')
})
