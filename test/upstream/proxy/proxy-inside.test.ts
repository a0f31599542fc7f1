/** Dials through proxies inside TLS and over Unix sockets, with the handshake of each protocol. */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import test, { type ExecutionContext } from 'ava'
import { startSocksServer } from '../../../src/demo/socks-server.ts'
import { parseAddress } from '../../../src/endpoint.ts'
import { addon } from '../../../src/io/addon.ts'
import { makeCertificate } from '../../helpers/certificates.ts'
import { closedPort, tcpServer, until } from '../../helpers/sockets.ts'
import { associated, dial, openUrl, outcomeOf, read, silent } from '../rig.ts'
import { authority, tlsServer } from '../transport/tls-rig.ts'

const folder = mkdtempSync(join(tmpdir(), 'inside-'))
test.after.always(() => rmSync(folder, { recursive: true }))

const CA = join(folder, 'ca.pem')
writeFileSync(CA, authority.cert)
const certificate = makeCertificate({ name: 'proxy', hosts: ['127.0.0.1'], issuer: authority })

/** What stands behind all: it sends back what it gets, and greets. */
function origin(t: ExecutionContext): Promise<number> {
  return tcpServer(t, socket => {
    socket.write('hello ')
    socket.pipe(socket)
  })
}

const endpoint = (port: number) => ({ address: parseAddress('127.0.0.1')!, port })

async function socks(t: ExecutionContext): Promise<number> {
  const server = await startSocksServer({ username: 'me', password: 's3cret' })
  t.teardown(() => server.close())
  return server.port
}

/** A CONNECT proxy that answers 502 where nobody listens. */
function serveHttp(client: Duplex): void {
  client.once('data', chunk => {
    const [, host, port] = /^CONNECT ([0-9.]+):([0-9]+) /.exec(String(chunk))!
    const far = connect(Number(port), host)
    far.on('error', () => client.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n'))
    far.once('connect', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      client.pipe(far).pipe(client)
    })
  })
}

const serveSocks = (port: number) => (client: Duplex) => {
  const server = connect(port).on('error', () => client.destroy())
  client.on('close', () => server.destroy())
  client.pipe(server).pipe(client)
}

async function listenUnix(t: ExecutionContext, name: string, serve: (client: Duplex) => void): Promise<string> {
  const path = join(folder, name)
  const open = new Set<Duplex>()
  const server = createServer({ allowHalfOpen: true }, socket => {
    open.add(socket.on('error', () => {}))
    serve(socket)
  })
  server.listen(path)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return path
}

/** The URL of each kind of proxy, started. */
const KINDS: readonly (readonly [kind: string, start: (t: ExecutionContext) => Promise<string>])[] = [
  [
    'socks5+tls',
    async t => {
      const { port } = await tlsServer(t, serveSocks(await socks(t)), certificate)
      return `socks5+tls://me:s3cret@127.0.0.1:${port}?ca=${CA}`
    },
  ],
  ['https', async t => `https://127.0.0.1:${(await tlsServer(t, serveHttp, certificate)).port}?ca=${CA}`],
  ['socks5+unix', async t => `socks5+unix://me:s3cret@${await listenUnix(t, 'socks', serveSocks(await socks(t)))}`],
  ['http+unix', async t => `http+unix://${await listenUnix(t, 'http', serveHttp)}`],
]

