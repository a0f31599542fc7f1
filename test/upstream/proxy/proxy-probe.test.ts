import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { type BadSocks, type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { open, openInput, outcomeOf, type Rig } from '../rig.ts'

const GREETING = [5, 1, 0]
const USER = { username: 'u', password: 'p' }

async function proxy(t: ExecutionContext, script: readonly Step[]): Promise<BadSocks> {
  const bad = await startBadSocks(script)
  t.teardown(() => bad.close())
  return bad
}

function probe({ dialer }: Rig) {
  const outcome = { calls: 0, error: undefined as DialError | undefined }
  const probing = dialer.probe!({
    onProbed() {
      outcome.calls++
    },
    onFailed(error) {
      outcome.calls++
      outcome.error = error
    },
  })
  return { outcome, probing }
}

async function probed(rig: Rig): Promise<DialError | undefined> {
  const { outcome } = probe(rig)
  if (outcome.calls > 0) throw new Error('told before probe() has returned')
  await until(() => outcome.calls > 0, 'what the probe has found')
  return outcome.error
}

test('probe: a proxy is greeted, found to be up, and asked for nothing', async t => {
  const said: string[] = []
  const log = { info: (line: string) => said.push(line), warn: (line: string) => said.push(line) }
  const bad = await proxy(t, ['greeting', { send: [5, 0] }, 'silence'])
  const rig = open(t, bad.port, {}, log as never)
  t.is(await probed(rig), undefined)
  await until(() => bad.left() === 1, 'the end of its connection')
  t.deepEqual([...bad.received[0]!], GREETING)
  t.deepEqual(said, ['upstream up'])
})

const FAULTS: [title: string, script: readonly Step[], failure: string, message: RegExp][] = [
  ['closes the connection', ['greeting', 'end'], 'upstream-down', /closed|ended/],
  [
    'speaks another protocol',
    ['greeting', { send: Buffer.from('HTTP/1.1 400 Bad Request\r\n') }],
    'upstream-down',
    /SOCKS5|HTTP/,
  ],
  ['wants a password that there is not', ['greeting', { send: [5, 255] }], 'authentication', /./],
]

for (const [title, script, failure, message] of FAULTS)
  test(`probe: a proxy that ${title} is not up`, async t => {
    const bad = await proxy(t, script)
    const error = await probed(open(t, bad.port))
    t.is(error?.failure, failure as DialError['failure'])
    t.regex(error!.message, message)
  })

test('probe: a port on which nobody listens is told as such, and so is a connection alone', async t => {
  const bad = await proxy(t, [])
  bad.stopListening()
  for (const user of [{}, USER]) {
    const error = await probed(open(t, bad.port, user))
    t.is(error?.failure, 'upstream-down')
    t.regex(error!.message, /ECONNREFUSED/)
  }
})

test('probe: a password is not shown before the proxy has taken it from a dial', async t => {
  const bad = await proxy(t, [
    'greeting',
    { send: [5, 2] },
    'auth',
    { send: [1, 0] },
    'request',
    { send: [5, 5, 0, 1, 0, 0, 0, 0, 0, 0] },
  ])
  const rig = open(t, bad.port, USER)
  t.is(await probed(rig), undefined)
  await until(() => bad.left() === 1, 'the end of its connection')
  t.is(bad.received[0]!.length, 0, 'that it stands was enough')
  t.is((await outcomeOf(t, rig)).error?.failure, 'refused')
  t.is(await probed(rig), undefined)
  await until(() => bad.left() >= 2 && bad.received.length === 3, 'the end of its connection')
  t.true(Buffer.from(bad.received[2]!).includes('\x01u\x01p'))
})

for (const proxy of ['socks5://', 'socks5://u:p@', 'socks4://', 'http://', 'http://u:p@'])
  test(`probe: a connection by another's hands that stands already is found to do so: ${proxy}`, async t => {
    const bad = await startBadSocks(proxy === 'socks5://' ? ['greeting', { send: [5, 0] }, 'silence'] : ['silence'])
    t.teardown(() => bad.close())
    const rig = openInput(t, { proxy: ['direct://', `${proxy}127.0.0.1:${bad.port}`] })
    t.is(await probed(rig), undefined)
    await until(() => bad.left() === 1, 'the end of its connection')
  })

test.serial(
  'probe: one that is called off, or closed with its dialer, leaves nothing open and is not heard of',
  async t => {
    const bad = await proxy(t, ['greeting', 'silence'])
    const rig = open(t, bad.port)
    const before = addon.openDescriptors()
    const { outcome, probing } = probe(rig)
    await until(() => bad.received.length === 1 && bad.received[0]!.length === 3, 'the greeting')
    probing.cancel()
    probing.cancel()
    const other = probe(rig)
    await until(() => bad.received.length === 2, 'the second')
    rig.dialer.close()
    await until(() => bad.left() === 2, 'the end of both')
    t.is(outcome.calls + other.outcome.calls, 0)
    t.is(addon.openDescriptors(), before)
  },
)
