/** A dialer's parts for a SOCKS5 proxy by TCP, without mark or interface. */
import type { Poller } from '../../src/io/poller.ts'
import type { Arena } from '../../src/upstream/dialer.ts'
import type { ProxyParts } from '../../src/upstream/proxy-dialer.ts'
import type { HealthLog } from '../../src/upstream/proxy-health.ts'
import type { ProxyState } from '../../src/upstream/proxy-state.ts'
import { socks5 } from '../../src/upstream/socks5-protocol.ts'
import { TcpTransport } from '../../src/upstream/transport-tcp.ts'

const BINDING = { interface: '', mark: 0 }

/** @param pool connections made in advance at most */
export function socks5Parts(
  poller: Poller,
  arena: Arena,
  proxy: ProxyState,
  pool: number,
  log: Pick<HealthLog, 'warn'>,
): ProxyParts {
  const transport = new TcpTransport(poller, proxy.address, BINDING)
  return { poller, arena, proxy, transport, protocol: socks5(arena, proxy.authentication), pool, binding: BINDING, log }
}
