/**
 * A gateway, the kernel on its one side and the proxy on its other, in one thread: what happens is in the hands of the
 * script, one thing after the other. The device is a UDP socket, on which a read is a packet, as on a tun; so the
 * device's code and its system calls are the real ones, without the rights that a tun takes.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setImmediate } from 'node:timers'
import { type Destination, type IpEndpoint, parseAddress } from '../../src/endpoint.ts'
import { DataPlane } from '../../src/flow/data-plane.ts'
import { Poller } from '../../src/io/poller.ts'
import { Socket } from '../../src/io/socket.ts'
import { DEFAULTS } from '../../src/options.ts'
import { Stack } from '../../src/stack/stack.ts'
import { LinuxTun } from '../../src/tun/linux.ts'
import type { Dial, DialListener } from '../../src/upstream/dialer.ts'
import { ProxyDialer } from '../../src/upstream/proxy/proxy-dialer.ts'
import { VNET_BYTES } from '../helpers/packets.ts'
import { proxyParts, socks5State } from '../helpers/proxy-parts.ts'
import { SingleRouter } from '../helpers/single-router.ts'
import { Upstream } from './upstream.ts'

/** The port of destinations that are connected at once, to nobody: flows that lie idle without a descriptor each. */
export const IDLE_PORT = 2

/** Associations that may live. */
export const ASSOCIATIONS = 8

const MTU = 1_500
const FLOWS = 65_536
const DEADLINE_MS = 20_000
/** Turns of the event loop in which nothing has happened. */
const QUIET_TURNS = 3

const BINDING = { interface: '', mark: 0 }
const LOOPBACK = parseAddress('127.0.0.1')!
const quiet = () => undefined
const LOG = { debugEnabled: false, info: quiet, debug: quiet, warn: complain, error: complain }

function complain(message: string, fields?: object): void {
  if (message === 'near a limit: associations') return // it is at it, so that each new one takes the place of another
  throw new Error(`the gateway complains: ${message} ${JSON.stringify(fields ?? {})}`)
}

/** Neither learns nor prepares anything: each connection costs the same. */
const HANDSHAKE = 'pipelined'
const POOL = 0

class IdleDialer extends ProxyDialer {
  idle: Socket | undefined

  override connect(to: Destination, client: IpEndpoint, listener: DialListener): Dial {
    if (to.port !== IDLE_PORT) return super.connect(to, client, listener)
    this.idle ??= Socket.connectUdp(this.poller, { address: LOOPBACK, port: 9 }, BINDING, { onReady: quiet })
    listener.onConnected({ socket: this.idle, early: undefined, readable: false })
    return { cancel: quiet, expire: () => ({ failure: 'timeout', message: '' }) }
  }
}

export class World {
  /** Packets of the gateway, oldest first; the script takes them out. */
  readonly packets: Uint8Array[] = []
  readonly upstream: Upstream
  readonly #wire: UdpSocket
  readonly #poller: Poller
  readonly #plane: DataPlane
  readonly #device: Socket
  readonly #failures: unknown[] = []
  #happened = 0

  static async open(): Promise<World> {
    const wire = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
    wire.bind(0, '127.0.0.1')
    await once(wire, 'listening')
    const world = new World(wire, await Upstream.listen())
    await world.#connectWire()
    return world
  }

  private constructor(wire: UdpSocket, upstream: Upstream) {
    this.#wire = wire
    this.upstream = upstream
    const { limits, udp } = DEFAULTS
    const stack = new Stack({
      mtu: MTU,
      vnetHdr: true,
      uso: false,
      echo: false,
      maxFlows: FLOWS,
      maxEndpoints: 128,
      keepAliveMs: DEFAULTS.tcp.keepAliveMs,
    })
    const onFailure = (error: unknown) => void this.#failures.push(stack.explain(error))
    this.#poller = new Poller(stack.memory, onFailure)
    const { abi, bytes, words } = stack
    const arena = { bytes, words, scratch: abi.scratch, scratchBytes: abi.scratchBytes }
    const proxy = socks5State({ host: '127.0.0.1', port: upstream.port }, HANDSHAKE, LOG)
    const dialer = new IdleDialer(proxyParts(this.#poller, arena, proxy, POOL, LOG))
    const port = (wire.address() as AddressInfo).port
    this.#device = Socket.connectUdp(this.#poller, { address: LOOPBACK, port }, BINDING, { onReady: quiet })
    const info = { fd: this.#device.fd, name: 'wire', mtu: MTU, vnetHdr: true, uso: false, queues: 0, created: false }
    const tun = new LinuxTun(this.#poller.io, info)
    const options = {
      ...DEFAULTS,
      limits: { ...limits, flows: FLOWS, dialsPerSource: limits.dials },
      udp: { ...udp, maxAssociations: ASSOCIATIONS },
    }
    this.#plane = new DataPlane(
      { stack, poller: this.#poller, tun, router: new SingleRouter(dialer) },
      options,
      LOG,
      onFailure,
    )
    this.#poller.attend({
      beginTurn: () => this.#plane.beginTurn(),
      endTurn: () => {
        this.#happened++
        this.#plane.endTurn()
      },
    })
    words.set([0, 1, 0, abi.scratch, 1], abi.scratch / 4)
    tun.write(abi.scratch, abi.scratch + 12, 1)
  }

  /** The device has said one byte, so its port is known; it is watched from now on as a tun is. */
  async #connectWire(): Promise<void> {
    const [, from] = (await once(this.#wire, 'message')) as [Buffer, { port: number }]
    this.#wire.connect(from.port, '127.0.0.1')
    await once(this.#wire, 'connect')
    this.#poller.io.unwatch(this.#device.fd)
    this.#poller.add(this.#device.fd, this.#plane, false)
    this.#wire.on('message', packet => {
      this.#happened++
      this.packets.push(packet)
    })
  }

  /** Packets that the gateway finds in one batch, each with its virtio_net_hdr. */
  send(packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.#wire.send(packet)
  }

  /** Takes the next packet, without its virtio_net_hdr. */
  async take(): Promise<Buffer> {
    await this.until(() => this.packets.length > 0, 'a packet')
    return Buffer.from(this.packets.shift()!.subarray(VNET_BYTES))
  }

  async until(state: () => boolean, what: string): Promise<void> {
    for (const deadline = Date.now() + DEADLINE_MS; !state(); await turn()) {
      if (this.#failures.length > 0) throw this.#failures[0]
      if (Date.now() > deadline) throw new Error(`${what} did not come within ${DEADLINE_MS} ms`)
    }
  }

  /** Until nobody has anything more to do. */
  async settle(): Promise<void> {
    for (let quietTurns = 0; quietTurns < QUIET_TURNS; quietTurns++) {
      const before = this.#happened
      await turn()
      if (this.#happened !== before) quietTurns = -1
    }
    if (this.#failures.length > 0) throw this.#failures[0]
  }

  close(): void {
    this.#plane.close()
    this.#poller.close()
    this.#device.close()
    this.#wire.close()
    this.upstream.close()
  }
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
