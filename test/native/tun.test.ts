import { spawnSync } from 'node:child_process'
import anyTest, { type ExecutionContext } from 'ava'
import { addon, READABLE, type TunInfo, type TunOpenOptions } from '../../src/io/addon.ts'
import { addonPath, canOpenTun, isRoot, type Namespace, openNamespace, openRig, owned, type Rig, until } from './rig.ts'

if (!canOpenTun()) console.warn('skipped: the tests of the tun device, for /dev/net/tun cannot be opened by this user')
const test = canOpenTun() ? anyTest.serial : anyTest.serial.skip

const VNET_HDR_BYTES = 12
const plain = { offload: false, multiQueue: false }

function open(t: ExecutionContext, options: Partial<TunOpenOptions>): TunInfo {
  const info = addon.tunOpen({ ...plain, ...options })
  owned(t, info.fd)
  return info
}

function configured(t: ExecutionContext, space: Namespace, options: Partial<TunOpenOptions>): TunInfo {
  const info = open(t, { name: 'tg0', pid: space.pid, ...options })
  addon.linkConfigure({ name: 'tg0', mtu: 1400, addresses: ['198.18.0.1/15'], up: true, pid: space.pid })
  return info
}

/** Reads until a packet that satisfies the predicate comes: the kernel sends IPv6 packets of its own on a new link. */
async function packet(rig: Rig, fd: number, wanted: (packet: Uint8Array) => boolean): Promise<Uint8Array> {
  let found: Uint8Array | undefined
  await until('the packet', () => {
    const count = rig.io.readPackets(fd, ...rig.slots(8))
    for (let at = 0; at < count; at++) if (wanted(rig.slot(at))) found = rig.slot(at).slice()
    return found !== undefined
  })
  return found!
}

/** Sum of 16-bit words, RFC 1071. */
function checksum(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** An ICMP echo request, 198.18.0.2 → 198.18.0.1, id 0x1234. */
function echoRequest(): Uint8Array {
  const icmp = Uint8Array.of(8, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3, 4)
  new DataView(icmp.buffer).setUint16(2, checksum(icmp))
  const header = Uint8Array.of(0x45, 0, 0, 32, 0, 1, 0, 0, 64, 1, 0, 0, 198, 18, 0, 2, 198, 18, 0, 1)
  new DataView(header.buffer).setUint16(10, checksum(header))
  return Uint8Array.of(...header, ...icmp)
}

function fails(t: ExecutionContext, options: Partial<TunOpenOptions>): Error & { code: string; syscall: string } {
  const before = addon.openDescriptors()
  const error = t.throws(() => addon.tunOpen({ ...plain, ...options })) as Error & { code: string; syscall: string }
  t.is(addon.openDescriptors(), before)
  return error
}

test('tun: a device that was not there is made, and goes with its descriptor', async t => {
  const space = await openNamespace(t)
  const before = addon.openDescriptors()
  const info = addon.tunOpen({ ...plain, name: 'tg0', pid: space.pid })
  t.teardown(() => addon.close(info.fd, false))
  t.like(info, { name: 'tg0', vnetHdr: false, created: true, mtu: 1500 })
  t.true(space.has('tg0'))
  t.is(addon.openDescriptors(), before + 1)
  addon.close(info.fd, false)
  addon.close(info.fd, false)
  t.is(addon.openDescriptors(), before)
  await until('the device gone', () => !space.has('tg0'))
})

test('tun: a device is made inside a user namespace', async t => {
  const space = await openNamespace(t, true)
  const info = configured(t, space, { offload: true })
  t.true(info.created)
  t.true(space.has('tg0'))
})

test('tun: opened without a pid, it is in the namespace of the caller', async t => {
  const space = await openNamespace(t)
  const script = `const a = require(${JSON.stringify(addonPath)})
    const before = a.linkExists('tg0')
    const info = a.tunOpen({ name: 'tg0', offload: true, multiQueue: false })
    a.linkConfigure({ name: 'tg0', mtu: 0, addresses: [], up: true, pid: process.pid })
    console.log(JSON.stringify({ ...info, before, after: a.linkExists('tg0'), long: a.linkExists('x'.repeat(40)) }))`
  const seen = JSON.parse(space.run(process.execPath, '-e', script))
  t.like(seen, { name: 'tg0', created: true, vnetHdr: true, mtu: 1500, before: false, after: true, long: false })
})

test('tun: a persistent device is attached to, and stays', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'keep0', 'mode', 'tun')
  space.run('ip', 'link', 'set', 'keep0', 'mtu', '1300')
  for (const offload of [true, false, true]) {
    const info = addon.tunOpen({ name: 'keep0', offload, multiQueue: false, pid: space.pid })
    addon.close(info.fd, false)
    t.like(info, { created: false, vnetHdr: offload, mtu: 1300 })
  }
  t.true(space.has('keep0'))
})

