/** What clients, and who reads the log, see of a proxy that misbehaves. The faults are those of helpers/socks-faults.ts. */
import { createHash } from 'node:crypto'
import test from 'ava'
import { type Fault, filler } from '../helpers/socks-faults.ts'
import {
  createWorld,
  DEST4,
  endsWithFile,
  type GatewayProcess,
  PROXY4,
  until,
  untilAtRest,
  type World,
} from './world.ts'

const USER = 'me:s3cret-w0rd@'
/** Without a pool, whose connections would have the fault of a moment ago. */
const TIMEOUT = ['--tcp-connect-timeout', '600ms', '--upstream-pool', '0']

let world: World
let gateway: GatewayProcess
let port: number

test.before(async () => {
  world = await createWorld()
  port = await world.far.call('startFaulty', PROXY4)
  gateway = await world.gateway({ proxy: `socks5://${PROXY4}:${port}`, args: TIMEOUT })
})
endsWithFile(() => ({ world, gateway }))

async function restart(user = '', args: readonly string[] = TIMEOUT, workers = 1): Promise<void> {
  await gateway.stop()
  gateway = await world.gateway({ proxy: `socks5://${user}${PROXY4}:${port}`, args, workers })
}

/** What is told without being asked for. */
const told = () => gateway.lines().filter(({ level, message }) => level === 'warn' || message.startsWith('upstream'))

async function lastReason(count: number): Promise<string> {
  await until(() => gateway.logged('tcp flow ended').length >= count, 'the line of the flow')
  return String(gateway.logged('tcp flow ended').at(-1)!.reason)
}

const REFUSED = 'ECONNREFUSED'
const SILENCE = 'STILL_CONNECTING'

const faults: readonly (readonly [Fault, string, RegExp, string?])[] = [
  [['silent'], SILENCE, /took too long: the proxy accepted the connection and says nothing/],
  [['silent after the greeting'], SILENCE, /took too long: the proxy accepted the connection and says nothing/],
  [['silent after the password'], SILENCE, /too long: the proxy does not say whether it accepts user/, USER],
  [['silent after the request'], SILENCE, /took too long: the proxy has not answered the request/],
  [['drip', 200], SILENCE, /took too long: the proxy has not answered the request/],
  [['accept and close'], REFUSED, /closed the connection before its choice of a method/],
  [['accept and reset'], REFUSED, /broke off the connection \(ECONNRESET\) before its choice of a method/],
  [['end in the method', 1], REFUSED, /closed the connection within its choice of a method/],
  [['end in the verdict', 1], REFUSED, /closed the connection within its answer to user name and password/, USER],
  [['end in the reply', 'IPv4', 0], REFUSED, /closed the connection before its reply/],
  [['end in the reply', 'name', 11], REFUSED, /closed the connection within its reply/],
  [['reset before the reply'], REFUSED, /broke off the connection \(ECONNRESET\) before its reply/],
  [['http'], REFUSED, /does not speak SOCKS5 .*: this is an HTTP proxy, or a web server\?/],
  [['version of the method', 4], REFUSED, /does not speak SOCKS5/],
  [['version of the reply', 4], REFUSED, /answer is malformed/],
  [['method', 255], REFUSED, /wants a user name and a password: none is configured/],
  [['method', 128], REFUSED, /chose a method that was not offered to it \(128\)/],
  [['reply', 0x80], REFUSED, /answered 128 \(an unknown reason\)/],
]

for (const [fault, errno, reason, user] of faults)
  test.serial(`upstream-faults: ${fault.join(' ')}: ${errno}, its own reason, no descriptor left`, async t => {
    await world.far.call('setFault', ...fault)
    if (user !== undefined) await restart(user)
    const before = gateway.logged('tcp flow ended').length
    const { code, ms } = await world.near.call('dial', DEST4, 80, 900)
    t.is(code, errno)
    t.true(errno === SILENCE || ms < 500, `${ms} ms`)
    t.regex(await lastReason(before + 1), reason)
    t.false(gateway.text.includes('s3cret'))
    await untilAtRest(gateway)
    if (user !== undefined) await restart()
  })

test.serial('upstream-faults: what is told of them is one line each, and says what to do', async t => {
  await restart()
  for (const [fault] of faults.filter(([, errno, , user]) => errno === REFUSED && user === undefined)) {
    await world.far.call('setFault', ...fault)
    for (let count = 0; count < 5; count++) await world.near.call('dial', DEST4, 80)
  }
  const messages = told().map(({ message }) => message)
  t.is(messages[0], 'upstream down')
  t.true(messages.length <= 5, messages.join('\n'))
  for (const line of told()) t.true(line.message === 'upstream up' || String(line.reason).length > 20, line.message)
})

/**
 * A client that says how a stream ended as the kernel says it. Node's own sockets call a reset that comes together with the
 * last bytes an end (libuv takes EPOLLHUP behind a short read for end of file), and a connect() that is waited for says what came
 * before its caller was woken, and leaves the bytes.
 */
const READER = `
  use Socket; use Fcntl; use Errno;
  socket(my $s, PF_INET, SOCK_STREAM, 0);
  fcntl($s, F_SETFL, O_NONBLOCK);
  connect($s, pack_sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) or $!{EINPROGRESS} or die "connect: $!";
  vec(my $stands = "", fileno($s), 1) = 1;
  select(undef, $stands, undef, 10) or die "connect: no answer";
  fcntl($s, F_SETFL, 0);
  my ($all, $got) = ("", 0);
  $all .= $part while $got = sysread($s, $part, 65536);
  print defined $got ? "END" : $!{ECONNRESET} ? "ECONNRESET" : "$!", " ", unpack("H*", $all);`

