/**
 * A small authority (RFC 1035) for the names of the demo, over UDP and TCP. A and AAAA come from a table, every other
 * name does not exist. What is no query at all is dropped, a broken one is answered FORMERR.
 */
import { createServer, type Socket } from 'node:net'
import { parseAddress } from '../endpoint.ts'
import { type Listening, listenOn, listenOnOnePort } from './listening.ts'
import { bindUdp } from './udp-echo.ts'

export interface DnsServerOptions {
  /** Lower-case names without the last dot, each with its IPv4 and IPv6 addresses, eight at most. */
  readonly names: Readonly<Record<string, readonly string[]>>
  /** IP addresses to listen on. Default: 127.0.0.1. */
  readonly hosts?: readonly string[]
  /** Default 0: a free port, the same for UDP and TCP on all hosts. */
  readonly port?: number
}

/** RFC 1035 §3.2.2 and RFC 3596. */
const RecordType = { a: 1, aaaa: 28, any: 255 } as const
const CLASS_IN = 1
/** RFC 1035 §4.1.1. */
const Code = { noError: 0, formatError: 1, noSuchName: 3, notImplemented: 4, refused: 5 } as const

const HEADER_BYTES = 12
const TTL_S = 60
/** So many always fit into the 512 bytes of RFC 1035 §2.3.4, whatever the length of the name. */
const MAX_ADDRESSES = 8
const MAX_TCP_CONNECTIONS = 100
const TCP_IDLE_MS = 5000

type Table = ReadonlyMap<string, readonly Uint8Array[]>

/** Throws a RangeError when the table holds a text that is no address, or more than eight of a name. */
export async function startDnsServer(options: DnsServerOptions): Promise<Listening> {
  const table = parseTable(options.names)
  const openers = (options.hosts ?? ['127.0.0.1']).flatMap(host => [
    (port: number) => listenTcp(host, port, table),
    (port: number) =>
      bindUdp(host, port, (socket, query, peerPort, peer) => {
        const response = answerQuery(query, table)
        if (response) socket.send(response, peerPort, peer, () => undefined)
      }),
  ])
  return listenOnOnePort(openers, options.port ?? 0)
}

function parseTable(names: DnsServerOptions['names']): Table {
  const table = new Map<string, readonly Uint8Array[]>()
  for (const [name, texts] of Object.entries(names)) {
    if (texts.length > MAX_ADDRESSES) throw new RangeError(`${name}: more than ${MAX_ADDRESSES} addresses`)
    const addresses = texts.map(text => {
      const address = parseAddress(text)
      if (!address) throw new RangeError(`${name}: "${text}" is not an IP address`)
      return address
    })
    table.set(name.toLowerCase(), addresses)
  }
  return table
}

/** The response, or undefined when there is nothing that could be answered. Never throws. */
export function answerQuery(query: Uint8Array, table: Table): Uint8Array | undefined {
  if (query.length < HEADER_BYTES) return undefined
  const isResponse = (query[2]! & 0x80) !== 0
  if (isResponse) return undefined
  if ((query[2]! & 0x78) !== 0) return respond(query, HEADER_BYTES, Code.notImplemented, [])
  const questions = (query[4]! << 8) | query[5]!
  const question = questions === 1 ? parseQuestion(query) : undefined
  if (!question) return respond(query, HEADER_BYTES, Code.formatError, [])
  if (question.class !== CLASS_IN) return respond(query, question.end, Code.refused, [])
  const addresses = table.get(question.name)
  if (!addresses) return respond(query, question.end, Code.noSuchName, [])
  const wanted = addresses.filter(address => {
    const type = address.length === 4 ? RecordType.a : RecordType.aaaa
    return question.type === type || question.type === RecordType.any
  })
  return respond(query, question.end, Code.noError, wanted)
}

/** One question, uncompressed as a first name always is (RFC 1035 §4.1.4); undefined when it is cut or too long. */
function parseQuestion(query: Uint8Array): { name: string; type: number; class: number; end: number } | undefined {
  const labels: string[] = []
  let at = HEADER_BYTES
  for (;;) {
    const length = query[at++]
    if (length === undefined || length > 63 || at + length > query.length) return undefined
    if (length === 0) break
    labels.push(String.fromCharCode(...query.subarray(at, at + length)).toLowerCase())
    at += length
    // RFC 1035 §2.3.4: 255 bytes with the lengths and the root.
    if (at - HEADER_BYTES > 254) return undefined
  }
  if (at + 4 > query.length) return undefined
  const word = (offset: number) => (query[offset]! << 8) | query[offset + 1]!
  return { name: labels.join('.'), type: word(at), class: word(at + 2), end: at + 4 }
}

/** Header, the question up to `end` (none when `end` is the header's), and one record for each address. */
function respond(query: Uint8Array, end: number, code: number, addresses: readonly Uint8Array[]): Uint8Array {
  const size = addresses.reduce((sum, address) => sum + HEADER_BYTES + address.length, end)
  const out = new Uint8Array(size)
  out.set(query.subarray(0, end))
  // QR and AA set, opcode and RD kept.
  out[2] = 0x84 | (query[2]! & 0x79)
  out[3] = code
  out[4] = 0
  out[5] = end > HEADER_BYTES ? 1 : 0
  out.fill(0, 6, HEADER_BYTES)
  out[7] = addresses.length
  let at = end
  for (const address of addresses) {
    const type = address.length === 4 ? RecordType.a : RecordType.aaaa
    // NAME is a pointer to the question, then TYPE, CLASS, TTL, RDLENGTH.
    out.set([0xc0, HEADER_BYTES, 0, type, 0, CLASS_IN, 0, 0, 0, TTL_S, 0, address.length], at)
    out.set(address, at + 12)
    at += 12 + address.length
  }
  return out
}

async function listenTcp(host: string, port: number, table: Table): Promise<Listening> {
  const open = new Set<Socket>()
  const server = createServer({ noDelay: true }, socket => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    serveTcp(socket, table)
  })
  server.maxConnections = MAX_TCP_CONNECTIONS
  const bound = await listenOn(server, host, port)
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= new Promise(resolve => {
      server.close(() => resolve())
      for (const socket of open) socket.destroy()
    })
    return closing
  }
  return { port: bound, close }
}

/** RFC 1035 §4.2.2: each message stands behind its length in two bytes. */
function serveTcp(socket: Socket, table: Table): void {
  let pending: Buffer = Buffer.alloc(0)
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy())
  socket.on('error', () => socket.destroy())
  socket.on('data', chunk => {
    pending = Buffer.concat([pending, chunk])
    while (pending.length >= 2) {
      const end = 2 + pending.readUInt16BE(0)
      if (pending.length < end) return
      const response = answerQuery(pending.subarray(2, end), table)
      pending = pending.subarray(end)
      if (!response || socket.writableLength > 65536) {
        socket.destroy()
        return
      }
      socket.write(Buffer.concat([Uint8Array.of(response.length >> 8, response.length & 255), response]))
    }
  })
}
