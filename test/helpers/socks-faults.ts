/**
 * The faults of a SOCKS5 proxy, each by its name: scripts for bad-socks.ts. A fault can be told to a process in another
 * namespace, because it is plain JSON.
 */
import { parseAddress } from '../../src/endpoint.ts'
import type { Step } from './bad-socks.ts'
import { type UdpInTcp, udpInTcp } from './udp-in-tcp.ts'
import { type RelayAnswer, type RelayPlace, relay } from './udp-relay.ts'

/** A reply that says "succeeded", by the form of its BND.ADDR. */
export const REPLIES = {
  IPv4: [5, 0, 0, 1, 10, 0, 0, 1, 0x1f, 0x90],
  IPv6: [5, 0, 0, 4, ...parseAddress('2001:db8::1')!, 1, 2],
  name: [5, 0, 0, 3, 5, ...Buffer.from('a.org'), 1, 2],
} as const
type Form = keyof typeof REPLIES

const OK = REPLIES.IPv4
const GREETED: readonly Step[] = ['greeting', { send: [5, 0] }]
const ASKED: readonly Step[] = [...GREETED, 'request']
const WITH_PASSWORD: readonly Step[] = ['greeting', { send: [5, 2] }, 'auth']

/** Bytes to tell from others: no two neighbours of a small shift are alike. */
export function filler(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, at) => (at * 7 + (at >> 8)) & 255)
}

export const FAULTS = {
  // ---- none ----
  sound: (): Step[] => [...ASKED, { send: OK }],
  bound: (form: Form): Step[] => [...ASKED, { send: REPLIES[form] }],
  'sound with a password': (): Step[] => [...WITH_PASSWORD, { send: [1, 0] }, 'request', { send: OK }],

  // ---- it says nothing, or little ----
  silent: (): Step[] => ['silence'],
  'silent after the greeting': (): Step[] => ['greeting', 'silence'],
  'silent after the password': (): Step[] => [...WITH_PASSWORD, 'silence'],
  'silent after the request': (): Step[] => [...ASKED, 'silence'],
  /** Each message in bytes, one every `everyMs`. */
  drip: (everyMs: number): Step[] => [
    'greeting',
    { send: [5, 0], piece: 1, everyMs },
    { waitMs: everyMs },
    'request',
    { send: OK, piece: 1, everyMs },
  ],

  // ---- it ends ----
  'accept and close': (): Step[] => ['end'],
  'accept and reset': (): Step[] => ['reset'],
  /** Of its choice of a method so many bytes are sent; and so on. */
  'end in the method': (bytes: number): Step[] => ['greeting', { send: [5, 0].slice(0, bytes) }, 'end'],
  'end in the verdict': (bytes: number): Step[] => [...WITH_PASSWORD, { send: [1, 0].slice(0, bytes) }, 'end'],
  'end in the reply': (form: Form, bytes: number): Step[] => [...ASKED, { send: REPLIES[form].slice(0, bytes) }, 'end'],
  'reset before the reply': (): Step[] => [...ASKED, 'reset'],

  // ---- it says something else ----
  http: (): Step[] => ['greeting', { send: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }, 'end'],
  ssh: (): Step[] => [{ send: Buffer.from('SSH-2.0-OpenSSH_9.2\r\n') }],
  tls: (): Step[] => ['greeting', { send: [0x15, 3, 1, 0, 2, 2, 70] }, 'end'],
  socks4: (): Step[] => ['greeting', { send: [0, 0x5b, 0, 0, 0, 0, 0, 0] }, 'end'],
  'version of the method': (version: number): Step[] => ['greeting', { send: [version, 0] }],
  'version of the verdict': (version: number): Step[] => [...WITH_PASSWORD, { send: [version, 0] }],
  'version of the reply': (version: number): Step[] => [...ASKED, { send: [version, ...OK.slice(1)] }],
  'address type of the reply': (type: number): Step[] => [...ASKED, { send: [5, 0, 0, type, 0, 0, 0, 0, 0, 0] }],
  /** 255 is "none of those that you offer". */
  method: (method: number): Step[] => ['greeting', { send: [5, method] }, 'end'],
  'password refused': (): Step[] => [...WITH_PASSWORD, { send: [1, 1] }, 'end'],
  reply: (code: number): Step[] => [...ASKED, { send: [5, code, 0, 1, 0, 0, 0, 0, 0, 0] }, 'end'],

  // ---- behind its reply ----
  /** So many bytes of `filler` in one with the reply, and then at once: */
  glued: (bytes: number, last: 'silence' | 'end' | 'reset'): Step[] => [
    ...ASKED,
    { send: [...OK, ...filler(bytes)] },
    last,
  ],
  'reset in mid-transfer': (bytes: number): Step[] => [
    ...ASKED,
    { send: OK },
    { send: filler(bytes) },
    { waitMs: 200 },
    'reset',
  ],

  // ---- UDP ----
  relay: (answer: RelayAnswer = 'full cone', place: RelayPlace = 'own'): Step[] => [...ASKED, relay(answer, place)],
  /** No relay, but UDP in TCP. */
  'udp in tcp': (how: UdpInTcp = 'full cone'): Step[] => [...ASKED, udpInTcp(how)],
  'relay for a time': (ms: number): Step[] => [...ASKED, relay('echo'), { waitMs: ms }, 'end'],
} as const satisfies Record<string, (...args: never[]) => Step[]>

type Faults = typeof FAULTS
/** `['reply', 5]`. */
export type Fault = { [name in keyof Faults]: [name, ...Parameters<Faults[name]>] }[keyof Faults]

export function scriptOf([name, ...args]: Fault): readonly Step[] {
  return (FAULTS[name] as (...args: unknown[]) => Step[])(...args)
}
