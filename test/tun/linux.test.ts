import test from 'ava'
import { SystemError } from '../../src/errors.ts'
import type { Io } from '../../src/io/addon.ts'
import { LinuxTun } from '../../src/tun/linux.ts'

const INFO = { fd: 3, name: 'tg0', vnetHdr: false, uso: false, created: true, queues: 0, mtu: 1500 }

/** A device whose calls all end so. */
function ending(errno: number): LinuxTun {
  return new LinuxTun({ readPackets: () => -errno, writePackets: () => -errno } as unknown as Io, INFO)
}

for (const [name, errno] of Object.entries({ EINTR: 4, EIO: 5, EAGAIN: 11, ENOMEM: 12, ENOBUFS: 105 }))
  test(`tun: ${name} loses packets, and is no end`, t => {
    t.is(ending(errno).read(0, 1, 1), 0)
    t.is(ending(errno).write(0, 0, 1), 0)
  })

for (const [name, errno] of Object.entries({ EBADF: 9, ENODEV: 19, EBADFD: 77 }))
  test(`tun: ${name} is a device that was removed`, t => {
    for (const call of [() => ending(errno).read(0, 1, 1), () => ending(errno).write(0, 0, 1)]) {
      const error = t.throws(call, { instanceOf: SystemError, code: 'TUN_GONE' })
      t.is(error.errno, errno)
      t.true(error.message.includes(`on tg0: ${name}: the device was removed`))
    }
  })
