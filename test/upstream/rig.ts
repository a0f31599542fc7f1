/** A dialer on a poller and a memory of its own, for the tests of the SOCKS5 upstream. */
import type { ExecutionContext } from 'ava'
import { completeOptions } from '../../src/config/complete-options.ts'
import { parseProxyUrl } from '../../src/config/proxy-url.ts'
import { type Destination, parseAddress } from '../../src/endpoint.ts'
import { Poller } from '../../src/io/poller.ts'
import type { GatewayInput, GatewayOptions, ProxyOptions, UdpWay } from '../../src/options.ts'
import type { Arena, Association, Connected, DialError, Dialer } from '../../src/upstream/dialer.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import type { HealthLog } from '../../src/upstream/proxy/proxy-health.ts'
import { type Hop, ProxyState } from '../../src/upstream/proxy/proxy-state.ts'
import { Dialers, Upstreams } from '../../src/upstream/upstreams.ts'
import type { Step } from '../helpers/bad-socks.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { until } from '../helpers/sockets.ts'

const MEMORY = 1 << 20
export const SCRATCH = 4096
export const DATA = 65_536
/** Where recvDatagrams puts what it found. */
export const FOUND = 8192

export const silent = { info() {}, warn() {} }
export const DEST = { address: parseAddress('203.0.113.7')!, port: 443 }
/** Whose dials they are. */
export const CLIENT = { address: parseAddress('198.18.0.2')!, port: 40_000 }
export const DEST6 = { address: parseAddress('2001:db8::7')!, port: 443 }
export const OK = [5, 0, 0, 1, 10, 0, 0, 1, 0x1f, 0x90]
/** CONNECT to DEST. */
export const REQUEST = [5, 1, 0, 1, ...DEST.address, 1, 0xbb]
/** RFC 1928 section 6, and what it leaves unassigned. */
export const REFUSALS = [
  [1, 'general'],
  [2, 'prohibited'],
  [3, 'net-unreachable'],
  [4, 'host-unreachable'],
  [5, 'refused'],
  [6, 'ttl-expired'],
  [7, 'unsupported'],
  [8, 'unsupported'],
  [9, 'general'],
  [255, 'general'],
] as const
export const GREETED: readonly Step[] = [{ expect: 3 }, { send: [5, 0] }, { expect: 10 }]

type UpstreamOptions = GatewayOptions['upstream']
/** As little as there is: what each message and each connection is, a test can then count. */
const PLAIN: UpstreamOptions = { handshake: 'strict', pool: 0 }

export function open(
  t: ExecutionContext,
  port: number,
  more: Partial<ProxyOptions> = {},
  log = silent,
  upstream: Partial<UpstreamOptions> = {},
  udp: UdpWay = 'auto',
) {
  const { handshake, pool } = { ...PLAIN, ...upstream }
  return openState(t, socks5State({ host: '127.0.0.1', port, ...more }, handshake, log, undefined, udp), pool, log)
}

/** A dialer for the URL of a proxy. */
export function openUrl(t: ExecutionContext, url: string, log = silent, pool = 0) {
  return openState(t, new ProxyState(parseProxyUrl(url) as Hop, 'strict', log), pool, log)
}

function openState(t: ExecutionContext, proxy: ProxyState, pool: number, log: HealthLog) {
  return openWith(t, (poller, arena) => new ProxyDialer(proxyParts(poller, arena, proxy, pool, log)), { proxy })
}

/** The dialer of the default upstream. */
export function openInput(t: ExecutionContext, input: GatewayInput, log = silent) {
  const options = completeOptions({ upstream: PLAIN, ...input })
  const upstreams = new Upstreams(options, log)
  const make = (poller: Poller, arena: Arena) => {
    const dialers = new Dialers(upstreams, { poller, arena, log })
    t.teardown(() => dialers.close())
    return dialers.get(options.proxy)
  }
  return openWith(t, make, { upstreams })
}

export function openWith<D extends Dialer, More extends object>(
  t: ExecutionContext,
  make: (poller: Poller, arena: Arena) => D,
  more: More,
) {
  const memory = new ArrayBuffer(MEMORY)
  const bytes = new Uint8Array(memory)
  const words = new Uint32Array(memory)
  const failures: unknown[] = []
  const poller = new Poller(memory, error => failures.push(error))
  const arena = { bytes, words, scratch: SCRATCH, scratchBytes: 4096 }
  const dialer = make(poller, arena)
  t.teardown(() => {
    dialer.close()
    poller.close()
    if (failures.length > 0) throw failures[0]
  })
  return { dialer, poller, bytes, words, ...more }
}

export interface Rig {
  readonly dialer: Dialer
  readonly poller: Poller
  readonly bytes: Uint8Array
  readonly words: Uint32Array
}
export type Outcome = { connected?: Connected; error?: DialError; calls: number }

export function dial(t: ExecutionContext, { dialer }: Rig, destination: Destination = DEST) {
  const outcome: Outcome = { calls: 0 }
  const started = dialer.connect(destination, CLIENT, {
    onConnected(connected) {
      outcome.calls++
      outcome.connected = connected
      connected.socket.handOver({ onReady() {} })
      t.teardown(() => connected.socket.close())
    },
    onFailed(error) {
      outcome.calls++
      outcome.error = error
    },
  })
  return { outcome, dial: started }
}

export async function outcomeOf(t: ExecutionContext, rig: Rig, destination: Destination = DEST): Promise<Outcome> {
  const { outcome } = dial(t, rig, destination)
  await until(() => outcome.calls > 0, 'an outcome')
  t.is(outcome.calls, 1)
  return outcome
}

/** An association that stands. */
export async function associated(t: ExecutionContext, { dialer }: Rig): Promise<Association> {
  let made: Association | undefined
  const associating = dialer.associate(CLIENT, {
    onAssociated(association) {
      made = association
    },
    onAssociationFailed: error => t.fail(error.message),
    onDatagrams() {},
  })
  t.teardown(() => (made ?? associating).close())
  await until(() => made !== undefined, 'the association')
  return made!
}

/** Bytes that the upstream sent behind the handshake, `early` ones included. */
export async function read(rig: Rig, { socket, early }: Connected, length: number): Promise<string> {
  let text = Buffer.from(early ?? []).toString()
  await until(() => {
    rig.words.set([DATA, 1000], SCRATCH / 4)
    const got = rig.poller.io.readv(socket.fd, SCRATCH, 1)
    if (got > 0) text += Buffer.from(rig.bytes.slice(DATA, DATA + got)).toString()
    return text.length >= length
  }, 'the bytes')
  return text
}
