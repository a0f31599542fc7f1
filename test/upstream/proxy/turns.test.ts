/** What the dialer does of its own accord, by its clock or by a promise, has a turn of the plane, and its exceptions are told. */
import test, { type ExecutionContext } from 'ava'
import { addon } from '../../../src/io/addon.ts'
import type { Stack } from '../../../src/stack/stack.ts'
import { ProxyDialer } from '../../../src/upstream/proxy/proxy-dialer.ts'
import { openWith, segment } from '../../flow/rig.ts'
import { startBadSocks } from '../../helpers/bad-socks.ts'
import { Flag } from '../../helpers/packets.ts'
import { proxyParts, socks5State } from '../../helpers/proxy-parts.ts'
import { until } from '../../helpers/sockets.ts'
import { CLIENT, GREETED, silent } from '../rig.ts'

const PASSWORD = { username: 'me', password: 's3cret-w0rd' }

/** A plane with a SOCKS5 dialer. */
function open(t: ExecutionContext, port: number, user: Partial<typeof PASSWORD> = {}) {
  const proxy = socks5State({ host: '127.0.0.1', port, ...user }, 'strict', silent)
  return openWith(t, {}, (poller, { bytes, words, abi }: Stack) => {
    const arena = { bytes, words, scratch: abi.scratch, scratchBytes: abi.scratchBytes }
    return new ProxyDialer(proxyParts(poller, arena, proxy, 0, silent))
  })
}

/** A proxy whose relay has a name. */
async function namedRelay(t: ExecutionContext, name: string) {
  const bad = await startBadSocks([
    ...GREETED,
    { send: [5, 0, 0, 3, name.length, ...Buffer.from(name), 1, 2] },
    'silence',
  ])
  t.teardown(() => bad.close())
  return bad
}

/** A client's dial is held back for the verdict on another's, and its time to wait is over when the proxy is gone. */
async function heldBack(t: ExecutionContext) {
  const bad = await startBadSocks(['greeting', { send: [5, 2] }, 'auth', 'silence'])
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, PASSWORD)
  rig.send(segment(Flag.syn, { fromPort: 1 }))
  rig.send(segment(Flag.syn, { fromPort: 2 }))
  await until(() => bad.received[0]?.length === 20, 'the password')
  bad.stopListening()
  return rig
}

test.serial('turns: a dial that fails by the clock is answered in that turn', async t => {
  const rig = await heldBack(t)
  const { egress } = rig.stack.abi
  let left = 0
  await until(() => {
    left = Math.max(left, rig.stack.words[egress / 4]!)
    return rig.dialer.counters().handshake_failures! > 0
  }, 'the failure of the second')
  t.is(left, 0, 'packets that nobody wrote')
  const [answer] = rig.take()
  t.is(answer!.tcp!.toPort, 2)
  t.is(answer!.tcp!.flags & Flag.rst, Flag.rst)
})

test.serial('turns: a stack that stops in a turn of the clock is told to the gateway, and ends no process', async t => {
  const rig = await heldBack(t)
  const trap = new Error('unreachable')
  rig.plane.refused = () => {
    throw trap
  }
  await until(() => rig.failures.length > 0, 'the failure')
  t.deepEqual(rig.failures, [trap])
})

for (const [what, name] of [
  ['is there', '127.0.0.1'],
  ['cannot be looked up', 'a..invalid'],
] as const)
  test.serial(
    `turns: a relay whose name ${what}: its clients hear of it in a turn, and an exception there is told`,
    async t => {
      const bad = await namedRelay(t, name)
      const rig = open(t, bad.port)
      const error = new Error('of the stack')
      const seen: string[] = []
      rig.poller.attend({ beginTurn: () => seen.push('begin'), endTurn: () => seen.push('end') })
      const heard = () => {
        seen.push('heard')
        throw error
      }
      const association = rig.dialer.associate(CLIENT, {
        onAssociated: heard,
        onAssociationFailed: heard,
        onDatagrams() {},
      })
      t.teardown(() => association.close())
      await until(() => seen.includes('heard'), 'an outcome')
      const at = seen.indexOf('heard')
      t.deepEqual(seen.slice(at - 1, at + 2), ['begin', 'heard', 'end'])
      t.deepEqual(rig.failures, [error])
    },
  )

test.after.always('turns: no descriptor is left', t => {
  t.is(addon.openDescriptors(), 0)
})
