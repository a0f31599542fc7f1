/** HTTP CONNECT (RFC 9110 §9.3.6): streams alone. */

import type { Arena, DialError } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import type { Ask } from '../proxy/handshake.ts'
import type { Protocol } from '../proxy/proxy-dialer.ts'
import { Command } from '../socks5/socks5-codec.ts'
import type { HttpAuthentication } from './http-authentication.ts'
import { connectAuthority } from './http-codec.ts'
import { HttpHandshake } from './http-handshake.ts'

const NO_UDP: DialError = { failure: 'unsupported', message: 'an HTTP proxy carries no UDP' }

export function http(arena: Arena, credentials: HttpAuthentication, authentication: Authentication): Protocol {
  return {
    objection,
    handshake: (manner, listener) => new HttpHandshake(arena, credentials, authentication, manner, listener),
  }
}

function objection({ command, destination }: Ask): DialError | undefined {
  if (command !== Command.connect) return NO_UDP
  try {
    connectAuthority(destination)
    return undefined
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { failure: 'unsupported', message: `the proxy cannot be asked for this name: ${error.message}` }
  }
}