test('tun: a device made with multi_queue is attached to with and without the flag', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'mq0', 'mode', 'tun', 'multi_queue')
  t.false(open(t, { name: 'mq0', pid: space.pid }).created)
  const queues = [1, 2].map(() => open(t, { name: 'mq0', multiQueue: true, offload: true, pid: space.pid }))
  t.true(queues.every(queue => queue.vnetHdr && !queue.created))
  t.not(queues[0]!.fd, queues[1]!.fd)
})

test('tun: a device with a single queue refuses multiQueue, and says so', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'one0', 'mode', 'tun')
  const error = fails(t, { name: 'one0', multiQueue: true, pid: space.pid })
  t.like(error, { code: 'EINVAL', syscall: 'ioctl(TUNSETIFF)' })
  t.regex(error.message, /without `multi_queue`/)
})

test('tun: a UDP datagram is read into memory, plain', async t => {
  const space = await openNamespace(t)
  const info = configured(t, space, {})
  const rig = openRig(t)
  space.run('bash', '-c', 'printf hello > /dev/udp/198.18.0.2/53')
  const seen = await packet(rig, info.fd, bytes => bytes[0] === 0x45 && bytes[9] === 17)
  t.is(seen.length, 20 + 8 + 5)
  t.deepEqual([...seen.subarray(12, 20)], [198, 18, 0, 1, 198, 18, 0, 2])
  t.deepEqual([...seen.subarray(22, 26)], [0, 53, 0, 13])
  t.is(Buffer.from(seen.subarray(28)).toString(), 'hello')
  t.is(rig.io.readPackets(info.fd, ...rig.slots(8)), -11)
})

test('tun: with offload a 12-byte header stands before the packet, and the checksum is partial', async t => {
  const space = await openNamespace(t)
  const info = configured(t, space, { offload: true })
  t.true(info.vnetHdr)
  const rig = openRig(t)
  space.run('bash', '-c', 'printf hello > /dev/udp/198.18.0.2/53')
  const seen = await packet(rig, info.fd, bytes => bytes[VNET_HDR_BYTES] === 0x45 && bytes[VNET_HDR_BYTES + 9] === 17)
  t.is(seen.length, VNET_HDR_BYTES + 33)
  // struct virtio_net_hdr: flags NEEDS_CSUM, gso_type NONE, hdr_len, gso_size, csum_start 20, csum_offset 6
  t.deepEqual([seen[0], seen[1], seen[6], seen[8]], [1, 0, 20, 6])
})

test('tun: a plain attachment undoes the offload of the one before', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'tg0', 'mode', 'tun')
  addon.close(addon.tunOpen({ name: 'tg0', offload: true, multiQueue: false, pid: space.pid }).fd, false)
  const info = configured(t, space, {})
  const rig = openRig(t)
  space.run('bash', '-c', 'printf hell > /dev/udp/198.18.0.2/53')
  const seen = await packet(rig, info.fd, bytes => bytes[0] === 0x45 && bytes[9] === 17)
  // RFC 768: addresses, protocol and length, then the datagram; a right checksum makes the sum 0.
  t.is(checksum(Uint8Array.of(...seen.subarray(12, 20), 0, 17, 0, 12, ...seen.subarray(20))), 0)
})

for (const offload of [false, true])
  test(`tun: packets of several iovecs are written, and the kernel answers (offload ${offload})`, async t => {
    const space = await openNamespace(t)
    const info = configured(t, space, { offload })
    const rig = openRig(t)
    const skip = offload ? VNET_HDR_BYTES : 0
    const request = echoRequest()
    const parts = [new Uint8Array(skip), request.subarray(0, 20), request.subarray(20)].filter(part => part.length > 0)
    const refused = [Uint8Array.of(0x15)]
    t.is(rig.io.writePackets(info.fd, ...rig.messages(refused, parts)), 1)
    const reply = await packet(rig, info.fd, bytes => bytes[skip] === 0x45 && bytes[skip + 9] === 1)
    t.deepEqual([...reply.subarray(skip + 12, skip + 22)], [198, 18, 0, 1, 198, 18, 0, 2, 0, 0])
    t.deepEqual([...reply.subarray(skip + 24)], [0x12, 0x34, 0, 1, 1, 2, 3, 4])
  })

