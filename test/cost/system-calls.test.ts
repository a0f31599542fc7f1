import { readFileSync } from 'node:fs'
import test from 'ava'

const read = (relative: string) => readFileSync(new URL(`../../../${relative}`, import.meta.url), 'latin1')

/** Wrappers of system calls that move bytes, wait, or stand in the life of a descriptor. */
const CALLS =
  `accept accept4 bind close connect dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
  eventfd_read eventfd_write fcntl getpeername getsockname getsockopt ioctl listen madvise mmap munmap pipe pipe2 poll ppoll
  pread preadv preadv2 pselect pwrite pwritev pwritev2 read readv recv recvfrom recvmmsg recvmsg select send sendfile sendmmsg
  sendmsg sendto setsockopt shutdown socket socketpair splice syscall tee timerfd_create timerfd_settime vmsplice write
  writev`.split(/\s+/)
/** Once in the life of a gateway or a namespace. */
const ONCE = ['epoll_create1', 'socketpair']

test('system-calls: each call of the addon that has a cost is counted', t => {
  const counted = [...read('test/cost/system-calls.c').matchAll(/^WRAP(?:_VARIADIC)?\((?:\w+, )?(\w+),/gm)].map(
    match => match[1]!,
  )
  // of the runs of names in the file, the table of dynamic symbols is the one that has Node-API's
  const runs = read('native/tungate.node').match(/(?:[\w.]+\0){2,}/g) ?? []
  const names = new Set(runs.find(run => run.includes('napi_create_function'))?.split('\0'))
  const used = CALLS.filter(name => names.has(name))
  t.true(used.includes('readv') && used.includes('epoll_wait'))
  t.deepEqual(
    used.filter(name => !counted.includes(name) && !ONCE.includes(name)),
    [],
    'write them into test/cost/system-calls.c',
  )
})
