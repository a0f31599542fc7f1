/** Mutated packets into a whole gateway. A minute: clients that never were leave connections half open, which go after 20 s. */
import { once } from 'node:events'
import test from 'ava'
import { Clients } from '../fuzz/clients.ts'
import { mutate, splice } from '../fuzz/mutations.ts'
import { Random } from '../fuzz/random.ts'
import { PAIRS, templates } from '../fuzz/templates.ts'
import {
  createWorld,
  DEST4,
  endsWithFile,
  type GatewayProcess,
  PROXY4,
  until,
  untilAtRest,
  type World,
} from '../integration/world.ts'

const WARM_UP = 20_000
const PACKETS = 200_000
/** What a process that has worked may keep, measured between two waves of the same. */
const GROWN_BYTES = 10 << 20

/**
 * Sends what comes on standard input, {length (u16, big-endian), packet}, through the device with the number `$ARGV[0]`: it is
 * put into the device's queue as it is (packet(7)). In bursts, so that the queue does not overflow.
 */
const SENDER = `
socket(my $s, 17, 3, 0) or die "socket: $!";
binmode STDIN;
my $sent = 0;
while (read(STDIN, my $head, 2) == 2) {
  my $length = unpack("n", $head);
  read(STDIN, my $packet, $length) == $length or die "short input";
  my $protocol = (ord($packet) >> 4) == 6 ? 0x86dd : 0x0800;
  my $to = pack("S n i S C C a8", 17, $protocol, $ARGV[0], 0, 0, 0, "");
  send($s, $packet, 0, $to);
  select(undef, undef, undef, 0.004) if ++$sent % 200 == 0;
}
`

let world: World
let gateway: GatewayProcess

test.before(async () => {
  world = await createWorld()
  await world.far.call('startSocks', { host: PROXY4 })
  await world.far.call('listen', 'echo', '0.0.0.0', 7001, 'echo')
  await world.far.call('listen', 'web', '0.0.0.0', 80, 'echo')
  gateway = await world.gateway({ args: ['--echo', 'reply', '--udp-idle-timeout', '1s'] })
})
endsWithFile(() => ({ world, gateway }))

function* packets(random: Random, count: number): Generator<Buffer> {
  const clients = new Clients(random, PAIRS)
  const recorded = templates()
  const waiting: Buffer[] = []
  for (let made = 0; made < count; made++) {
    const kind = random.below(8)
    if (kind === 0 && waiting.length === 0) waiting.push(...clients.fragments())
    const next = waiting.pop()
    if (next !== undefined) yield next
    else if (kind < 3) yield mutate(random.pick(recorded), random)
    else if (kind === 3) yield splice(random.pick(recorded), random.pick(recorded), random)
    else if (kind === 4) yield mutate(clients.datagram(), random)
    else if (kind === 5) yield mutate(clients.segment(), random)
    else yield clients.segment()
  }
}

/** `count` packets through the tun, and rest afterwards. */
async function wave(seed: number, count: number): Promise<void> {
  const before = await gateway.counter('packets_in')
  const [index] = /^[0-9]+/.exec(await world.client.mustRun('ip', ['-o', 'link', 'show', 'dev', gateway.tun]))!
  const sender = world.client.spawn('perl', ['-e', SENDER, index], { stdio: ['pipe', 'ignore', 'pipe'] })
  let said = ''
  sender.stderr!.on('data', chunk => {
    said += chunk
  })
  const input = sender.stdin!
  for (const packet of packets(new Random(seed), count)) {
    const record = Buffer.alloc(2 + packet.length)
    record.writeUInt16BE(packet.length)
    packet.copy(record, 2)
    if (!input.write(record)) await once(input, 'drain')
  }
  input.end()
  const [code] = await once(sender, 'exit')
  if (code !== 0) throw new Error(`the sender ended with ${code}: ${said}`)
  const least = before + 0.5 * count
  await until(async () => (await gateway.counter('packets_in')) >= least, 'the packets', 10_000)
  await untilAtRest(gateway, 60_000)
}

/** A new connection, and how long it took until its echo had come, ms. */
async function served(): Promise<number> {
  const start = performance.now()
  const { id, code } = await world.near.call('dial', DEST4, 7001)
  if (code !== '') throw new Error(code)
  await world.near.call('write', id, 'alive')
  await world.near.call('end', id)
  await until(async () => (await world.near.call('view', id)).ended, 'the echo')
  const { text } = await world.near.call('view', id)
  if (text !== 'alive') throw new Error(`the echo is ${text}`)
  return performance.now() - start
}

test.serial(
  `fuzz: ${PACKETS} mutated packets through the tun: served within a second, memory back, nothing left`,
  async t => {
    t.true((await served()) < 1_000)
    await wave(1, WARM_UP)
    const before = { rss: gateway.rss(), files: await gateway.files() }
    await wave(2, PACKETS)
    t.true((await served()) < 1_000)
    await untilAtRest(gateway)
    await until(
      () => gateway.rss() - before.rss < GROWN_BYTES,
      () => `memory within ${GROWN_BYTES} bytes of ${before.rss}, now ${gateway.rss()},`,
      30_000,
    )
    t.log(`${before.rss >> 20} → ${gateway.rss() >> 20} MiB; ${await gateway.counter('tcp_opened')} connections opened`)
    await until(async () => (await gateway.files()) <= before.files + 1, 'the descriptors')
    t.is(gateway.child.exitCode, null)
    t.is(await gateway.counter('stack_restarts'), 0)
  },
)
