/**
 * The network of the integration tests, with a client behind a bad line (test/helpers/impair.ts). The namespace that is the
 * client's elsewhere is a router here: it forwards into the device of tungate, or to the server as it is.
 *
 *     client ── bad0 … bad0 ── router: tg0 → gateway → veth0 ── veth0 server
 *     10.9.0.1                10.9.0.2                10.8.0.1  10.8.0.2
 *     fd09::1                 fd09::2
 */
import { ImpairedLine, type Impairments } from '../helpers/impair.ts'
import { createNamespace, type Namespace } from '../helpers/namespaces.ts'
import { createWorld, DEST4, type GatewayOptions, type GatewayProcess, PROXY4, type World } from './world.ts'

export class ImpairedWorld {
  readonly world: World
  readonly client: Namespace
  readonly line: ImpairedLine

  constructor(world: World, client: Namespace, line: ImpairedLine) {
    this.world = world
    this.client = client
    this.line = line
  }

  /** A gateway on the router; what the client sends to the destinations of world.ts goes through it. */
  async gateway(options: GatewayOptions = {}): Promise<GatewayProcess> {
    const gateway = await this.world.gateway({ ...options, routes: false })
    const routes = ['203.0.113.0/24', '2001:db8::/64'].map(to => `route add ${to} dev ${gateway.tun}`)
    await this.world.client.ip(routes)
    return gateway
  }

  async close(): Promise<void> {
    await this.line.close()
    await this.client.close()
    await this.world.close()
  }
}

export interface Transfer {
  /** Of the whole transfer, connecting included. */
  readonly megabytesPerSecond: number
  /** The SHA-256 is that of what was sent. */
  readonly exact: boolean
  readonly lostBytes: number
  readonly resentBytes: number
  readonly corrupted: number
  /** For who looks at a failure. */
  readonly text: string
}

/** One download or upload of the client by HTTP, over a line of these impairments. `host`: the destination. */
export async function transfer(
  impaired: ImpairedWorld,
  way: 'down' | 'up',
  bytes: number,
  impairments: Impairments,
  host = DEST4,
): Promise<Transfer> {
  const { client, world, line } = impaired
  const url = `http://${host}:8080/`
  const zeros = `head -c ${bytes} /dev/zero`
  const [moving, reference] =
    way === 'down'
      ? [`curl -sS -m 50 "$1bytes/${bytes}" | sha256sum`, `curl -sS "http://${DEST4}:8080/sha256/${bytes}"`]
      : [`${zeros} | curl -sS -m 50 -H Expect: -T - "$1upload"`, `${zeros} | sha256sum`]
  const expected = await world.server.mustRun('sh', ['-c', reference], { timeoutMs: 60_000 })
  await line.change(impairments)
  const start = performance.now()
  const { stdout, stderr } = await client.run('sh', ['-c', moving, 'sh', url], { timeoutMs: 60_000 })
  const seconds = (performance.now() - start) / 1000
  const counters = await line.counters()
  const { lostBytes, resentBytes, corrupted } = way === 'down' ? counters.back : counters.there
  return {
    megabytesPerSecond: bytes / 1e6 / seconds,
    exact: stdout.includes(expected.slice(0, 64)),
    lostBytes,
    resentBytes,
    corrupted,
    text: `${seconds.toFixed(2)} s, ${lostBytes} bytes lost, ${resentBytes} resent ${stdout.trim()} ${stderr.trim()}`,
  }
}

export async function createImpairedWorld(impairments: Impairments): Promise<ImpairedWorld> {
  const world = await createWorld()
  try {
    const client = await createNamespace({ within: world.client })
    const line = await ImpairedLine.start(
      { namespace: client, addresses: ['10.9.0.1/24', 'fd09::1/64'] },
      { namespace: world.client, addresses: ['10.9.0.2/24', 'fd09::2/64'] },
      impairments,
    )
    await client.routeAllInto('bad0')
    const forward = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']
    await world.client.mustRun('sysctl', ['-q', '-w', ...forward])
    await world.server.ip(['route add 10.9.0.0/24 via 10.8.0.1', 'route add fd09::/64 via fd08::1'])
    await world.far.call('startHttp', ['0.0.0.0', '::'], 8080)
    await world.far.call('startSocks', { host: PROXY4 })
    return new ImpairedWorld(world, client, line)
  } catch (error) {
    await world.close()
    throw error
  }
}
