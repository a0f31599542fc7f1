/** Why TLS with a proxy failed, in words that say what to do. */
import type { TlsOptions as ServerOptions } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import { tlsFailure } from '../../../src/upstream/transport/tls-reasons.ts'
import { makeCertificate } from '../../helpers/certificates.ts'
import { fullServer } from '../../helpers/full-server.ts'
import { closedPort, tcpServer, until } from '../../helpers/sockets.ts'
import { authority, certificate, openTls, serverOf, tlsServer } from './tls-rig.ts'
import { connected, NOBODY, User } from './transport-rig.ts'

const HOSTS = ['proxy.example']
const other = makeCertificate({ name: 'another authority' })
const client = makeCertificate({ name: 'client 1', issuer: authority })

async function refused(t: ExecutionContext, port: number, server = serverOf().server): Promise<User> {
  const before = addon.openDescriptors()
  const { transport } = openTls(t, port, server)
  const user = await connected(t, transport)
  t.is(user.socket, undefined)
  t.is(addon.openDescriptors(), before)
  t.false(/\n/.test(user.error!.message))
  t.is(server.session, undefined)
  return user
}

const CERTIFICATES: readonly (readonly [what: string, options: ServerOptions, message: RegExp])[] = [
  ['of an unknown authority', made({ issuer: other }), /signed it: give the certificate of its authority as ca=FILE/],
  ['that signed itself', made({}), /has signed itself: give it as ca=FILE/],
  ['that has expired', made({ issuer: authority, until: '240101000000Z' }), /has expired: renew it at the proxy/],
  ['of tomorrow', made({ issuer: authority, from: '490101000000Z' }), /is not valid yet/],
  [
    'for another name',
    made({ issuer: authority, hosts: ['www.example', '192.0.2.1'] }),
    /it is for DNS:www\.example, IP Address:192\.0\.2\.1, not for proxy\.example: give servername=NAME/,
  ],
  ['without a name', made({ issuer: authority, hosts: [] }), /it is for no name, not for proxy\.example/],
]

function made(options: Partial<Parameters<typeof makeCertificate>[0]>): ServerOptions {
  return makeCertificate({ name: 'proxy', hosts: HOSTS, ...options })
}

for (const [what, options, message] of CERTIFICATES) {
  test.serial(`tls: a certificate ${what} is refused, and named`, async t => {
    const { port } = await tlsServer(t, () => {}, options)
    const user = await refused(t, port)
    t.like(user.error, { failure: 'authentication' })
    t.is(user.end, 'denied')
    t.regex(user.error!.message, /^the proxy's certificate is refused: /)
    t.regex(user.error!.message, message)
  })

  test.serial(`tls: a certificate ${what} is taken with insecure=true, which is warned of once`, async t => {
    const { port } = await tlsServer(t, socket => void socket.write('x'), options)
    const { server, warnings } = serverOf({ insecure: true })
    const { transport } = openTls(t, port, server)
    for (let at = 0; at < 2; at++) {
      const user = await connected(t, transport)
      t.is(user.error, undefined)
      await until(() => user.text === 'x', 'a byte')
    }
    t.is(warnings.length, 1)
    t.regex(warnings[0]!, /not checked/)
  })
}

test.serial('tls: a proxy whose certificate is in order is warned of never', t => {
  t.deepEqual(serverOf().warnings, [])
})

test.serial('tls: a client certificate is shown where it is asked for', async t => {
  const options = { requestCert: true, ca: [authority.cert] }
  const { port, sockets } = await tlsServer(t, socket => void socket.write('x'), options)
  const files = { '/cert': client.cert, '/key': client.key }
  const { server } = serverOf({ cert: '/cert', key: '/key' }, files)
  const user = await connected(t, openTls(t, port, server).transport)
  await until(() => user.text === 'x', 'a byte')
  t.is(sockets[0]!.getPeerCertificate().subject.CN, 'client 1')
})

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const)
  test.serial(`tls: ${maxVersion}: a proxy that wants a client certificate says so`, async t => {
    const { port } = await tlsServer(t, () => {}, { requestCert: true, ca: [authority.cert], maxVersion })
    const user = await connected(t, openTls(t, port).transport)
    // in TLS 1.3 the client is done before the server has looked at its certificate
    if (user.socket !== undefined) await until(() => user.ended !== undefined, 'the end')
    t.regex(user.socket?.fault ?? user.error!.message, maxVersion === 'TLSv1.3' ? /wants a certificate of ours/ : /./)
  })

