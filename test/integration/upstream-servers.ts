/**
 * The servers of docs/UPSTREAMS.md in a world's server namespace: what runs, and the URL by which the gateway dials
 * through it. Each asks for a password where it can.
 */
import { type Certificate, makeCertificate } from '../helpers/certificates.ts'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { hevProgram, startHev } from '../helpers/servers/hev.ts'
import { startSquid } from '../helpers/servers/squid.ts'
import { startSsh } from '../helpers/servers/ssh.ts'
import { startStunnel } from '../helpers/servers/stunnel.ts'
import { startTinyproxy } from '../helpers/servers/tinyproxy.ts'
import { type Credentials, isInstalled, type RealServer, startDante, startMicrosocks } from '../helpers/servers.ts'
import type { UpstreamName } from './upstream-table.ts'
import { DEST4, DEST6, PROXY4, type World } from './world.ts'

export const USER: Credentials = { username: 'me', password: 's3cret' }
export const WRONG: Credentials = { username: 'me', password: 'wr0ng' }

/** Where the packets of a host that is down go: nowhere, without a word. */
export const SILENT4 = '198.51.100.130'
/** Routes of the kernel that say that the host cannot be reached. */
export const UNREACHABLE = ['198.51.100.7', '2001:db8:dead::7'] as const
/** What the proxies' resolver knows; it leads to an echo on port 7001. */
export const NAME = 'echo.example'

export interface UpstreamServer {
  /** Debian's programs that it takes. */
  readonly programs: readonly string[]
  /** Why this machine has none, where that is no package. */
  readonly lacks?: string
  start(world: World, authority: Authority): Promise<readonly RealServer[]>
  /** Without user: it has no passwords. */
  url(user: Credentials, authority: Authority): string
}

/** The tests' own, with a certificate for the proxies' address. */
export interface Authority {
  readonly leaf: Certificate
  /** PEM file. */
  readonly file: string
}

export function makeAuthority(): Pick<Authority, 'leaf'> & { readonly pem: string } {
  const issuer = makeCertificate({ name: 'Test authority' })
  return { leaf: makeCertificate({ name: 'proxy', hosts: [PROXY4], issuer }), pem: issuer.cert }
}

const at = ({ username, password }: Credentials) => `${username}:${password}@${PROXY4}`

export const SERVERS: { readonly [name in UpstreamName]: UpstreamServer } = {
  dante: {
    programs: ['danted', 'perl'],
    start: async ({ server }) => [
      await startDante(server, { port: 1080, internal: [PROXY4], external: ['veth0'], credentials: USER }),
    ],
    url: user => `socks5://${at(user)}:1080`,
  },
  microsocks: {
    programs: ['microsocks'],
    start: async ({ server }) => [await startMicrosocks(server, { host: PROXY4, port: 1081, credentials: USER })],
    url: user => `socks5://${at(user)}:1081`,
  },
  'ssh -D': {
    programs: ['ssh', 'dropbear'],
    start: async ({ server }) => [await startSsh(server, { host: PROXY4, port: 1082, serverPort: 2222 })],
    url: () => `socks5://${PROXY4}:1082`,
  },
  'ssh -D, socks4a': {
    programs: ['ssh', 'dropbear'],
    start: async ({ server }) => [await startSsh(server, { host: PROXY4, port: 1085, serverPort: 2223 })],
    url: () => `socks4a://${PROXY4}:1085`,
  },
  'hev-socks5-server': {
    programs: [],
    ...(hevProgram === undefined ? { lacks: 'HEV_SOCKS5_SERVER names no program' } : {}),
    start: async ({ server }) => [await startHev(server, { host: PROXY4, port: 1083, credentials: USER })],
    url: user => `socks5://${at(user)}:1083`,
  },
  embedded: {
    programs: [],
    start: async ({ far }) => {
      await far.call('startSocks', { host: PROXY4, port: 1084, ...USER })
      return []
    },
    url: user => `socks5://${at(user)}:1084`,
  },
  tinyproxy: {
    programs: ['tinyproxy'],
    start: async ({ server }) => [await startTinyproxy(server, { host: PROXY4, port: 8888, credentials: USER })],
    url: user => `http://${at(user)}:8888`,
  },
  'squid, Basic': {
    programs: ['squid'],
    start: async world => [await squid(world, 3128, 'basic')],
    url: user => `http://${at(user)}:3128`,
  },
  'squid, Digest': {
    programs: ['squid'],
    start: async world => [await squid(world, 3129, 'digest')],
    url: user => `http://${at(user)}:3129`,
  },
  'stunnel, squid': {
    programs: ['squid', 'stunnel'],
    start: async (world, { leaf }) => [await squid(world, 3130, 'basic'), await tlsBefore(world, 8443, 3130, leaf)],
    url: (user, { file }) => `https://${at(user)}:8443?ca=${file}`,
  },
  'stunnel, microsocks': {
    programs: ['microsocks', 'stunnel'],
    start: async (world, { leaf }) => [
      await startMicrosocks(world.server, { host: PROXY4, port: 1086, credentials: USER }),
      await tlsBefore(world, 8444, 1086, leaf),
    ],
    url: (user, { file }) => `socks5+tls://${at(user)}:8444?ca=${file}`,
  },
}

const squid = ({ server }: World, port: number, scheme: 'basic' | 'digest') =>
  startSquid(server, { host: PROXY4, port, authentication: { scheme, ...USER } })

const tlsBefore = ({ server }: World, port: number, to: number, { cert, key }: Certificate) =>
  startStunnel(server, { host: PROXY4, port, to, cert, key })

/** What is missing here for a server, '' for nothing. */
export function lacking({ programs, lacks }: UpstreamServer): string {
  if (lacks !== undefined) return lacks
  const missing = programs.filter(program => !isInstalled(program))
  return missing.length === 0 ? '' : `${missing.join(', ')} not installed`
}

/** Destinations of every kind for the proxies of a world, and the resolver that they ask. */
export async function prepareDestinations(world: World): Promise<void> {
  const { server, far } = world
  await server.ip([
    // nobody has this hardware address
    `neighbour add ${SILENT4} lladdr 02:00:00:00:00:01 dev veth0 nud permanent`,
    `route add ${SILENT4}/32 dev veth0`,
    'route add unreachable 198.51.100.0/25',
    'route add unreachable 2001:db8:dead::/48',
  ])
  await far.call('listen', 'echo', '0.0.0.0', 7001, 'echo')
  await far.call('listen', 'echo6', '::', 7001, 'echo')
  await far.call('listen', 'answer', '0.0.0.0', 7002, 'answer')
  await far.call('startUdpEchoes', [DEST4, DEST6], 7)
  if (!isInstalled('dnsmasq')) return
  await startDnsmasq(server, { names: { [NAME]: [DEST4, DEST6] } })
  await server.useResolver(['127.0.0.1'])
}
