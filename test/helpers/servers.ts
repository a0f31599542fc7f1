/**
 * Real servers of other projects, in a namespace or on the machine's loopback. Each is started in the foreground, is
 * waited for until it listens, keeps its last output for the message of a failure, and ends with `close()`, with its
 * namespace, or with this process.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Namespace, runToEnd } from '../../src/demo/namespace.ts'
import { isOnPath } from '../../src/demo/programs.ts'

/** Where a server runs; undefined is the machine itself, where only loopback addresses may be used. */
export type Place = Namespace | undefined

export interface RealServer {
  readonly port: number
  readonly pid: number
  /** What it has said so far, the last 64 KiB. */
  log(): string
  /** SIGTERM, and SIGKILL two seconds later. Idempotent. */
  close(): Promise<void>
}

export interface Credentials {
  readonly username: string
  readonly password: string
}

const START_TIMEOUT_MS = 10_000
const STOP_TIMEOUT_MS = 2000
const MAX_LOG = 65_536
const TCP_LISTEN = '0A'

/** Whether a program is on PATH or in the folders of system programs. */
export function isInstalled(program: string): boolean {
  return isOnPath(program, ['/usr/sbin', '/sbin'])
}

/** Starts a program that stays in the foreground, and waits until something listens on `port` (TCP) in its place. */
export async function startProgram(
  place: Place,
  port: number,
  program: string,
  args: readonly string[],
  onClosed?: () => Promise<void>,
): Promise<RealServer> {
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` }
  const bounded = ['--pdeathsig', 'KILL', '--', program, ...args]
  const child = place
    ? place.spawn('setpriv', bounded, { stdio: ['ignore', 'pipe', 'pipe'], env })
    : spawn('setpriv', bounded, { stdio: ['ignore', 'pipe', 'pipe'], env })
  let log = ''
  const keep = (chunk: Buffer) => {
    log = (log + chunk).slice(-MAX_LOG)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= stop(child).finally(onClosed)
    return closing
  }
  try {
    await untilListening(place, port, child)
  } catch (error) {
    await close()
    throw new Error(`${program} did not start: ${(error as Error).message}\n${log}`)
  }
  return { port, pid: child.pid!, log: () => log, close }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await ended
  clearTimeout(timer)
}

async function untilListening(place: Place, port: number, child: ChildProcess): Promise<void> {
  let failure: Error | undefined
  child.once('error', error => {
    failure = error
  })
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; await delay(5)) {
    if (failure) throw failure
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`exit ${child.exitCode ?? child.signalCode}`)
    if (await isListening(place, port)) return
  }
  throw new Error(`nothing listens on port ${port}`)
}

/** Looks into the kernel's table, so no connection disturbs the server's own counts. */
export async function isListening(place: Place, port: number): Promise<boolean> {
  const folder = `/proc/${place?.pid ?? 'self'}/net`
  const wanted = port.toString(16).toUpperCase().padStart(4, '0')
  for (const table of ['tcp', 'tcp6']) {
    const rows = (await readFile(`${folder}/${table}`, 'utf8').catch(() => '')).split('\n')
    for (const row of rows) {
      const [, local, , state] = row.trim().split(/\s+/)
      if (state === TCP_LISTEN && local?.endsWith(`:${wanted}`)) return true
    }
  }
  return false
}

export interface DanteOptions {
  readonly port: number
  /** Addresses or devices to listen on. */
  readonly internal: readonly string[]
  /** Device or addresses that its own connections leave by. */
  readonly external: readonly string[]
  /** Needs a namespace: the user exists only in its /etc/passwd and /etc/shadow. */
  readonly credentials?: Credentials
  /** Lines of `socks block { … }`, put before the rule that lets everything pass. */
  readonly block?: readonly string[]
}

/** dante with CONNECT and UDP ASSOCIATE, IPv4 and IPv6. Without a namespace it needs root. */
export async function startDante(place: Place, options: DanteOptions): Promise<RealServer> {
  if (options.credentials) await addUser(place, options.credentials)
  const folder = await mkdtemp(join(tmpdir(), 'dante-'))
  const any = (family: string) => `from: ${family} to: ${family}`
  const pass = ['0.0.0.0/0', '::/0'].flatMap(family => [
    `client pass { ${any(family)} }`,
    `socks pass { from: ${family} to: 0.0.0.0/0 command: bind connect udpassociate bindreply udpreply }`,
    `socks pass { from: ${family} to: ::/0 command: bind connect udpassociate bindreply udpreply }`,
  ])
  const config = [
    'logoutput: stderr',
    ...options.internal.map(address => `internal: ${address} port = ${options.port}`),
    ...options.external.map(address => `external: ${address}`),
    'clientmethod: none',
    `socksmethod: ${options.credentials ? 'username' : 'none'}`,
    // Rootless, no other user exists.
    'user.privileged: root',
    'user.unprivileged: root',
    ...(options.block ?? []).map(rule => `socks block { ${rule} }`),
    ...pass,
  ]
  const file = join(folder, 'danted.conf')
  await writeFile(file, `${config.join('\n')}\n`)
  const pidFile = join(folder, 'pid')
  return startProgram(place, options.port, 'danted', ['-f', file, '-p', pidFile], () => rm(folder, { recursive: true }))
}

/** A user of this namespace alone. */
async function addUser(place: Place, { username, password }: Credentials): Promise<void> {
  if (!place) throw new Error('dante with a password needs a namespace: its users are those of the system')
  const hashed = await runToEnd('perl', ['-e', 'print crypt(<STDIN>, q($6$saltsalt$))'], { input: password })
  if (hashed.code !== 0) throw new Error(`perl: ${hashed.stderr}`)
  const users = await place.mustRun('cat', ['/etc/passwd'])
  // The id of root, because a rootless namespace has no other.
  await place.bindFile('/etc/passwd', `${users}${username}:x:0:0::/:/usr/sbin/nologin\n`)
  await place.bindFile('/etc/shadow', `root:*:1:0:99999:7:::\n${username}:${hashed.stdout}:1:0:99999:7:::\n`, '600')
}

export interface MicrosocksOptions {
  readonly host: string
  readonly port: number
  readonly credentials?: Credentials
}

/** microsocks: CONNECT only. */
export function startMicrosocks(place: Place, { host, port, credentials }: MicrosocksOptions): Promise<RealServer> {
  const user = credentials ? ['-u', credentials.username, '-P', credentials.password] : []
  return startProgram(place, port, 'microsocks', ['-i', host, '-p', String(port), ...user])
}

export interface NginxOptions {
  /** Without brackets. */
  readonly hosts: readonly string[]
  readonly port: number
  /** Folder that is served, readable for the user of the tests. */
  readonly root: string
}

export async function startNginx(place: Place, { hosts, port, root }: NginxOptions): Promise<RealServer> {
  const folder = await mkdtemp(join(tmpdir(), 'nginx-'))
  const listen = hosts.map(host => `listen ${host.includes(':') ? `[${host}]` : host}:${port};`).join(' ')
  const kinds = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const config = `
daemon off; master_process off; user root root; pid ${folder}/pid; error_log stderr;
events { worker_connections 4096; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 60;
  ${kinds.map(kind => `${kind}_temp_path ${folder}/${kind};`).join(' ')}
  server { ${listen} root ${root}; }
}
`
  const file = join(folder, 'nginx.conf')
  await writeFile(file, config)
  const args = ['-e', 'stderr', '-c', file]
  return startProgram(place, port, 'nginx', args, () => rm(folder, { recursive: true }))
}

/** iperf3 on all addresses of its place, or on one. */
export function startIperf3(place: Place, port: number, host?: string): Promise<RealServer> {
  return startProgram(place, port, 'iperf3', ['-s', '-p', String(port), ...(host ? ['-B', host] : [])])
}
