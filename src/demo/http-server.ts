/**
 * The origin of the demo: bytes to download that anyone can check, and an upload that is counted and hashed.
 *
 *     GET  /             a little page
 *     GET  /bytes/N      N bytes of a fixed pseudo-random pattern
 *     GET  /sha256/N     the SHA-256 of these N bytes, in hex
 *     POST /upload       (or PUT) {"bytes": N, "sha256": "…"} of what came
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Listening, listenOn, listenOnOnePort } from './listening.ts'

export interface HttpServerOptions {
  /** IP addresses to listen on. Default: 127.0.0.1. */
  readonly hosts?: readonly string[]
  /** Default 0: a free port, the same on all hosts. */
  readonly port?: number
}

/** The pattern repeats itself after so many bytes. */
export const PATTERN_BYTES = 1 << 20
const MAX_BYTES = 2 ** 40
const MAX_REMEMBERED_HASHES = 64

const PAGE = `<!doctype html>
<title>tungate demo</title>
<p>You reached this page through a tun device, lwIP in WebAssembly, and a SOCKS5 proxy.
<p>Try <a href="/bytes/1000000">/bytes/1000000</a> and <a href="/sha256/1000000">/sha256/1000000</a>.
`

export function startHttpServer(options: HttpServerOptions = {}): Promise<Listening> {
  const hosts = options.hosts ?? ['127.0.0.1']
  const openers = hosts.map(host => (port: number) => listen(host, port, answer))
  return listenOnOnePort(openers, options.port ?? 0)
}

async function listen(host: string, port: number, onRequest: RequestListener): Promise<Listening> {
  const server = createServer({ highWaterMark: PATTERN_BYTES, noDelay: true }, onRequest)
  const bound = await listenOn(server, host, port)
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= new Promise(resolve => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
    return closing
  }
  return { port: bound, close }
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const [, path = '', argument] = (request.url ?? '/').split('?', 1)[0]!.split('/')
  const reads = request.method === 'GET' || request.method === 'HEAD'
  const writes = request.method === 'POST' || request.method === 'PUT'
  if (path === 'upload') {
    if (writes) receiveUpload(request, response)
    else answerText(response, 405, 'POST or PUT\n')
  } else if (!reads) answerText(response, 405, 'GET\n')
  else if (path === '') answerText(response, 200, PAGE, 'text/html; charset=utf-8')
  else if (path === 'bytes' || path === 'sha256') answerCount(request, response, path, argument)
  else answerText(response, 404, 'not found\n')
}

function answerCount(
  request: IncomingMessage,
  response: ServerResponse,
  path: 'bytes' | 'sha256',
  argument: string | undefined,
): void {
  const bytes = parseCount(argument)
  if (bytes === undefined) answerText(response, 400, `a count of bytes, 0 to ${MAX_BYTES}\n`)
  else if (path === 'bytes') sendPattern(request, response, bytes)
  else
    patternSha256(bytes, () => response.destroyed).then(
      hash => answerText(response, 200, `${hash}\n`),
      () => response.destroy(),
    )
}

function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,13}$/.test(text)) return undefined
  const count = Number(text)
  return count <= MAX_BYTES ? count : undefined
}

function answerText(response: ServerResponse, status: number, text: string, type = 'text/plain'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) })
  response.end(text)
}

function sendPattern(request: IncomingMessage, response: ServerResponse, bytes: number): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes })
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  const block = patternBlock()
  let left = bytes
  const send = () => {
    while (left > 0 && !response.destroyed) {
      const part = left < PATTERN_BYTES ? block.subarray(0, left) : block
      left -= part.length
      if (!response.write(part) && left > 0) {
        response.once('drain', send)
        return
      }
    }
    response.end()
  }
  send()
}

function receiveUpload(request: IncomingMessage, response: ServerResponse): void {
  const hash = createHash('sha256')
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    hash.update(chunk)
  })
  request.on('end', () => {
    const text = `${JSON.stringify({ bytes, sha256: hash.digest('hex') })}\n`
    answerText(response, 200, text, 'application/json')
  })
  // A client that goes away in the middle: there is nobody left to answer.
  request.on('error', () => response.destroy())
}

let block: Buffer | undefined

/** 1 MiB of xorshift32, made once: the pattern is this block again and again. */
export function patternBlock(): Buffer {
  if (block) return block
  const words = new Uint32Array(PATTERN_BYTES / 4)
  let state = 0x9e3779b9
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[at] = state
  }
  block = Buffer.from(words.buffer)
  return block
}

const remembered = new Map<number, string>()

/**
 * SHA-256, in hex, of the first `bytes` bytes of the pattern. Gives way to other work after each 4 MiB, and rejects when
 * `abandoned` says that nobody waits any more.
 */
export async function patternSha256(bytes: number, abandoned: () => boolean = () => false): Promise<string> {
  const known = remembered.get(bytes)
  if (known !== undefined) return known
  const pattern = patternBlock()
  const hash = createHash('sha256')
  for (let left = bytes, blocks = 1; left > 0; left -= PATTERN_BYTES, blocks++) {
    hash.update(left < PATTERN_BYTES ? pattern.subarray(0, left) : pattern)
    if (blocks % 4 === 0) await nextTurn()
    if (abandoned()) throw new Error('the sha256 is not wanted any more')
  }
  const digest = hash.digest('hex')
  if (remembered.size === MAX_REMEMBERED_HASHES) remembered.clear()
  remembered.set(bytes, digest)
  return digest
}