test.serial('tls: a client certificate of another authority is refused in words', async t => {
  const stranger = makeCertificate({ name: 'stranger', issuer: other })
  const { port } = await tlsServer(t, () => {}, { requestCert: true, ca: [authority.cert] })
  const { server } = serverOf({ cert: '/c', key: '/k' }, { '/c': stranger.cert, '/k': stranger.key })
  const user = await connected(t, openTls(t, port, server).transport)
  await until(() => user.ended !== undefined, 'the end')
  t.regex(user.socket!.fault!, /inside of TLS|our certificate/)
})

for (const [what, greeting] of [
  ['an SSH server', 'SSH-2.0-x\r\n'],
  ['an HTTP server', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
  ['a SOCKS5 proxy', '\x05\xff\x05\xff\x05\xff'],
] as const)
  test.serial(`tls: ${what} there is told from TLS`, async t => {
    const user = await refused(t, await tcpServer(t, socket => void socket.once('data', () => socket.end(greeting))))
    t.is(user.end, 'alien')
    t.regex(user.error!.message, /does not speak TLS there/)
  })

test.serial('tls: a proxy that ends or resets within the handshake is told so', async t => {
  const ended = await refused(t, await tcpServer(t, socket => void socket.once('data', () => socket.end())))
  t.regex(ended.error!.message, /closed the connection within the handshake of TLS/)
  t.is(ended.end, 'unreached')
  const reset = await refused(t, await tcpServer(t, socket => void socket.once('data', () => socket.resetAndDestroy())))
  t.regex(reset.error!.message, /broke off the connection \(ECONNRESET\) within the handshake/)
})

test.serial('tls: where nobody listens the reason is that of the connection', async t => {
  const user = await refused(t, await closedPort())
  t.like(user.error, { failure: 'upstream-down' })
  t.is(user.end, 'unreached')
  t.regex(user.error!.message, /ECONNREFUSED: nobody listens there/)
})

test.serial('tls: nothing is kept of connections that failed at once', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { transport } = openTls(t, await closedPort())
  const users: WeakRef<User>[] = []
  const fail = async () => {
    const user = new User()
    transport.connect(user, NOBODY)
    await until(() => user.calls === 1, 'the failure')
    users.push(new WeakRef(user))
  }
  for (let dials = 0; dials < 10; dials++) await fail()
  await until(() => {
    collect()
    return users.filter(user => user.deref() !== undefined).length <= 1
  }, 'that they are forgotten')
  t.pass()
})

test.serial('tls: a proxy that says nothing is waited for until the dial is given up, and told', async t => {
  const before = addon.openDescriptors()
  let connections = 0
  const port = await tcpServer(t, () => void connections++)
  const { transport } = openTls(t, port)
  const user = new User()
  const connecting = transport.connect(user, NOBODY)
  await until(() => connecting.stands && connections === 1, 'the connection below')
  t.regex(connecting.expire(), /does not answer in TLS/)
  t.is(user.calls, 0)
  t.is(addon.openDescriptors(), before)
})

test.serial('tls: a machine that does not answer is not blamed for TLS, which begins when it does', async t => {
  const before = addon.openDescriptors()
  const full = await fullServer(t, [])
  const { transport } = openTls(t, full.port)
  const given = transport.connect(new User(), NOBODY)
  const waiting = transport.connect(new User(), NOBODY)
  t.false(given.stands)
  t.regex(given.expire(), /does not answer: is it running/)
  full.open()
  await until(() => waiting.stands, 'the connection below')
  waiting.cancel()
  t.is(addon.openDescriptors(), before)
})

test('tls: a stranger’s text stands escaped and cut in a reason', t => {
  const error = (code: string, more = {}) => Object.assign(new Error('raw\ntext'), { code, ...more })
  const subjectaltname = `DNS:\u202e${'x'.repeat(5000)}`
  const { message } = tlsFailure(error('ERR_TLS_CERT_ALTNAME_INVALID', { cert: { subjectaltname } }), 'proxy.example')
  t.true(message.length < 400)
  t.false(message.includes('\u202e'))
  t.deepEqual(tlsFailure(error(''), 'x'), { message: 'TLS with the proxy failed: raw\\u{a}text', end: 'unreached' })
  t.regex(tlsFailure(error('ERR_SSL_X'), 'x').message, /ERR_SSL_X$/)
  t.regex(tlsFailure(error('ERR_SSL_TLSV1_UNRECOGNIZED_NAME'), 'x').message, /does not know the name x: give another/)
  t.is(certificate.name, 'proxy')
})
