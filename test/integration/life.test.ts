import { once } from 'node:events'
import test from 'ava'
import { startSocksAndEchoes } from './destinations.ts'
import { createWorld, DEST4, type GatewayProcess, PROXY4, until, type World } from './world.ts'

let world: World
const gateways: GatewayProcess[] = []

test.before(async () => {
  world = await createWorld()
  await startSocksAndEchoes(world)
})
test.afterEach.always(async t => {
  if (!t.passed) t.log(gateways.map(gateway => gateway.text.slice(-2000)).join('\n---\n'))
  for (const gateway of gateways.splice(0)) await gateway.stop()
})
test.after.always(() => world?.close())

async function start(...args: Parameters<World['gateway']>): Promise<GatewayProcess> {
  const gateway = await world.gateway(...args)
  gateways.push(gateway)
  return gateway
}

async function echoes(t: import('ava').ExecutionContext, text = 'hello'): Promise<number> {
  const { id, code } = await world.near.call('dial', DEST4, 7001)
  t.is(code, '')
  await world.near.call('write', id, text)
  await until(async () => (await world.near.call('view', id)).text === text, 'the echo')
  return id
}

for (const signal of ['SIGTERM', 'SIGINT'] as const)
  test.serial(`life: ${signal}: exit 0 within 2 s, the device gone, the clients reset`, async t => {
    const gateway = await start()
    const { id: busy } = await world.near.call('dial', DEST4, 7001)
    await world.near.call('write', busy, 'x'.repeat(1024), 65_536)
    await echoes(t)
    const { code, ms } = await gateway.stop(signal)
    t.is(code, 0)
    t.true(ms < 2000, `${ms} ms`)
    t.false(await world.hasDevice('tg0'))
    t.is(gateway.logged('gateway stopped').length, 1)
    await until(async () => (await world.far.call('socksCounters')).liveConnections === 0, 'the end at the proxy')
  })

test.serial('life: kill -9 leaves nothing of a device that was made, and the next gateway starts', async t => {
  const gateway = await start()
  await echoes(t)
  await gateway.stop('SIGKILL')
  t.false(await world.hasDevice('tg0'))
  await until(async () => (await world.far.call('socksCounters')).liveConnections === 0, 'the end at the proxy')
  await start()
  await echoes(t)
})

test.serial('life: a persistent device is attached, keeps its addresses, and stays', async t => {
  await world.client.ip(['tuntap add dev tgp mode tun', 'address add 10.99.0.1/24 dev tgp', 'link set tgp mtu 1400 up'])
  t.teardown(() => world.client.run('ip', ['link', 'del', 'tgp']))
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const gateway = await start({ tun: 'tgp' })
    const line = await gateway.untilLog('gateway started')
    t.is(line.device, 'attached')
    t.is(line.mtu, 1400)
    await echoes(t)
    await gateway.stop(signal)
    t.true(await world.hasDevice('tgp'))
    const shown = await world.client.mustRun('ip', ['-o', 'address', 'show', 'dev', 'tgp'])
    t.true(shown.includes('10.99.0.1/24'))
    t.false(shown.includes('198.18.'), 'no address was added')
  }
})

test.serial('life: a persistent multi-queue device is attached as well', async t => {
  await world.client.ip([
    'tuntap add dev tgm mode tun multi_queue',
    'address add 10.98.0.1/24 dev tgm',
    'link set tgm up',
  ])
  t.teardown(() => world.client.run('ip', ['link', 'del', 'tgm']))
  await start({ tun: 'tgm' })
  await echoes(t)
})

