/** What a proxy of each kind is dialed with. */
import type { Poller } from '../../io/poller.ts'
import type { Binding } from '../../io/socket.ts'
import type { Arena } from '../dialer.ts'
import { http } from '../http/http-protocol.ts'
import { socks4 } from '../socks4/socks4-protocol.ts'
import { socks5 } from '../socks5/socks5-protocol.ts'
import type { Transport } from '../transport/transport.ts'
import { TcpTransport } from '../transport/transport-tcp.ts'
import { TlsTransport } from '../transport/transport-tls.ts'
import { UnixTransport } from '../transport/transport-unix.ts'
import type { Protocol } from './proxy-dialer.ts'
import type { ProxyState } from './proxy-state.ts'

export function protocolOf({ hop, authentication, challenges }: ProxyState, arena: Arena): Protocol {
  if (hop.kind === 'http') return http(arena, challenges, authentication)
  return hop.kind === 'socks4' ? socks4(arena, authentication, hop.names) : socks5(arena, authentication)
}

/** @param through how connections to the proxy are made, when not straight; they are the transport's to close */
export function transportOf(
  { hop, address, tls }: ProxyState,
  poller: Poller,
  binding: Binding,
  through?: Transport,
): Transport {
  const { server } = hop
  const straight = () =>
    'path' in server ? new UnixTransport(poller, server.path) : new TcpTransport(poller, address!, binding)
  const below = through ?? straight()
  return tls === undefined ? below : new TlsTransport(poller, below, tls)
}
