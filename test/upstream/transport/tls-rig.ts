/** A server of TLS, and a transport to it. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket as TcpSocket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer, type TlsOptions as ServerOptions, type TLSSocket } from 'node:tls'
import type { ExecutionContext } from 'ava'
import { listenOn } from '../../../src/demo/listening.ts'
import type { Poller } from '../../../src/io/poller.ts'
import type { Tls } from '../../../src/options.ts'
import { tlsOptions } from '../../../src/upstream/transport/tls-options.ts'
import { TlsServer } from '../../../src/upstream/transport/tls-server.ts'
import type { Transport } from '../../../src/upstream/transport/transport.ts'
import { TlsTransport } from '../../../src/upstream/transport/transport-tls.ts'
import { makeCertificate } from '../../helpers/certificates.ts'
import { until } from '../../helpers/sockets.ts'
import { connected, openPoller, PlainTcp } from './transport-rig.ts'

export const authority = makeCertificate({ name: 'test authority' })
export const certificate = makeCertificate({ name: 'proxy', hosts: ['proxy.example'], issuer: authority })

export interface TlsEnd {
  readonly port: number
  readonly sockets: TLSSocket[]
  /** What TLS is spoken on. */
  readonly raw: TcpSocket[]
  readonly errors: string[]
  /** A connection that comes by another way. */
  forward(stream: Duplex): void
}

/** `serve` gets each connection, half-open allowed. */
export async function tlsServer(
  t: ExecutionContext,
  serve: (socket: TLSSocket) => unknown = () => {},
  options: ServerOptions = {},
): Promise<TlsEnd> {
  const sockets: TLSSocket[] = []
  const raw: TcpSocket[] = []
  const errors: string[] = []
  const server = createServer(
    { key: certificate.key, cert: certificate.cert, allowHalfOpen: true, noDelay: true, ...options },
    socket => {
      sockets.push(socket)
      socket.on('error', () => {})
      serve(socket)
    },
  )
  server.on('connection', socket => void raw.push(socket.on('error', () => {})))
  server.on('tlsClientError', error => errors.push((error as NodeJS.ErrnoException).code ?? error.message))
  const port = await listenOn(server, '127.0.0.1', 0)
  t.teardown(() => {
    server.close()
    for (const socket of raw) socket.destroy()
  })
  return { port, sockets, raw, errors, forward: stream => void server.emit('connection', stream) }
}

const FILES: { readonly [path: string]: () => string } = {
  '/ca': () => authority.cert,
}

/** What the URL says; the authority is believed unless `ca` is said otherwise. */
export function serverOf(
  tls: Partial<Tls> = {},
  files: { readonly [path: string]: string } = {},
  host = 'proxy.example',
) {
  const read = (path: string) => Buffer.from(files[path] ?? FILES[path]!())
  const warnings: string[] = []
  const believed = tls.insecure === true || 'ca' in tls ? {} : { ca: '/ca' }
  const options = tlsOptions({ insecure: false, ...believed, ...tls }, host, read)
  const server = new TlsServer(options, { warnOnce: message => void warnings.push(message) })
  return { server, warnings }
}

export function openTls(
  t: ExecutionContext,
  port: number,
  server: TlsServer = serverOf().server,
  below?: (poller: Poller) => Transport,
  poller = openPoller(t),
) {
  const transport = new TlsTransport(poller, below?.(poller) ?? new PlainTcp(poller, port), server)
  t.teardown(() => transport.close())
  return { poller, transport, server }
}

export const sha256 = (bytes: readonly Uint8Array[]) =>
  bytes.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex')

/** Everything until the other side ends; the socket stays open. */
export function readAll(socket: TLSSocket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk))
  return once(socket, 'end').then(() => Buffer.concat(chunks))
}

/** A user that is connected, and the server's end of it. */
export async function pair(t: ExecutionContext, options: Parameters<typeof tlsServer>[2] = {}) {
  const end = await tlsServer(t, () => {}, options)
  const { transport, poller } = openTls(t, end.port)
  const user = await connected(t, transport)
  t.is(user.error, undefined)
  await until(() => end.sockets.length === 1, 'the server')
  return { end, transport, poller, user, peer: end.sockets[0]!, raw: end.raw[0]! }
}

/** What it counts when nothing has moved for so long. */
export async function untilStill(count: () => number, ms = 200): Promise<number> {
  for (let last = -1; ; ) {
    const now = count()
    if (now === last) return now
    last = now
    await delay(ms)
  }
}