async function readAll(): Promise<{ end: string; bytes: Buffer }> {
  const said = await world.client.mustRun('perl', ['-e', READER, DEST4, '80'])
  const [end, hex] = said.split(' ')
  return { end: end!, bytes: Buffer.from(hex!, 'hex') }
}

for (const [last, expected] of [
  ['end', 'END'],
  ['reset', 'ECONNRESET'],
] as const)
  test.serial(
    `upstream-faults: 3,000 bytes glued to the reply, then ${last}: ${expected} behind all of them`,
    async t => {
      await world.far.call('setFault', 'glued', 3_000, last)
      const { end, bytes } = await readAll()
      t.is(end, expected)
      t.true(bytes.equals(filler(3_000)))
      await untilAtRest(gateway)
    },
  )

for (const last of ['silence', 'end'] as const)
  test.serial(
    `upstream-faults: 3,000 bytes glued to the reply, then ${last}: they reach the client, in order`,
    async t => {
      await world.far.call('setFault', 'glued', 3_000, last)
      const { id, code } = await world.near.call('dial', DEST4, 80)
      t.is(code, '')
      const view = () => world.near.call('view', id)
      await until(async () => (await view()).bytes === 3_000, 'the bytes')
      t.is((await view()).sha256, createHash('sha256').update(filler(3_000)).digest('hex'))
      if (last === 'end') await until(async () => (await view()).ended, 'the end')
      t.is((await view()).ended, last === 'end')
      await world.near.call('reset', id)
      await untilAtRest(gateway)
    },
  )

test.serial('upstream-faults: RST in mid-transfer is a reset for the client, never an end', async t => {
  const before = gateway.logged('tcp flow ended').length
  await world.far.call('setFault', 'reset in mid-transfer', 500_000)
  const { end, bytes } = await readAll()
  t.is(end, 'ECONNRESET')
  t.true(bytes.length <= 500_000)
  t.true(bytes.equals(filler(500_000).subarray(0, bytes.length)))
  t.regex(await lastReason(before + 1), /upstream's connection broke: ECONNRESET/)
  await untilAtRest(gateway)
})

for (const fault of [['reply', 5], ['accept and close'], ['accept and reset']] as const satisfies Fault[])
  test.serial(`upstream-faults: a thousand times ${fault.join(' ')}: all refused, three lines at most`, async t => {
    await restart('', [])
    await world.far.call('setFault', ...fault)
    t.deepEqual(await world.near.call('outcomes', DEST4, 80, 1_000, 50), { ECONNREFUSED: 1_000 })
    t.true(told().length <= 3, JSON.stringify(told()))
    t.is(await gateway.counter('handshake_failures'), 1_000)
    await untilAtRest(gateway)
    await world.far.call('setFault', 'sound')
    // what was made in advance has the fault of a moment ago
    await world.near.call('dialUntil', DEST4, 80, 3_000)
  })

for (const workers of [1, 2])
  test.serial(`upstream-faults: a wrong password: refused at once, and shown once (workers: ${workers})`, async t => {
    await world.far.call('setFault', 'password refused')
    await restart(USER, ['--tcp-connect-timeout', '5s'], workers)
    const before = await world.far.call('faultyConnections')
    const first = Date.now()
    t.deepEqual(await world.near.call('outcomes', DEST4, 80, 200, 20), { ECONNREFUSED: 200 })
    const { had } = await world.far.call('faultyConnections')
    t.true(had - before.had <= 1 + Math.log2(1 + (Date.now() - first) / 1_000), `${had - before.had} connections`)
    const lines = told()
    t.deepEqual(
      lines.map(({ message }) => message),
      ['upstream down'],
    )
    t.regex(String(lines[0]!.reason), /refused the user name or the password: check both in the configuration/)
    t.false(gateway.text.includes('s3cret'))
    await world.far.call('setFault', 'sound with a password')
    await until(async () => (await world.near.call('dial', DEST4, 80)).code === '', 'the first that is served', 8_000)
    await until(() => told().at(-1)!.message === 'upstream up', 'the line of it')
  })

test.serial('upstream-faults: a stack that stopped has not forgotten the address of the proxy', async t => {
  await world.client.bindFile('/etc/hosts', `${PROXY4} proxy.test\n`)
  await world.far.call('setFault', 'silent after the request')
  await gateway.stop()
  gateway = await world.gateway({ proxy: `socks5://proxy.test:${port}`, args: ['--tcp-connect-timeout', '2s'] })
  const { spoilHeldSyn } = await import('../helpers/stack-memory.ts')
  const dialed = world.near.call('dial', DEST4, 80, 1_500)
  let clientPort = 0
  await until(async () => {
    clientPort = Number((await gateway.status()).flows[0]?.client.split(':').at(-1) ?? 0)
    return clientPort > 0
  }, 'the dial')
  t.true(spoilHeldSyn(gateway.child.pid!, clientPort))
  // nobody could look the name up any more
  await world.client.bindFile('/etc/hosts', '127.0.0.1 localhost\n')
  await until(() => gateway.logged('the stack stopped').length > 0, 'the end of the stack')
  await dialed
  await world.far.call('setFault', 'sound')
  t.is((await world.near.call('dial', DEST4, 80)).code, '')
  t.is(gateway.logged('cannot be looked up').length, 0)
})
