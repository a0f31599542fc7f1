/**
 * What stands around the gateway in the demo: a client namespace before it, and behind it the embedded SOCKS5 server,
 * which leads every destination to the origin servers on loopback. Nothing gets off the machine.
 */
import { existsSync } from 'node:fs'
import { type Destination, formatAddress, type IpEndpoint } from '../endpoint.ts'
import { Reply } from '../upstream/socks5/socks5-codec.ts'
import { createNamespace, type Namespace } from './namespace.ts'
import { type Origin, type OriginPorts, onLoopback, startOrigin } from './origin.ts'
import { type SocksServer, startSocksServer } from './socks-server.ts'

export type Family = 'IPv4' | 'IPv6'
type Place = Readonly<Record<Family, string>>

/** Addresses for documentation (RFC 5737, RFC 3849): no route of the machine leads to them. */
export const ORIGIN: Place = { IPv4: '203.0.113.80', IPv6: '2001:db8::80' }
export const NAME_SERVER: Place = { IPv4: '192.0.2.53', IPv6: '2001:db8::53' }
export const UNREACHABLE: Place = { IPv4: '198.51.100.1', IPv6: '2001:db8:dead::1' }
/** A name under a top-level domain that is for tests (RFC 6761). */
export const ORIGIN_NAME = 'origin.tungate.test'

export const HTTP_PORT = 80
export const CLOSED_PORT = 81
export const ECHO_PORT = 7
const DNS_PORT = 53

/** Otherwise the machine's own name services (systemd-resolved, mDNS, nscd) would be asked, over a Unix socket beside the tun. */
const NSSWITCH = 'passwd: files\ngroup: files\nhosts: files dns\n'
const NSCD = '/run/nscd/socket'

export interface DemoNetwork {
  readonly namespace: Namespace
  readonly socks: SocksServer
  /** Those that the machine has. */
  readonly families: readonly Family[]
  /** SHA-256, in hex, of what is downloaded and uploaded. */
  readonly sha256: string
  /** Kills the clients and ends the servers. Idempotent. */
  close(): Promise<void>
}

/** `bytes`: the length of downloads and uploads. Rejects with SystemError, and then nothing is left. */
export async function openNetwork(bytes: number): Promise<DemoNetwork> {
  const opened: { close(): Promise<void> }[] = []
  const close = async () => {
    await Promise.all(opened.map(one => one.close()))
  }
  const keep = async <T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> => {
    const one = await opening
    opened.push(one)
    return one
  }
  const origin = keep(startOrigin({ names: { [ORIGIN_NAME]: Object.values(ORIGIN) }, bytes }))
  const namespace = keep(createNamespace()).then(useNameServer)
  const socks = keep(origin.then(startProxy))
  const all = await Promise.allSettled([origin, namespace, socks])
  const failed = all.find(one => one.status === 'rejected')
  if (failed) {
    await close()
    throw failed.reason
  }
  const families: Family[] = existsSync('/proc/net/if_inet6') ? ['IPv4', 'IPv6'] : ['IPv4']
  return { namespace: await namespace, socks: await socks, families, sha256: (await origin).sha256, close }
}

async function useNameServer(namespace: Namespace): Promise<Namespace> {
  await namespace.useResolver(Object.values(NAME_SERVER))
  if (existsSync('/etc/nsswitch.conf')) await namespace.bindFile('/etc/nsswitch.conf', NSSWITCH)
  if (existsSync(NSCD)) await namespace.bindFile(NSCD, '')
  return namespace
}

function startProxy({ ports }: Origin): Promise<SocksServer> {
  const unreachable = Object.values(UNREACHABLE)
  return startSocksServer({
    rewrite: destination => whereItIs(destination, ports),
    reply: destination => (unreachable.includes(hostOf(destination)) ? Reply.hostUnreachable : undefined),
  })
}

/** Whatever is not known here is led to a closed port. */
function whereItIs(destination: Destination, ports: OriginPorts): Destination {
  const host = hostOf(destination)
  const isAt = (place: Place) => host === place.IPv4 || host === place.IPv6
  if (destination.port === DNS_PORT && isAt(NAME_SERVER)) return onLoopback(ports.dns)
  if (destination.port === HTTP_PORT && isAt(ORIGIN)) return onLoopback(ports.http)
  if (destination.port === ECHO_PORT && isAt(ORIGIN)) return onLoopback(ports.echo)
  return onLoopback(ports.closed)
}

/** The gateway asks for addresses, never for names. */
function hostOf(destination: Destination): string {
  return formatAddress((destination as IpEndpoint).address)
}