test('tun: readable is reported for as long as it lasts', async t => {
  const space = await openNamespace(t)
  const info = configured(t, space, {})
  const rig = openRig(t)
  t.is(rig.io.watch(info.fd, 77, false), 0)
  space.run('bash', '-c', 'printf hello > /dev/udp/198.18.0.2/53')
  await until('three reports of one packet', () => rig.events.filter(([token]) => token === 77).length >= 3)
  t.is(rig.seen(77), READABLE)
  t.is(rig.io.watch(info.fd, 77, false), -17)
  t.is(rig.io.unwatch(info.fd), 0)
  t.is(rig.io.unwatch(info.fd), -2)
})

test('tun: a device that is down or deleted gives an error for the whole batch', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'tg0', 'mode', 'tun')
  const info = configured(t, space, {})
  const rig = openRig(t)
  addon.linkConfigure({ name: 'tg0', mtu: 0, addresses: [], up: false, pid: space.pid })
  t.is(addon.errnoName(rig.io.writePackets(info.fd, ...rig.messages([echoRequest()]))), 'EIO')
  space.run('ip', 'link', 'delete', 'tg0')
  t.is(addon.errnoName(rig.io.writePackets(info.fd, ...rig.messages([echoRequest()]))), 'EBADFD')
  t.is(addon.errnoName(rig.io.readPackets(info.fd, ...rig.slots(1))), 'EBADFD')
})

test('tun: a descriptor given is duplicated, with the mode it has', async t => {
  const space = await openNamespace(t)
  for (const offload of [true, false]) {
    const first = addon.tunOpen({ name: 'tg0', offload, multiQueue: false, pid: space.pid })
    const second = open(t, { fd: first.fd, offload: !offload, pid: space.pid })
    t.like(second, { name: 'tg0', vnetHdr: offload, created: false, mtu: 1500 })
    addon.close(first.fd, false)
    t.true(space.has('tg0'))
    const outside = addon.tunOpen({ ...plain, fd: second.fd })
    t.is(outside.mtu, 0)
    addon.close(outside.fd, false)
    addon.close(second.fd, false)
    await until('the device gone', () => !space.has('tg0'))
  }
})

test('tun: a descriptor of another kind is refused with advice', t => {
  const error = fails(t, { fd: 1 })
  t.is(error.syscall, 'ioctl(TUNGETIFF)')
  t.regex(error.message, /must be one of \/dev\/net\/tun/)
  t.is(fails(t, { fd: 999999 }).code, 'EBADF')
})

test('tun: bad names are refused', t => {
  for (const name of ['', 'sixteen-letters-', 'a/b', 'a b', 'tun%d', '..', 'a:1', 'a\0b']) {
    const error = fails(t, { name })
    t.is(error.code, 'EINVAL', name)
    t.regex(error.message, /1 to 15 characters/)
  }
})

test('tun: busy, a tap of that name, no such process: code, syscall and advice', async t => {
  const space = await openNamespace(t)
  open(t, { name: 'tg0', pid: space.pid })
  const busy = fails(t, { name: 'tg0', offload: true, pid: space.pid })
  t.like(busy, { code: 'EBUSY', errno: 16, syscall: 'ioctl(TUNSETIFF)' })
  t.regex(busy.message, /another process/)
  space.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap')
  const tap = fails(t, { name: 'tap0', pid: space.pid })
  t.like(tap, { code: 'EINVAL', syscall: 'ioctl(TUNSETIFF)' })
  t.regex(tap.message, /no tun device/)
  t.is(fails(t, { name: 'tg1', pid: spawnSync('true').pid }).code, 'ESRCH')
})

const rootTest = isRoot && canOpenTun() ? anyTest.serial : anyTest.serial.skip
rootTest('tun: without CAP_NET_ADMIN a device cannot be made, only attached to when made for the user', async t => {
  const space = await openNamespace(t)
  space.run('ip', 'tuntap', 'add', 'mine0', 'mode', 'tun', 'user', '0')
  space.run('ip', 'tuntap', 'add', 'other0', 'mode', 'tun', 'user', '65534')
  const script = `const a = require(${JSON.stringify(addonPath)})
    for (const name of ['mine0', 'other0', 'new0'])
      try { console.log(a.tunOpen({ name, offload: true, multiQueue: false }).vnetHdr) }
      catch (error) { console.log(error.code, error.syscall, error.message) }`
  const drop = ['--bounding-set', '-net_admin', '--inh-caps', '-net_admin']
  const [mine, other, fresh] = space.run('setpriv', ...drop, process.execPath, '-e', script).split('\n')
  t.is(mine, 'true')
  t.regex(other!, /^EPERM ioctl\(TUNSETIFF\) .*belongs to another user/)
  t.regex(fresh!, /^EPERM ioctl\(TUNSETIFF\) .*Making a device needs CAP_NET_ADMIN/)
})
