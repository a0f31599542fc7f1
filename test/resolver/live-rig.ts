/** The service on real sockets: the embedded SOCKS server, and a resolver on loopback that the test speaks for. */
import { createSocket, type RemoteInfo } from 'node:dgram'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type Socket as PeerSocket } from 'node:net'
import type { ExecutionContext } from 'ava'
import { listenOn } from '../../src/demo/listening.ts'
import { startSocksServer } from '../../src/demo/socks-server.ts'
import { AnswerCache } from '../../src/dns/cache.ts'
import { SuffixTable } from '../../src/dns/split.ts'
import { parseAddress } from '../../src/endpoint.ts'
import { Poller } from '../../src/io/poller.ts'
import type { ResolverAddress } from '../../src/options.ts'
import { DnsService, PENDING } from '../../src/resolver/dns-service.ts'
import { Resolvers } from '../../src/resolver/resolvers.ts'
import type { Resolver } from '../../src/resolver/rung.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import { type Decoded, decoded, makeQuery, room } from '../dns/messages.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { until } from '../helpers/sockets.ts'

const CLIENT = { address: new Uint8Array(4), port: 0 }
const SLOTS = 4
const SLOT_BYTES = 65_536
const LANDING = 65_536
const TABLE = 8_192
const FOUND = 16_384
const SCRATCH = 4_096
export const LOOPBACK = parseAddress('127.0.0.1')!

export interface Script {
  /** Without it nobody hears datagrams. */
  readonly udp?: (query: Buffer, reply: (answer: Uint8Array) => void, from: RemoteInfo) => void
  readonly tcp?: (query: Buffer, reply: (answer: Uint8Array) => void, socket: PeerSocket) => void
}

/** A resolver on one port of loopback, by UDP and TCP. */
export async function startResolver(t: ExecutionContext, { udp, tcp }: Script) {
  const open = new Set<PeerSocket>()
  const seen = { datagrams: 0, streamed: 0, connections: 0 }
  const server = createServer({ noDelay: true, allowHalfOpen: false }, socket => {
    open.add(socket)
    seen.connections++
    socket.on('error', () => {})
    socket.on('close', () => open.delete(socket))
    let pending: Buffer = Buffer.alloc(0)
    socket.on('data', chunk => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const end = 2 + pending.readUInt16BE(0)
        const query = pending.subarray(2, end)
        pending = pending.subarray(end)
        seen.streamed++
        tcp?.(query, answer => socket.write(framed(answer)), socket)
      }
    })
  })
  const port = await listenOn(server, '127.0.0.1', 0)
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  const datagrams = createSocket('udp4')
  datagrams.on('message', (query, from) => {
    seen.datagrams++
    udp?.(query, answer => datagrams.send(answer, from.port, from.address), from)
  })
  datagrams.bind(port, '127.0.0.1')
  await once(datagrams, 'listening')
  t.teardown(() => datagrams.close())
  return { port, seen, open, datagrams }
}

export function framed(answer: Uint8Array): Buffer {
  return Buffer.concat([Uint8Array.of(answer.length >> 8, answer.length), answer])
}

/** A resolver that speaks HTTP, and with `chunks` in pieces. */
export async function startHttpResolver(t: ExecutionContext, answer: (query: Buffer) => Uint8Array, chunks = false) {
  const requests: string[] = []
  const server = createHttpServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', part => parts.push(part))
    request.on('end', () => {
      requests.push(`${request.method} ${request.url} ${request.headers['content-type']} ${request.headers.host}`)
      const bytes = answer(Buffer.concat(parts))
      if (bytes.length === 0) return response.writeHead(503).end('later')
      response.setHeader('Content-Type', 'application/dns-message')
      if (!chunks) return response.setHeader('Content-Length', bytes.length).end(bytes)
      for (const byte of bytes.subarray(0, 20)) response.write(Uint8Array.of(byte))
      return response.end(bytes.subarray(20))
    })
  })
  const port = await listenOn(server, '127.0.0.1', 0)
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { port, requests }
}

export interface LiveChoices {
  readonly common?: readonly ResolverAddress[]
  /** Without it the proxy refuses UDP. */
  readonly udp?: boolean
  /** Milliseconds; real ones without it. */
  readonly clock?: () => number
}

export async function openLive(t: ExecutionContext, choices: LiveChoices = {}) {
  const socks = await startSocksServer({ udp: choices.udp ?? true })
  t.teardown(() => socks.close())
  const memory = new ArrayBuffer(LANDING + SLOTS * SLOT_BYTES)
  const bytes = new Uint8Array(memory)
  const words = new Uint32Array(memory)
  for (let slot = 0; slot < SLOTS; slot++) words.set([LANDING + slot * SLOT_BYTES, 0], (TABLE + 8 * slot) / 4)
  const failures: unknown[] = []
  const poller = new Poller(memory, error => failures.push(error))
  const arena = { bytes, words, scratch: SCRATCH, scratchBytes: 4_096 }
  const quiet = { info() {}, warn() {} }
  const proxy = socks5State({ host: '127.0.0.1', port: socks.port }, 'strict', quiet)
  const dialer = new ProxyDialer(proxyParts(poller, arena, proxy, 0, quiet))
  const lines: { message: string; fields: Record<string, unknown> | undefined }[] = []
  const split = new SuffixTable<Resolver>()
  const service = new DnsService({
    cache: new AnswerCache(),
    map: undefined,
    split,
    log: { info: (message, fields) => void lines.push({ message, fields }), warn() {} },
    clock: choices.clock ?? (() => performance.now()),
    turn: work => poller.turn(work),
  })
  const resolvers = new Resolvers(
    {
      memory: { ...arena, landingTable: TABLE, landingSlots: SLOTS, landingBytes: SLOT_BYTES, landed: FOUND },
      poller,
      dialer,
      binding: { interface: '', mark: 0 },
      counters: service.counters,
      // what is inside TLS is the same without
      dialTls: ({ host, port }, listener) => dialer.connect({ address: parseAddress(host)!, port }, CLIENT, listener),
      isOurs: () => false,
    },
    choices.common ?? [],
  )
  t.teardown(() => {
    service.close()
    resolvers.close()
    dialer.close()
    if (poller.used > 0) failures.push(new Error(`${poller.used} sockets are left`))
    poller.close()
    if (failures.length > 0) throw failures[0]
  })
  const ask = async (port: number, name: string, isStream = false, onAnswer = () => {}): Promise<Decoded> => {
    const message = makeQuery(name, { udpBytes: 1_232 })
    const out = room()
    const length = service.answer(out, message, message.length, isStream, resolvers.at(LOOPBACK, port))
    if (length !== PENDING) return decoded(out, length)
    let told: Decoded | undefined
    service.ask({
      onAnswer(answer, count) {
        told = decoded(answer, count)
        onAnswer()
      },
    })
    await until(() => told !== undefined, 'an answer', 60_000)
    return told!
  }
  return { ask, service, resolvers, lines, socks, split, poller, dialer }
}
