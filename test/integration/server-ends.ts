/** Servers of the product, and faulty ones, in a namespace, as tcp-ends.ts. */
import { startDnsServer } from '../../src/demo/dns-server.ts'
import { startHttpServer } from '../../src/demo/http-server.ts'
import type { Listening } from '../../src/demo/listening.ts'
import { type SocksServer, startSocksServer } from '../../src/demo/socks-server.ts'
import { startUdpEcho } from '../../src/demo/udp-echo.ts'
import { formatEndpoint, parseAddress } from '../../src/endpoint.ts'
import type { Reply } from '../../src/upstream/socks5/socks5-codec.ts'
import { type BadSocks, startBadSocks } from '../helpers/bad-socks.ts'
import { type Fault, scriptOf } from '../helpers/socks-faults.ts'

const closers = new Map<string, () => Promise<void>>()
let socks: SocksServer | undefined
let faulty: BadSocks | undefined
let fault: Fault = ['sound']

export async function stop(name: string): Promise<void> {
  await closers.get(name)?.()
  closers.delete(name)
}

export interface SocksOptions {
  readonly port?: number
  readonly host: string
  readonly username?: string
  readonly password?: string
  readonly udp?: boolean
  /** Told to clients as the address of their relay. */
  readonly relayHost?: string
  /** Until a destination that does not answer is called unreachable. */
  readonly connectTimeoutMs?: number
  /** Replies by destination (`203.0.113.9:1`); 'silence' is a destination that never answers. */
  readonly replies?: Readonly<Record<string, number>>
}

/** When it listens (Date.now()). */
export async function startSocks({ replies = {}, relayHost, ...options }: SocksOptions): Promise<number> {
  socks = await startSocksServer({
    port: 1080,
    ...options,
    ...(relayHost === undefined ? {} : { relayAddress: { address: parseAddress(relayHost)!, port: 0 } }),
    reply: destination => replies[formatEndpoint(destination)] as Reply | undefined,
  })
  closers.set('socks', () => socks!.close())
  return Date.now()
}

export async function socksCounters() {
  return { ...socks!.counters }
}

export async function startHttp(hosts: string[], port: number): Promise<void> {
  keepListening('http', await startHttpServer({ hosts, port }))
}

export async function startUdpEchoes(hosts: string[], port: number): Promise<void> {
  keepListening('udp-echo', await startUdpEcho({ hosts, port }))
}

export async function startDns(hosts: string[], port: number, names: Record<string, string[]>): Promise<void> {
  keepListening('dns', await startDnsServer({ hosts, port, names }))
}

/** Until `stop(name)`. */
export function keepListening(name: string, listening: Pick<Listening, 'close'>): void {
  closers.set(name, () => listening.close())
}

/** A proxy with the fault that `setFault` says, of its new connections; its port. */
export async function startFaulty(host: string, port = 0): Promise<number> {
  faulty = await startBadSocks(() => scriptOf(fault), host, port)
  closers.set('faulty', () => faulty!.close())
  return faulty.port
}

export async function setFault(...next: Fault): Promise<void> {
  fault = next
}

/** Connections that it has had, and those that are open. */
export async function faultyConnections(): Promise<{ had: number; open: number }> {
  return { had: faulty!.received.length, open: faulty!.live() }
}

export async function relayPorts(): Promise<readonly number[]> {
  return faulty!.outgoingPorts
}
