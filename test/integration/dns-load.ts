/** dnsperf in the client namespace of a world: a gateway that answers names, behind a proxy without UDP. */
import test from 'ava'
import { type DnsResult, runDnsperf } from '../helpers/dnsperf.ts'
import { startDnsmasq } from '../helpers/servers/dnsmasq.ts'
import { isInstalled, startMicrosocks } from '../helpers/servers.ts'
import { createWorld, type GatewayProcess, PROXY4, skip, type World } from './world.ts'

const RESOLVER = '203.0.113.53'
const NAMES = 1_000
const questions = Array.from({ length: NAMES }, (_, at) => `name${at}.example A`)

/** Until the rate is reached: others may have the machine meanwhile. */
const ROUNDS = 5

interface DnsWorld {
  readonly world: World
  readonly gateway: GatewayProcess
  /** Asks for a thousand names, again and again, in whatever order they are answered. */
  load(seconds: number): Promise<DnsResult>
}

/** What is missing for it, '' for nothing. */
function lacksForDnsLoad(): string {
  const missing = ['dnsperf', 'dnsmasq', 'microsocks'].filter(program => !isInstalled(program))
  return missing.length === 0 ? '' : `${missing.join(', ')} not installed`
}

async function startDnsWorld(mode: 'auto' | 'map'): Promise<DnsWorld> {
  const world = await createWorld()
  try {
    const address = (at: number) => `192.0.2.${at & 255}`
    const names = Object.fromEntries(questions.map((question, at) => [question.split(' ')[0]!, [address(at)]]))
    await startDnsmasq(world.server, { hosts: [RESOLVER], names })
    await startMicrosocks(world.server, { host: PROXY4, port: 1081 })
    const gateway = await world.gateway({ proxy: `socks5://${PROXY4}:1081`, args: ['--dns-mode', mode] })
    const load = (seconds: number) =>
      runDnsperf({ place: world.client, server: RESOLVER, questions, seconds, clients: 4, outstanding: 200 })
    return { world, gateway, load }
  } catch (error) {
    await world.close()
    throw error
  }
}

/** A test of each mode: so many answers a second, in rounds of `seconds`, and none lost in any. */
export function testRates(bounds: Readonly<Record<'auto' | 'map', number>>, seconds: number): void {
  for (const mode of ['auto', 'map'] as const)
    test.serial(`dns-load: ${mode}: ${bounds[mode]} answers a second and more, nothing lost`, async t => {
      const reason = lacksForDnsLoad()
      if (reason !== '') return skip(t, reason)
      const { world, gateway, load } = await startDnsWorld(mode)
      t.teardown(() => world.close())
      t.teardown(() => gateway.stop())
      t.is((await load(1)).lost, 0, 'while the names are learned')
      const rates: number[] = []
      while (rates.length < ROUNDS && (rates.at(-1) ?? 0) < bounds[mode]) {
        const { sent, lost, codes, perSecond, text } = await load(seconds)
        rates.push(Math.round(perSecond))
        t.is(lost, 0, text)
        t.deepEqual(codes, { NOERROR: sent })
      }
      t.log(`${rates.join(', ')} a second`)
      t.true(rates.at(-1)! >= bounds[mode])
    })
}
