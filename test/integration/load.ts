/** Ends that bear tens of thousands of connections: the load program of the benchmarks in the namespaces of a world. */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { loadProgram } from '../helpers/load-program.ts'
import { DEST4, PROXY4, type World } from './world.ts'

/** Ports of `load serve` (bench/load/load.h). */
export const ECHO_PORT = 7001
export const UDP_ECHO_PORT = 7005

export type LoadArgument = string | number

/** A run of the load program, which prints lines of JSON. */
export interface LoadRun {
  /** The first line. Rejects with the program's own words when it fails. */
  readonly result: Promise<Record<string, number>>
  /** Ends its standard input; the next line. */
  finish(): Promise<Record<string, number>>
}

function start(argv: [string, ...string[]], world: World, place: 'client' | 'server'): LoadRun {
  const child = world[place].spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr!.on('data', chunk => {
    complaint += chunk
  })
  child.stdin!.on('error', () => undefined)
  const lines = createInterface({ input: child.stdout! })
  const line = async () => JSON.parse((await once(lines, 'line'))[0] as string) as Record<string, number>
  const ended = once(child, 'close').then(([code]) => {
    throw new Error(`${argv.join(' ')}: exit ${code}: ${complaint.trim()}`)
  })
  ended.catch(() => undefined)
  const result = Promise.race([line(), ended])
  result.catch(() => undefined)
  const finish = () => {
    child.stdin!.end()
    return Promise.race([line(), ended])
  }
  return { result, finish }
}

export function startLoad(world: World, run: string, ...args: LoadArgument[]): LoadRun {
  return start([loadProgram(), run, '-d', DEST4, ...args.map(String)], world, 'client')
}

/** A SOCKS5 server on PROXY4:1080, and echo servers on DEST4; they end with the world. */
export async function startLoadServers(world: World): Promise<void> {
  const socks = start([loadProgram(), 'socks-server', '-s', `${PROXY4}:1080`], world, 'server')
  const servers = start([loadProgram(), 'serve', '-a', DEST4], world, 'server')
  await Promise.all([socks.result, servers.result])
}

/** A connection that ended stays for a minute in the kernels' tables, which must not be what is measured. */
export async function forgetEnded(world: World): Promise<void> {
  for (const place of [world.client, world.server])
    await place.run('sysctl', ['-qw', 'net.ipv4.tcp_max_tw_buckets=1000', 'net.ipv4.ip_local_port_range=1024 65535'])
}
