import { spawnSync } from 'node:child_process'
import anyTest, { type ExecutionContext } from 'ava'
import { addon } from '../../src/io/addon.ts'
import { canOpenTun, type Namespace, openNamespace, owned } from './rig.ts'

if (!canOpenTun()) console.warn('skipped: the tests of links, for /dev/net/tun cannot be opened by this user')
const test = canOpenTun() ? anyTest.serial : anyTest.serial.skip

interface Link {
  flags: string[]
  mtu: number
  txqlen: number
  addr_info: { local: string; prefixlen: number; scope: string; tentative?: boolean; nodad?: boolean }[]
}

function look(space: Namespace): Link {
  return (JSON.parse(space.run('ip', '-j', 'addr', 'show', 'tg0')) as Link[])[0]!
}

function globals(link: Link): string[] {
  return link.addr_info.filter(info => info.scope === 'global').map(info => `${info.local}/${info.prefixlen}`)
}

async function device(t: ExecutionContext, user?: boolean): Promise<Namespace> {
  const space = await openNamespace(t, user)
  owned(t, addon.tunOpen({ name: 'tg0', offload: false, multiQueue: false, pid: space.pid }).fd)
  return space
}

for (const user of [undefined, true])
  test(`link: addresses, MTU and state are set, also twice (own user namespace: ${user === true})`, async t => {
    const space = await device(t, user)
    const addresses = ['198.18.0.1/15', '10.9.8.7', 'fd00::1/64', 'fd01::5']
    for (const mtu of [1380, 9000]) addon.linkConfigure({ name: 'tg0', mtu, addresses, up: true, pid: space.pid })
    const link = look(space)
    t.is(link.mtu, 9000)
    t.true(link.flags.includes('UP'))
    t.deepEqual(globals(link).sort(), ['10.9.8.7/32', '198.18.0.1/15', 'fd00::1/64', 'fd01::5/128'])
    t.true(link.addr_info.filter(info => info.local.startsWith('fd')).every(info => info.nodad && !info.tentative))
  })

test('link: the queue to the reader has the length that was asked for, or its own', async t => {
  const space = await device(t)
  const configure = (more: { queuePackets?: number }) =>
    addon.linkConfigure({ name: 'tg0', mtu: 0, addresses: [], up: true, pid: space.pid, ...more })
  configure({})
  t.is(look(space).txqlen, 500)
  configure({ queuePackets: 1234 })
  t.is(look(space).txqlen, 1234)
})

test('link: MTU 0 leaves the MTU, and up: false takes the link down', async t => {
  const space = await device(t)
  addon.linkConfigure({ name: 'tg0', mtu: 1400, addresses: [], up: true, pid: space.pid })
  addon.linkConfigure({ name: 'tg0', mtu: 0, addresses: [], up: false, pid: space.pid })
  const link = look(space)
  t.is(link.mtu, 1400)
  t.false(link.flags.includes('UP'))
})

test('link: what the kernel refuses is thrown with code, syscall and advice', async t => {
  const space = await device(t)
  const set = (mtu: number, addresses: string[], name = 'tg0', pid = space.pid) =>
    t.throws(() => addon.linkConfigure({ name, mtu, addresses, up: true, pid }))
  t.like(set(0, [], 'none0'), { code: 'ENODEV', syscall: 'ioctl(SIOCGIFINDEX)' })
  t.like(set(20, []), { code: 'EINVAL', syscall: 'rtnetlink(RTM_NEWLINK)' })
  t.regex(set(20, [])!.message, /MTU of 68 to 65535/)
  const narrow = set(1000, ['fd00::1/64'])
  t.is((narrow as Error & { syscall: string }).syscall, 'rtnetlink(RTM_NEWADDR)')
  t.regex(narrow!.message, /under 1280 bytes/)
  t.like(set(0, [], 'tg0', spawnSync('true').pid), { code: 'ESRCH' })
})

test('link: text that is no address is refused before anything is changed', async t => {
  const space = await device(t)
  for (const text of ['', '1.2.3', '1.2.3.4/33', '1.2.3.4/', '1.2.3.4/+8', 'fd00::1/129', 'fd00::1%lo', '1.2.3.4/8 ']) {
    const configure = () => addon.linkConfigure({ name: 'tg0', mtu: 1300, addresses: [text], up: true, pid: space.pid })
    t.like(t.throws(configure, undefined, text), { code: 'EINVAL', syscall: 'linkConfigure' })
  }
  t.is(look(space).mtu, 1500)
})
