/** What a proxy of each kind is dialed with. */
import type { Arena } from './dialer.ts'
import { http } from './http-protocol.ts'
import type { Protocol } from './proxy-dialer.ts'
import type { ProxyState } from './proxy-state.ts'
import { socks4 } from './socks4-protocol.ts'
import { socks5 } from './socks5-protocol.ts'

export function protocolOf({ hop, authentication, challenges }: ProxyState, arena: Arena): Protocol {
  if (hop.kind === 'http') return http(arena, challenges, authentication)
  return hop.kind === 'socks4' ? socks4(arena, authentication, hop.names) : socks5(arena, authentication)
}