for (const [kind, start] of KINDS) {
  test.serial(
    `${kind}: a dial reaches its destination, the bytes behind the reply come first, and nothing stays open`,
    async t => {
      const before = addon.openDescriptors()
      const rig = openUrl(t, await start(t))
      const { connected } = await outcomeOf(t, rig, endpoint(await origin(t)))
      addon.writeBytes(connected!.socket.fd, Buffer.from('and back'))
      t.is(await read(rig, connected!, 14), 'hello and back')
      connected!.socket.close()
      await until(() => addon.openDescriptors() === before, 'all closed')
    },
  )

  test.serial(`${kind}: a destination that refuses is told so`, async t => {
    const rig = openUrl(t, await start(t))
    const { error } = await outcomeOf(t, rig, endpoint(await closedPort()))
    t.is(error!.failure, kind.startsWith('http') ? 'host-unreachable' : 'refused')
  })

  test.serial(`${kind}: twenty dials side by side, with connections made in advance`, async t => {
    const before = addon.openDescriptors()
    const rig = openUrl(t, await start(t), silent, 8)
    const to = endpoint(await origin(t))
    for (let round = 0; round < 2; round++) {
      const dials = Array.from({ length: 20 }, () => dial(t, rig, to).outcome)
      await until(() => dials.every(({ calls }) => calls === 1), 'the outcomes')
      for (const { connected } of dials) {
        t.is(await read(rig, connected!, 6), 'hello ')
        connected!.socket.close(true)
      }
    }
    for (let dials = 0; rig.dialer.counters().pool_hits === 0; dials++) {
      t.true(dials < 100, 'one that was made in advance')
      ;(await outcomeOf(t, rig, to)).connected!.socket.close(true)
    }
    rig.dialer.close()
    await until(() => addon.openDescriptors() === before, 'all closed')
  })
}

test.serial('socks5+tls: datagrams have a relay as long as the connection inside TLS lives', async t => {
  const server = await startSocksServer()
  t.teardown(() => server.close())
  const end = await tlsServer(t, serveSocks(server.port), certificate)
  const rig = openUrl(t, `socks5+tls://127.0.0.1:${end.port}?ca=${CA}`)
  const before = addon.openDescriptors()
  const association = await associated(t, rig)
  t.is(server.counters.liveAssociations, 1)
  association.close()
  await until(() => addon.openDescriptors() === before, 'all closed')
  await until(() => server.counters.liveAssociations === 0, 'the association to end')
})

for (const user of ['', '{source}:x@'])
  test.serial(
    `https: ${user} a certificate that is refused is why the proxy is down, in one line of the log`,
    async t => {
      const { port } = await tlsServer(t, serveHttp, makeCertificate({ name: 'proxy', hosts: ['127.0.0.1'] }))
      const lines: unknown[] = []
      const log = { ...silent, warn: (...said: unknown[]) => void lines.push(said) }
      const rig = openUrl(t, `https://${user}127.0.0.1:${port}?ca=${CA}`, log)
      for (let at = 0; at < 3; at++) {
        const { error } = await outcomeOf(t, rig)
        t.like(error, { failure: 'authentication' })
        t.regex(error!.message, /has signed itself/)
      }
      t.is(lines.length, 1)
      t.regex(JSON.stringify(lines), /upstream down.*has signed itself: give it as ca=FILE/)
    },
  )

test.serial('socks5+tls: a proxy that wants a certificate of ours is told from one that just closes', async t => {
  const options = { ...certificate, requestCert: true, ca: [authority.cert] }
  const { port } = await tlsServer(t, () => {}, options)
  const { error } = await outcomeOf(t, openUrl(t, `socks5+tls://127.0.0.1:${port}?ca=${CA}`))
  t.regex(error!.message, /wants a certificate of ours: give cert=FILE and key=FILE/)
})

test.serial('socks5+unix: a path with nobody is why the proxy is down', async t => {
  const { error } = await outcomeOf(t, openUrl(t, `socks5+unix://${folder}/nobody`))
  t.like(error, { failure: 'upstream-down' })
  t.regex(error!.message, /there is nothing at .*\/nobody/)
})

test.serial('https: a dial that is given up in the handshake of TLS leaves nothing behind', async t => {
  const before = addon.openDescriptors()
  const port = await tcpServer(t, () => {})
  const rig = openUrl(t, `https://127.0.0.1:${port}?ca=${CA}`)
  const { dial: given, outcome } = dial(t, rig)
  await until(() => addon.openDescriptors() === before + 1, 'the connection')
  await new Promise(resolve => setTimeout(resolve, 50))
  const { failure, message } = given.expire()
  t.is(failure, 'timeout')
  t.regex(message, /does not answer in TLS/)
  t.is(outcome.calls, 0)
  t.is(addon.openDescriptors(), before)
})
