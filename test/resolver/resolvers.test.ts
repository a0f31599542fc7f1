import test from 'ava'
import { parseAddress } from '../../src/endpoint.ts'
import type { ResolverAddress } from '../../src/options.ts'
import { MAX_RESOLVERS, Resolvers } from '../../src/resolver/resolvers.ts'

const DIRECT: ResolverAddress = { protocol: 'udp', host: '192.0.2.1', port: 53 }

/** None of its ways is ever asked. */
function open() {
  const nobody = (): never => {
    throw new Error('nobody is asked')
  }
  const parts = {
    memory: {} as never,
    poller: {} as never,
    dialer: { connect: nobody, associate: nobody },
    binding: { mark: 0, interface: '' },
    counters: { dns_foreign_answers: 0 },
    dialTls: nobody,
    isOurs: () => false,
  }
  const resolvers = new Resolvers(parts, [])
  return { resolvers, at: (address: string) => resolvers.at(parseAddress(address)!, 53) }
}

test('resolvers: what is cached by one is found by the same alone, after a new stack too', t => {
  const before = open()
  const after = open()
  const addresses = ['192.0.2.1', '192.0.2.2', '2001:db8::1']
  const prefixes = addresses.map(address => before.at(address).prefix)
  t.is(new Set(prefixes).size, 3)
  t.deepEqual(
    [...addresses].reverse().map(address => after.at(address).prefix),
    prefixes.reverse(),
  )
  t.not(before.resolvers.direct(DIRECT).prefix, before.at('192.0.2.1').prefix)
})

test('resolvers: one that gave way to others is the same when it comes again', t => {
  const { at } = open()
  const first = at('192.0.2.1')
  for (let count = 0; count < MAX_RESOLVERS; count++) at(`198.51.${count >> 8}.${count & 255}`)
  t.not(at('192.0.2.1'), first)
  t.is(at('192.0.2.1').prefix, first.prefix)
})
