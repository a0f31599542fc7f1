/** A proxy, and all that is known of it: this outlives a dialer, whose stack may stop. */
import type { GatewayOptions, Upstream } from '../../options.ts'
import { Relays, relayCells } from '../datagrams/relays.ts'
import { ladderCells, UdpLadder } from '../datagrams/udp-ladder.ts'
import { HttpAuthentication } from '../http/http-authentication.ts'
import { Manners } from '../socks5/socks5-manners.ts'
import { readPem, tlsOptions } from '../transport/tls-options.ts'
import { TlsServer } from '../transport/tls-server.ts'
import { Authentication, authenticationCells } from './authentication.ts'
import { ProxyAddress, proxyText } from './proxy-address.ts'
import { type HealthLog, healthCells, ProxyHealth } from './proxy-health.ts'

/** An upstream that is a proxy. */
export type Hop = Exclude<Upstream, { kind: 'direct' | 'reject' }>

/** What several threads with one proxy know together. */
export interface ProxyCells {
  readonly health: Int32Array
  readonly relays: Int32Array
  readonly authentication: Int32Array
  readonly udp: Int32Array
}

/** `associations`: of all threads together, at most. */
export function proxyCells(associations: number): ProxyCells {
  return {
    health: healthCells(),
    relays: relayCells(associations),
    authentication: authenticationCells(),
    udp: ladderCells(),
  }
}

export class ProxyState {
  readonly hop: Hop
  /** For people. */
  readonly name: string
  /** undefined: of a Unix socket. */
  readonly address: ProxyAddress | undefined
  readonly health: ProxyHealth
  readonly ladder: UdpLadder
  readonly relays: Relays
  readonly manners: Manners
  readonly authentication: Authentication
  /** Of HTTP: the proxy's challenges. */
  readonly challenges: HttpAuthentication
  /** undefined: it is spoken to without TLS. */
  readonly tls: TlsServer | undefined

  /**
   * Throws ConfigError for files of TLS that cannot be used.
   * @param cells of proxyCells(), for several threads with one proxy
   */
  constructor(
    hop: Hop,
    handshake: GatewayOptions['upstream']['handshake'],
    log: Pick<HealthLog, 'info' | 'warn'>,
    cells?: ProxyCells,
  ) {
    const { kind, server, username } = hop
    this.hop = hop
    this.name = 'path' in server ? server.path : proxyText(server.host, server.port)
    this.health = new ProxyHealth(this.name, log, cells?.health)
    const onNoAddress = (reason: string) => void this.health.failed('unreached', reason)
    this.address = 'path' in server ? undefined : new ProxyAddress(server.host, server.port, onNoAddress)
    this.ladder = new UdpLadder(this.name, hop.udp, log, cells?.udp)
    this.relays = new Relays(cells?.relays)
    // HTTP knows users without a password
    const user = kind === 'http' && username !== undefined ? { password: '', ...hop } : hop
    this.authentication = new Authentication(user, cells?.authentication)
    this.manners = new Manners(kind === 'socks5' ? handshake : 'strict', this.authentication.isSet)
    this.challenges = new HttpAuthentication(hop)
    this.tls = tlsServer(hop, this.health)
  }

  /** The proxy's name has been looked up when this resolves, if it can be. */
  async ready(): Promise<void> {
    await this.address?.lookUp()
  }
}

function tlsServer(hop: Hop, health: ProxyHealth): TlsServer | undefined {
  if (hop.kind === 'socks4' || hop.tls === undefined || 'path' in hop.server) return undefined
  return new TlsServer(tlsOptions(hop.tls, hop.server.host, readPem), health)
}
