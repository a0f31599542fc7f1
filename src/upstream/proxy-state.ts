/** The proxy, and all that is known of it: this outlives a dialer, whose stack may stop. */
import type { GatewayOptions, ProxyOptions } from '../options.ts'
import { Authentication, authenticationCells } from './authentication.ts'
import { ProxyAddress, proxyText } from './proxy-address.ts'
import { type HealthLog, healthCells, ProxyHealth } from './proxy-health.ts'
import { Relays, relayCells } from './relays.ts'
import { Manners } from './socks5-manners.ts'

/** What several threads with one proxy know together. */
export interface ProxyCells {
  readonly health: Int32Array
  readonly relays: Int32Array
  readonly authentication: Int32Array
}

/** `associations`: of all threads together, at most. */
export function proxyCells(associations: number): ProxyCells {
  return { health: healthCells(), relays: relayCells(associations), authentication: authenticationCells() }
}

export class ProxyState {
  readonly address: ProxyAddress
  readonly health: ProxyHealth
  readonly relays: Relays
  readonly manners: Manners
  readonly authentication: Authentication

  /** @param cells of proxyCells(), for several threads with one proxy */
  constructor(
    proxy: ProxyOptions,
    handshake: GatewayOptions['upstream']['handshake'],
    log: HealthLog,
    cells?: ProxyCells,
  ) {
    const { host, port } = proxy
    this.health = new ProxyHealth(proxyText(host, port), log, cells?.health)
    this.address = new ProxyAddress(host, port, reason => this.health.failed('unreached', reason))
    this.relays = new Relays(cells?.relays)
    this.authentication = new Authentication(proxy, cells?.authentication)
    this.manners = new Manners(handshake, this.authentication.isSet)
  }

  /** The proxy's name has been looked up when this resolves, if it can be. */
  ready(): Promise<void> {
    return this.address.lookUp()
  }
}
