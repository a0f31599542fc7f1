/**
 * The state of a running gateway, over a Unix socket that only its owner can open: who connects gets one JSON document
 * and the end of the stream. Nothing is read from the client.
 */
import { accessSync, constants, linkSync, lstatSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { GatewayError, SystemError } from './errors.ts'
import type { FlowView } from './options.ts'
import { quote } from './redact.ts'

export interface StatusDocument {
  readonly version: string
  readonly pid: number
  readonly tun: string
  /** URL without its password. */
  readonly proxy: string
  readonly uptimeMs: number
  readonly counters: Readonly<Record<string, number>>
  readonly flows: readonly FlowView[]
}

export interface StatusOptions {
  readonly path: string
  /** The folder is tungate's own: it must belong to this user alone. */
  readonly ownFolder: boolean
  readonly report: () => StatusDocument
}

const MAX_CONNECTIONS = 8
/** A client that does not read is cut off. */
const CONNECTION_TIMEOUT_MS = 5000
const PROBE_TIMEOUT_MS = 1000
const MAX_DOCUMENT_BYTES = 64 * 1024 * 1024

/**
 * Nobody has the place, and its folder may be written to: serveStatus, which takes 15 ms to load node:net, may come later,
 * and then fails only because another was quicker. Throws nothing: on false serveStatus tells what is wrong.
 */
export function isFreeForStatus({ path, ownFolder }: Omit<StatusOptions, 'report'>): boolean {
  try {
    prepareFolder(dirname(path), ownFolder)
    accessSync(dirname(path), constants.W_OK | constants.X_OK)
    return lstatSync(path, { throwIfNoEntry: false }) === undefined
  } catch {
    return false
  }
}

/** Throws SystemError (no right to the place) or GatewayError STATUS_IN_USE (another gateway answers there). */
export async function serveStatus(options: StatusOptions): Promise<StatusServer> {
  const { path } = options
  try {
    prepareFolder(dirname(path), options.ownFolder)
    return new StatusServer(await claim(path), path, options.report)
  } catch (error) {
    throw error instanceof GatewayError ? error : socketError(path, error)
  }
}

async function claim(path: string): Promise<Server> {
  const server = createServer()
  const made = `${path}.${process.pid}.new`
  rmSync(made, { force: true })
  try {
    await listenOwnerOnly(server, made)
    await publish(made, path)
    return server
  } catch (error) {
    server.close()
    throw error
  } finally {
    rmSync(made, { force: true })
  }
}

export class StatusServer {
  readonly #server: Server
  readonly #path: string
  readonly #inode: number
  readonly #sockets = new Set<Socket>()
  #closed: Promise<void> | undefined

  constructor(server: Server, path: string, report: () => StatusDocument) {
    this.#server = server
    this.#path = path
    this.#inode = lstatSync(path).ino
    server.maxConnections = MAX_CONNECTIONS
    server.on('connection', socket => this.#answer(socket, report))
  }

  /** Removes the socket, unless another gateway has taken its place. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= new Promise(resolve => {
      const stat = lstatSync(this.#path, { throwIfNoEntry: false })
      if (stat?.ino === this.#inode) rmSync(this.#path, { force: true })
      for (const socket of this.#sockets) socket.destroy()
      this.#server.close(() => resolve())
    })
    return this.#closed
  }

  #answer(socket: Socket, report: () => StatusDocument): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
    // A client that goes away early concerns nobody but itself.
    socket.on('error', () => socket.destroy())
    socket.setTimeout(CONNECTION_TIMEOUT_MS, () => socket.destroy())
    socket.resume()
    socket.end(`${JSON.stringify(report())}\n`)
  }
}

/** Asks the gateway behind `path`. Throws GatewayError STATUS_NO_GATEWAY or SystemError. */
export function readStatus(path: string): Promise<StatusDocument> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const socket = connect(path)
    socket.setTimeout(CONNECTION_TIMEOUT_MS, () => {
      socket.destroy(new GatewayError('STATUS_SOCKET', `${quote(path)}: the gateway did not answer in time`))
    })
    socket.on('data', chunk => {
      length += chunk.length
      if (length > MAX_DOCUMENT_BYTES) {
        socket.destroy(new GatewayError('STATUS_SOCKET', `${quote(path)}: the answer is too large`))
      }
      chunks.push(chunk)
    })
    socket.on('error', error => reject(readError(path, error)))
    socket.on('end', () => {
      if (length === 0) {
        const reason = 'the gateway closed the connection without an answer: it has no file descriptor left, perhaps'
        return reject(new GatewayError('STATUS_SOCKET', `${quote(path)}: ${reason}`))
      }
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')) as StatusDocument)
      } catch (cause) {
        reject(new GatewayError('STATUS_SOCKET', `${quote(path)}: the answer is not a gateway's`, { cause }))
      }
    })
  })
}

