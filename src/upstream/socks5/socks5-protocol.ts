/** SOCKS5 (RFC 1928, RFC 1929): CONNECT for streams, UDP ASSOCIATE for datagrams. */

import type { Arena } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import type { Protocol } from '../proxy/proxy-dialer.ts'
import { Socks5Handshake } from './socks5-handshake.ts'

export function socks5(arena: Arena, authentication: Authentication): Protocol {
  return { handshake: (manner, listener) => new Socks5Handshake(arena, authentication, manner, listener) }
}
