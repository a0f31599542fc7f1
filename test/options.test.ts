import test from 'ava'
import { completeOptions } from '../src/config/complete-options.ts'
import { ConfigError } from '../src/errors.ts'
import { DEFAULTS, type GatewayInput } from '../src/options.ts'

const PROXY = { host: '192.0.2.1', port: 1080 }

/** What is made of PROXY. */
const UPSTREAMS = {
  rules: { written: [], place: 'rules', folder: process.cwd(), file: '' },
  proxy: 'proxy',
  upstreams: {
    proxy: {
      kind: 'chain',
      hops: [{ kind: 'socks5', server: PROXY, isPerSource: false, udp: 'auto' }],
      text: 'socks5://192.0.2.1:1080',
    },
    direct: { kind: 'chain', hops: [{ kind: 'direct', interface: '', mark: 0 }], text: 'direct://' },
    reject: { kind: 'chain', hops: [{ kind: 'reject' }], text: 'reject://' },
  },
} as const

test('options: the proxy alone is enough; all else is as DEFAULTS says, and frozen', t => {
  const options = completeOptions({ proxy: PROXY })
  t.deepEqual(options, { ...DEFAULTS, ...UPSTREAMS })
  t.true(Object.isFrozen(options) && Object.values(options).every(section => Object.isFrozen(section)))
})

test('options: what is given replaces its default, and nothing beside it', t => {
  const input: GatewayInput = {
    proxy: PROXY,
    tun: { name: 'tg7', fd: 5, offload: 'off' },
    tcp: { keepAliveMs: 0 },
    icmp: { echo: 'reply' },
  }
  t.deepEqual(completeOptions(input), {
    ...DEFAULTS,
    ...UPSTREAMS,
    tun: { ...DEFAULTS.tun, name: 'tg7', fd: 5, offload: 'off' },
    tcp: { ...DEFAULTS.tcp, keepAliveMs: 0 },
    icmp: { echo: 'reply' },
  })
})

test('options: undefined counts as not given, for a field and for a section', t => {
  const input = { proxy: PROXY, tun: { name: undefined, mtu: undefined, pid: undefined }, tcp: undefined }
  t.deepEqual(completeOptions(input as unknown as GatewayInput), { ...DEFAULTS, ...UPSTREAMS })
})

test('options: a log is no section', t => {
  const input: GatewayInput & { log: object } = { proxy: PROXY, log: {} }
  t.deepEqual(completeOptions(input), { ...DEFAULTS, ...UPSTREAMS })
})

for (const workers of ['auto', 1, 16] as const)
  test(`options: workers ${workers} is allowed`, t => {
    t.is(completeOptions({ proxy: PROXY, workers }).workers, workers)
  })

test('options: a descriptor is one queue, and enough for one worker', t => {
  t.is(completeOptions({ proxy: PROXY, tun: { fd: 5 }, workers: 1 }).tun.fd, 5)
})

for (const port of [1, 65_535])
  test(`options: proxy.port ${port} is allowed`, t => {
    t.like(completeOptions({ proxy: { ...PROXY, port } }).upstreams.proxy, { hops: [{ server: { port } }] })
  })

const refused: readonly [string, object, RegExp][] = [
  [
    'an unknown section',
    { proxy: PROXY, tcpp: {} },
    /^tcpp: .*allowed: tun, upstream, bind, tcp, udp, dns, limits, icmp, workers$/,
  ],
  ['an unknown field', { proxy: PROXY, tcp: { idleTimeout: 1 } }, /^tcp\.idleTimeout: found 1, .*idleTimeoutMs/],
  ['text for a number', { proxy: PROXY, tun: { mtu: '1500' } }, /^tun\.mtu: found 1500, allowed: a whole number/],
  ['a number for text', { proxy: PROXY, tun: { name: 3 } }, /^tun\.name: found 3, allowed: text$/],
  ['a negative number', { proxy: PROXY, limits: { flows: -1 } }, /^limits\.flows: found -1, /],
  ['a broken number', { proxy: PROXY, udp: { idleTimeoutMs: 0.5 } }, /^udp\.idleTimeoutMs: found 0\.5, /],
  ['no number', { proxy: PROXY, bind: { mark: Number.NaN } }, /^bind\.mark: found NaN, /],
  ['text for a descriptor', { proxy: PROXY, tun: { fd: '3' } }, /^tun\.fd: found 3, allowed: a whole number/],
  ['another word for offload', { proxy: PROXY, tun: { offload: 'maybe' } }, /^tun\.offload: found maybe, .*auto, off$/],
  ['another word for echo', { proxy: PROXY, icmp: { echo: 'auto' } }, /^icmp\.echo: found auto, allowed: off, reply$/],
  [
    'another word for the handshake',
    { proxy: PROXY, upstream: { handshake: 'fast' } },
    /^upstream\.handshake: found fast, allowed: auto, strict, pipelined$/,
  ],
  ['true for a word', { proxy: PROXY, tun: { offload: true } }, /^tun\.offload: found true, allowed: /],
  ['a user without a password', { proxy: { ...PROXY, username: 'u' } }, /^proxy\.password: found 0 bytes, /],
  ['an empty user', { proxy: { ...PROXY, username: '', password: 'p' } }, /^proxy\.username: found 0 bytes, /],
  [
    'a password of 256 bytes',
    { proxy: { ...PROXY, username: 'u', password: 'p'.repeat(256) } },
    /^proxy\.password: found 256 bytes, allowed: 1 to 255 bytes/,
  ],
  ['no worker', { proxy: PROXY, workers: 0 }, /^workers: found 0, allowed: auto, or 1 to 16$/],
  ['17 workers', { proxy: PROXY, workers: 17 }, /^workers: found 17, /],
  ['half a worker', { proxy: PROXY, workers: 1.5 }, /^workers: found 1\.5, /],
  ['workers as text', { proxy: PROXY, workers: '2' }, /^workers: found 2, allowed: auto/],
  ['workers as a section', { proxy: PROXY, workers: {} }, /^workers: /],
  ['two workers on a descriptor', { proxy: PROXY, workers: 2, tun: { fd: 5 } }, /^workers: found 2, .*tun\.fd/],
  ['no proxy', {}, /^proxy\.host: found undefined, /],
  ['a proxy without a host', { proxy: { host: '', port: 1080 } }, /^proxy\.host: /],
  ['port 0', { proxy: { ...PROXY, port: 0 } }, /^proxy\.port: found 0, allowed: 1 to 65535$/],
  ['port 65536', { proxy: { ...PROXY, port: 65_536 } }, /^proxy\.port: found 65536, /],
  ['a port as text', { proxy: { ...PROXY, port: '1080' } }, /^proxy\.port: found 1080, /],
]

for (const [what, input, message] of refused)
  test(`options: ${what} is a ConfigError that names the place`, t => {
    const error = t.throws(() => completeOptions(input as GatewayInput), { instanceOf: ConfigError, message })
    t.is(error?.code, 'CONFIG_VALUE')
  })
