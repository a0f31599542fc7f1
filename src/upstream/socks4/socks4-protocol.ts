/** SOCKS4, and 4a with names: streams to IPv4 alone. */

import type { Arena, DialError } from '../dialer.ts'
import type { Authentication } from '../proxy/authentication.ts'
import type { Ask } from '../proxy/handshake.ts'
import type { Protocol } from '../proxy/proxy-dialer.ts'
import { Command } from '../socks5/socks5-codec.ts'
import { Socks4Handshake } from './socks4-handshake.ts'

/** @param names 4a: the proxy looks names up */
export function socks4(arena: Arena, authentication: Authentication, names: boolean): Protocol {
  return {
    objection: ask => objection(ask, names),
    handshake: (manner, listener) => new Socks4Handshake(arena, authentication, manner, listener),
  }
}

function objection({ command, destination }: Ask, names: boolean): DialError | undefined {
  if (command !== Command.connect) return unsupported('a SOCKS4 proxy carries no UDP')
  if ('name' in destination) {
    if (!names) return unsupported('SOCKS4 carries no names: does the proxy know 4a (socks4a://)?')
    const bytes = Buffer.from(destination.name)
    const isSound = bytes.length >= 1 && bytes.length <= 255 && !bytes.includes(0)
    return isSound ? undefined : unsupported('SOCKS4a carries names of 1 to 255 bytes without NUL')
  }
  const { address } = destination
  if (address.length !== 4) return unsupported('SOCKS4 carries no IPv6')
  const standsForName = address[0] === 0 && address[1] === 0 && address[2] === 0 && address[3] !== 0
  return standsForName ? unsupported('in SOCKS4 0.0.0.1 to 0.0.0.255 stand for a name') : undefined
}

const unsupported = (message: string): DialError => ({ failure: 'unsupported', message })