function readError(path: string, error: Error): GatewayError {
  if (error instanceof GatewayError) return error
  const code = codeOf(error)
  if (code !== 'ENOENT' && code !== 'ECONNREFUSED' && code !== 'ENOTDIR') return socketError(path, error)
  const others = socketNames(dirname(path)).filter(name => name !== basename(path, '.sock'))
  const hint = others.length === 0 ? '' : ` (there are sockets of --tun ${others.join(', --tun ')})`
  return new GatewayError('STATUS_NO_GATEWAY', `no gateway is running behind ${quote(path)}${hint}`)
}

function socketNames(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter(name => /^[!-~]{1,15}\.sock$/.test(name))
      .map(name => basename(name, '.sock'))
      .slice(0, 5)
  } catch {
    return []
  }
}

function prepareFolder(folder: string, own: boolean): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (!own) return
  const stat = lstatSync(folder)
  if (stat.isDirectory() && stat.uid === process.getuid!() && (stat.mode & 0o077) === 0) return
  throw new GatewayError(
    'STATUS_SOCKET',
    `the folder ${quote(folder)} of the status socket must be this user's own, with mode 0700`,
  )
}

/** The umask is in force while bind() runs, which listen() calls before it returns: at no time may others connect. */
async function listenOwnerOnly(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve)
    server.once('error', reject)
  })
  const before = process.umask(0o177)
  try {
    server.listen({ path, backlog: MAX_CONNECTIONS })
  } finally {
    process.umask(before)
  }
  await listening
}

/** Gives the socket its name with link(2), which never replaces: of two gateways that start at once one wins. */
async function publish(made: string, path: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      linkSync(made, path)
      return
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || attempt === 3) throw error
    }
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (stat !== undefined && !stat.isSocket()) {
      throw new GatewayError(
        'STATUS_SOCKET',
        `${quote(path)} is not a socket: remove it, or name another --status-socket`,
      )
    }
    if (await isAnswered(path)) {
      throw new GatewayError(
        'STATUS_IN_USE',
        `another gateway answers on ${quote(path)}: give another --tun, or another --status-socket`,
      )
    }
    if (stat !== undefined && lstatSync(path, { throwIfNoEntry: false })?.ino === stat.ino) unlinkSync(path)
  }
}

/** A socket whose process is dead refuses; every other answer, also a late one, means that somebody lives there. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    const end = (answered: boolean) => {
      socket.destroy()
      resolve(answered)
    }
    socket.setTimeout(PROBE_TIMEOUT_MS, () => end(true))
    socket.on('connect', () => end(true))
    socket.on('error', error => end(!['ECONNREFUSED', 'ENOENT'].includes(codeOf(error))))
  })
}

function socketError(path: string, error: unknown): SystemError {
  const { syscall = '', errno = 0 } = error as NodeJS.ErrnoException
  const reason = codeOf(error) || 'unknown error'
  return new SystemError(
    'STATUS_SOCKET',
    `the status socket ${quote(path)} cannot be used: ${reason} in ${syscall || 'its set-up'} (--status-socket names another place)`,
    syscall,
    Math.abs(errno),
  )
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