test.serial('life: two gateways, each with a device and a proxy of its own', async t => {
  await world.far.call('listenAsProxy', 'direct', PROXY4, 1090)
  t.teardown(() => world.far.call('stop', 'direct'))
  const first = await start({ tun: 'tg0' })
  const args = ['--tun-address4', '198.51.100.1/24', '--tun-address6', 'fd99::1/64', '--upstream-pool', '0']
  const second = await start({ tun: 'tg1', proxy: `socks5://${PROXY4}:1090`, routes: false, args })
  await world.client.ip(['route add 203.0.113.128/25 dev tg1'])
  await echoes(t)
  await world.far.call('takeAccepted')
  const { id } = await world.near.call('dial', '203.0.113.200', 80)
  await world.near.call('write', id, 'by the second')
  await until(async () => (await world.far.call('acceptedCount')) === 1, 'the connection')
  const [server] = await world.far.call('takeAccepted')
  await until(async () => (await world.far.call('view', server!)).text === 'by the second', 'the words')
  t.is(await first.counter('tcp_opened'), 1)
  t.is(await second.counter('tcp_opened'), 1)
  await second.stop()
  await echoes(t, 'the first goes on')
})

test.serial('life: a second gateway on the same device is told that it is busy', async t => {
  await start()
  await t.throwsAsync(start({ routes: false }), { message: /EBUSY|busy/ })
  await echoes(t)
})

test.serial('life: the device deleted under it: an error that says so, exit 1', async t => {
  const gateway = await start()
  await echoes(t)
  const ended = once(gateway.child, 'exit')
  await world.client.ip(['link del tg0'])
  await ended
  t.is(gateway.child.exitCode, 1)
  t.regex(gateway.text, /tg0.*(removed|gone)/)
})

test.serial('life: a link that is down and up again: packets are lost, the gateway is not', async t => {
  const gateway = await start()
  const id = await echoes(t)
  await world.client.ip(['link set tg0 down', 'link set tg0 up'])
  await world.client.ip(['address replace fd74:756e::1/64 dev tg0 nodad'])
  await world.client.routeAllInto('tg0')
  await world.near.call('write', id, ' again')
  await until(async () => (await world.near.call('view', id)).text === 'hello again', 'the echo')
  await echoes(t)
  t.is(gateway.child.exitCode, null)
})

/** One echo request to `$ARGV[0]`, and a second for the answer. */
const PING = `
use Socket;
socket(my $s, AF_INET, SOCK_RAW, 1) or die "socket: $!";
my $body = pack("nn", $$ & 65535, 1) . "x" x 56;
my $sum = 0x0800;
$sum += $_ for unpack("n*", $body);
$sum = ($sum >> 16) + ($sum & 65535) for 1, 2;
send($s, pack("CCn", 8, 0, ~$sum & 65535) . $body, 0, sockaddr_in(0, inet_aton($ARGV[0]))) or die "send: $!";
vec(my $ready = "", fileno($s), 1) = 1;
select($ready, undef, undef, 1) or exit 3;
recv($s, my $got, 2000, 0);
exit(substr($got, 20, 1) eq "\\0" && substr($got, 24) eq $body ? 0 : 4);
`

test.serial('life: no ping is answered by default, and each when it is wanted', async t => {
  const ping = () => world.client.run('perl', ['-e', PING, DEST4])
  const silent = await start()
  const { code, stderr } = await ping()
  t.is(code, 3, stderr)
  t.true((await silent.counter('drop_icmp')) >= 1)
  await silent.stop()
  await start({ args: ['--echo', 'reply'] })
  t.is((await ping()).code, 0)
})

test.serial('life: --offload off runs in plain mode', async t => {
  const gateway = await start({ args: ['--offload', 'off'] })
  t.is((await gateway.untilLog('gateway started')).offload, false)
  await echoes(t)
})

test.serial('life: --mark reaches the sockets to the proxy', async t => {
  // the main table leads the proxy's address into the tun: only the mark finds the way
  await world.client.ip(['rule add fwmark 77 lookup 100', 'route add 10.8.0.0/24 dev veth0 table 100'])
  t.teardown(() => world.client.run('ip', ['rule', 'del', 'fwmark', '77']))
  const marked = await start({ args: ['--mark', '77'] })
  await world.client.ip(['route add 10.8.0.2/32 dev tg0'])
  await echoes(t)
  t.is(await marked.counter('to_upstream_itself'), 0)
})
