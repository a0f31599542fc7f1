/** The plane on a tun in memory and with a dialer that the test decides for, without a proxy: the test plays the kernel. */
import type { Socket as PeerSocket } from 'node:net'
import type { ExecutionContext } from 'ava'
import { type Destination, type IpEndpoint, parseAddress } from '../../src/endpoint.ts'
import { DataPlane, type PlaneOptions, type PlaneParts } from '../../src/flow/data-plane.ts'
import type { DatagramService } from '../../src/flow/datagram-service.ts'
import type { Router } from '../../src/flow/router.ts'
import { Poller } from '../../src/io/poller.ts'
import { Socket } from '../../src/io/socket.ts'
import { Stack } from '../../src/stack/stack.ts'
import { MemoryTun } from '../../src/tun/memory.ts'
import type { AssociationListener, DialError, Dialer, DialFailure, DialListener } from '../../src/upstream/dialer.ts'
import { Flag, type Packet, parse, type TcpFields, tcp } from '../helpers/packets.ts'
import { SingleRouter } from '../helpers/single-router.ts'
import { tcpServer, until } from '../helpers/sockets.ts'

export const PAIR = { from: '198.18.0.1', to: '203.0.113.7' }
export const OPTIONS: PlaneOptions = {
  tcp: { connectTimeoutMs: 10_000, halfCloseTimeoutMs: 10_000, idleTimeoutMs: 10_000, keepAliveMs: 0 },
  udp: { idleTimeoutMs: 10_000, maxAssociations: 4, mode: 'auto', quic: 'allow' },
  limits: { flows: 100, dials: 100, dialsPerSource: 100 },
}

/** Dials are decided by the test: each waits for `succeed` or `fail`. */
export class TestDialer implements Dialer {
  readonly waiting: { to: Destination; client: IpEndpoint; listener: DialListener; cancelled: boolean }[] = []
  readonly associations: {
    client: IpEndpoint
    listener: AssociationListener
    name: string | undefined
    closed: boolean
  }[] = []
  closed = false
  /** Each further dial fails inside connect(). */
  failsAtOnce: DialFailure | undefined
  readonly #poller: Poller
  readonly #port: number

  constructor(poller: Poller, port: number) {
    this.#poller = poller
    this.#port = port
  }

  connect(to: Destination, client: IpEndpoint, listener: DialListener) {
    const dial = { to, client, listener, cancelled: false }
    const at = this.waiting.push(dial) - 1
    if (this.failsAtOnce !== undefined) this.fail(this.failsAtOnce, at)
    const cancel = () => void Object.assign(dial, { cancelled: true })
    return { cancel, expire: () => expired(cancel) }
  }

  succeed(at = 0, early?: Uint8Array): Promise<void> {
    return new Promise(resolve => {
      let done = false
      const address = parseAddress('127.0.0.1')!
      const socket: Socket = Socket.connectTcp(
        this.#poller,
        { address, port: this.#port },
        { interface: '', mark: 0 },
        {
          onReady: () => {
            if (done) return
            done = true
            this.waiting[at]!.listener.onConnected({ socket, early, readable: true })
            resolve()
          },
        },
      )
    })
  }

  fail(failure: DialFailure, at = 0): void {
    this.waiting[at]!.listener.onFailed({ failure, message: 'as the test says' })
  }

  associate(client: IpEndpoint, listener: AssociationListener, name?: string) {
    const entry = { client, listener, name, closed: false }
    this.associations.push(entry)
    const close = () => void Object.assign(entry, { closed: true })
    return { close, expire: () => expired(close) }
  }

  isUpstream(endpoint: IpEndpoint): boolean {
    return endpoint.port === 1080
  }

  counters() {
    return { dials: this.waiting.length }
  }

  close(): void {
    this.closed = true
  }
}

function expired(cancel: () => void): DialError {
  cancel()
  return { failure: 'timeout', message: 'as the test says' }
}

export async function open(
  t: ExecutionContext,
  more: Partial<PlaneOptions> = {},
  serve: (peer: PeerSocket) => void = () => {},
  makeRouter?: (dialer: TestDialer) => Router,
  service?: DatagramService,
) {
  const port = await tcpServer(t, serve)
  return openWith(t, more, poller => new TestDialer(poller, port), makeRouter, service)
}

interface ServiceHost {
  readonly stack: Stack
  readonly poller: Poller
  flush(): void
}

/** The same with a dialer of the caller's. */
export function openWith<Made extends Dialer>(
  t: ExecutionContext,
  more: Partial<PlaneOptions>,
  makeDialer: (poller: Poller, stack: Stack) => Made,
  makeRouter: (dialer: Made) => Router = dialer => new SingleRouter(dialer),
  datagramService?: DatagramService,
  makeServices: (host: ServiceHost) => Pick<PlaneParts, 'datagramService' | 'streamService'> = () => ({}),
) {
  const stack = new Stack({
    mtu: 1500,
    vnetHdr: false,
    uso: false,
    echo: false,
    maxFlows: 100,
    maxEndpoints: 100,
    keepAliveMs: 0,
  })
  const failures: unknown[] = []
  const lines: { level: string; message: string; fields: Record<string, unknown> }[] = []
  const line =
    (level: string) =>
    (message: string, fields: Record<string, unknown> = {}) =>
      void lines.push({ level, message, fields })
  const log = { debugEnabled: true, warn: line('warn'), error: line('error'), debug: line('debug') }
  const onFailure = (error: unknown) => void failures.push(error)
  const poller = new Poller(stack.memory, onFailure)
  const tun = new MemoryTun(stack.memory, { mtu: 1500, vnetHdr: false })
  const dialer = makeDialer(poller, stack)
  const services = makeServices({ stack, poller, flush: () => plane.flush() })
  const plane: DataPlane = new DataPlane(
    { stack, poller, tun, router: makeRouter(dialer), ...(datagramService && { datagramService }), ...services },
    { ...OPTIONS, ...more },
    log,
    onFailure,
  )
  poller.attend(plane)
  t.teardown(() => {
    plane.close(failures.length === 0)
    poller.close()
  })
  const send = (...packets: Uint8Array[]): Packet[] => {
    tun.toGateway.push(...packets)
    plane.beginTurn()
    plane.onReady()
    return take()
  }
  const take = (): Packet[] => tun.fromGateway.splice(0).map(raw => parse(raw, false))
  return { stack, poller, plane, tun, dialer, failures, lines, send, take }
}

export type Rig = Awaited<ReturnType<typeof open>>

export const segment = (flags: number, fields: Partial<TcpFields> = {}) =>
  tcp(PAIR, { fromPort: 40_000, toPort: 80, seq: 1000, flags, ...fields })

export async function untilSent(rig: Rig): Promise<Packet[]> {
  const out: Packet[] = []
  await until(() => out.push(...rig.take()) > 0, 'a packet')
  return out
}

/** A connection of a client whose SYN has the sequence number 1000; the stack's first byte has `ack`. */
export async function established(
  rig: Rig,
  early?: Uint8Array,
  options: readonly number[] = [],
): Promise<{ ack: number }> {
  rig.send(segment(Flag.syn, { options }))
  await rig.dialer.succeed(0, early)
  const [answer] = await untilSent(rig)
  const ack = answer!.tcp!.seq + 1
  rig.send(segment(Flag.ack, { seq: 1001, ack }))
  return { ack }
}
