/** The proxy, and all that is known of it: this outlives a dialer, whose stack may stop. */
import type { GatewayOptions, ProxyOptions } from '../options.ts'
import { ProxyAddress, proxyText } from './proxy-address.ts'
import { type HealthLog, ProxyHealth } from './proxy-health.ts'
import { Authentication } from './socks5-authentication.ts'
import { Manners } from './socks5-manners.ts'

export class Socks5Proxy {
  readonly address: ProxyAddress
  readonly health: ProxyHealth
  readonly manners: Manners
  readonly authentication: Authentication

  /** @param cells of healthCells(), for several threads with one proxy */
  constructor(
    proxy: ProxyOptions,
    handshake: GatewayOptions['upstream']['handshake'],
    log: HealthLog,
    cells?: Int32Array,
  ) {
    const { host, port } = proxy
    this.health = new ProxyHealth(proxyText(host, port), log, cells)
    this.address = new ProxyAddress(host, port, reason => this.health.failed('unreached', reason))
    this.authentication = new Authentication(proxy)
    this.manners = new Manners(handshake, this.authentication.isSet)
  }

  /** The proxy's name has been looked up when this resolves, if it can be. */
  ready(): Promise<void> {
    return this.address.lookUp()
  }
}
