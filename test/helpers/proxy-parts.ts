/** What a dialer needs for a proxy by TCP, without mark or interface. */
import type { Poller } from '../../src/io/poller.ts'
import type { GatewayOptions, ProxyOptions, UdpWay } from '../../src/options.ts'
import type { Arena } from '../../src/upstream/dialer.ts'
import type { ProxyParts } from '../../src/upstream/proxy/proxy-dialer.ts'
import type { HealthLog } from '../../src/upstream/proxy/proxy-health.ts'
import { protocolOf, transportOf } from '../../src/upstream/proxy/proxy-kinds.ts'
import { type ProxyCells, ProxyState } from '../../src/upstream/proxy/proxy-state.ts'

const BINDING = { interface: '', mark: 0 }

export function socks5State(
  { host, port, ...user }: ProxyOptions,
  handshake: GatewayOptions['upstream']['handshake'],
  log: HealthLog,
  cells?: ProxyCells,
  udp: UdpWay = 'auto',
): ProxyState {
  return new ProxyState(
    { kind: 'socks5', server: { host, port }, ...user, isPerSource: false, udp },
    handshake,
    log,
    cells,
  )
}

/** @param pool connections made in advance at most */
export function proxyParts(
  poller: Poller,
  arena: Arena,
  proxy: ProxyState,
  pool: number,
  log: Pick<HealthLog, 'warn'>,
): ProxyParts {
  const transport = transportOf(proxy, poller, BINDING)
  return { poller, arena, proxy, transport, protocol: protocolOf(proxy, arena), pool, binding: BINDING, log }
}
