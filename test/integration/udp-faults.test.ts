/** What clients see of a UDP relay that misbehaves (RFC 1928 §7), and what is counted. */
import test, { type ExecutionContext } from 'ava'
import type { Fault } from '../helpers/socks-faults.ts'
import { FORGED_SOURCES, type RelayAnswer, type RelayPlace } from '../helpers/udp-relay.ts'
import { createWorld, DEST4, endsWithFile, type GatewayProcess, PROXY4, until, type World } from './world.ts'

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  const port = await world.far.call('startFaulty', PROXY4)
  const args = ['--tcp-connect-timeout', '600ms', '--upstream-pool', '0']
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${port}`, args })
})
endsWithFile(() => ({ world, gateway }))

/** Its associations and what they hold are gone when the test is over. */
async function client(t: { teardown(fn: () => unknown): void }): Promise<number> {
  const { id } = await world.near.call('openUdp', '0.0.0.0')
  t.teardown(() => world.near.call('closeUdp', id))
  return id
}

const FORGED = 'udp_forged'
const MALFORMED = 'udp_from_upstream_malformed'

const answers: readonly (readonly [RelayAnswer, string, number])[] = [
  ['echo', MALFORMED, 0],
  ['fragments', MALFORMED, 3],
  ['truncated', MALFORMED, 10],
  ['names', MALFORMED, 1],
  ['address types', MALFORMED, 4],
  ['strangers', MALFORMED, 0],
  // those of IPv6 are of no client of IPv4, and counted as such
  ['forged sources', FORGED, FORGED_SOURCES.filter(source => !source.includes(':')).length],
  [{ forged: '198.18.0.1' }, FORGED, 1],
]

for (const [answer, counter, dropped] of answers)
  test.serial(
    `udp-faults: ${JSON.stringify(answer)}: only the sound answer arrives, the others are counted`,
    async t => {
      await world.far.call('setFault', 'relay', answer)
      const before = await gateway.counter(counter)
      const id = await client(t)
      const sha256 = await world.near.call('sendUdp', id, 20, 7, DEST4)
      const got = async () => (await world.near.call('viewUdp', id)).got
      await until(async () => (await got()).length > 0, 'the answer')
      await until(async () => (await gateway.counter(counter)) === before + dropped, `${dropped} counted`)
      t.deepEqual(await got(), [{ from: DEST4, port: 7, bytes: 20, sha256 }])
    },
  )

const places: readonly RelayPlace[] = ['own', 'zeros', 'zeros of IPv6', 'loopback', 'name', { at: '203.0.113.9' }]
for (const place of places)
  test.serial(`udp-faults: the relay is at ${JSON.stringify(place)}: datagrams come back`, async t => {
    await world.client.ip(['route replace 203.0.113.9/32 via 10.8.0.2'])
    await world.far.call('setFault', 'relay', 'echo', place)
    const id = await client(t)
    await world.near.call('sendUdp', id, 20, 7, DEST4)
    await until(async () => (await world.near.call('viewUdp', id)).got.length === 1, 'the answer')
    t.pass()
  })

const refusals: readonly (readonly [Fault, RegExp])[] = [
  [['relay', 'echo', 'port 0'], /says that its relay is 10\.8\.0\.2:0, which cannot be/],
  [['relay', 'echo', 'multicast'], /says that its relay is 239\.1\.2\.3:\d+, which cannot be/],
  [['reply', 1], /answered 1 \(general failure\)/],
  [['accept and close'], /closed the connection before its choice of a method/],
  [['end in the reply', 'IPv4', 5], /closed the connection within its reply/],
  [['silent after the request'], /has not answered the request/],
]

async function refused(t: ExecutionContext, fault: Fault, reason: RegExp): Promise<void> {
  await world.far.call('setFault', ...fault)
  const id = await client(t)
  await world.near.call('connectUdp', id, DEST4, 7)
  await world.near.call('sendUdp', id, 20)
  await until(async () => (await world.near.call('viewUdp', id)).error !== '', 'an error')
  t.is((await world.near.call('viewUdp', id)).error, 'ECONNREFUSED')
  await until(() => gateway.logged('udp association ended').some(line => reason.test(String(line.reason))), 'the line')
  await until(async () => (await gateway.status()).flows.every(({ state }) => state !== 'associating'), 'no dial')
}

for (const [fault, reason] of refusals)
  test.serial(`udp-faults: ${fault.join(' ')}: ECONNREFUSED, and its reason`, t => refused(t, fault, reason))

test.serial('udp-faults: the control connection ends in mid-flow: the flow goes on, by another', async t => {
  await world.far.call('setFault', 'relay for a time', 1_200)
  const id = await client(t)
  const before = await gateway.counter('udp_associations')
  let sent = 0
  await until(
    async () => {
      await world.near.call('sendUdp', id, 20, 7, DEST4)
      sent++
      return (await gateway.counter('udp_associations')) >= before + 3
    },
    'the third association',
    6_000,
  )
  const { got, error } = await world.near.call('viewUdp', id)
  t.is(error, '')
  t.true(got.length > 0.9 * sent, `${got.length} of ${sent} came back`)
})

// after all others: it is not asked again for a while
test.serial('udp-faults: reply 7: ECONNREFUSED, and its reason', t =>
  refused(t, ['reply', 7], /answered 7 \(command not supported\)/),
)

test.serial('udp-faults: all this is a line a minute at most, and no descriptor is left of it', async t => {
  t.true(gateway.logged('datagrams cannot be relayed').length <= 1)
  await gateway.stop()
  const port = await world.far.call('startFaulty', PROXY4)
  await world.far.call('setFault', 'relay', 'echo')
  const args = ['--udp-idle-timeout', '1s', '--upstream-pool', '0']
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${port}`, args })
  const id = await client(t)
  await world.near.call('sendUdp', id, 20, 7, DEST4)
  await until(async () => (await world.near.call('viewUdp', id)).got.length === 1, 'the answer')
  t.is(await gateway.counter('open_descriptors'), 3)
  await until(async () => (await gateway.counter('open_descriptors')) === 1, 'the end of the association')
})
