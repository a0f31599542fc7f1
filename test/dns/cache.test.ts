import test from 'ava'
import type { Answer } from 'dns-packet'
import { AnswerCache, CACHE_DEFAULTS, ENTRY_OVERHEAD_BYTES } from '../../src/dns/cache.ts'
import { accepted, decoded, makeAnswer, makeQuery, opt, parsed, type QueryChoices, room } from './messages.ts'

const out = room()
const HOUR = 3_600_000
const a = (ttl: number, name = 'a.example', data = '192.0.2.1'): Answer => ({ name, type: 'A', ttl, data })
const cname = (ttl: number): Answer => ({ name: 'a.example', type: 'CNAME', ttl, data: 'b.example' })
const soa = (ttl: number, minimum: number): Answer => ({
  name: 'example',
  type: 'SOA',
  ttl,
  data: { mname: 'ns.example', rname: 'root.example', serial: 1, refresh: 2, retry: 3, expire: 4, minimum },
})

interface Said {
  readonly answers?: Answer[]
  readonly authorities?: Answer[]
  readonly additionals?: Answer[]
  readonly rcode?: number
}

/** A cache at a time of its own, asked by names. */
function makeCache(
  limits: Partial<typeof CACHE_DEFAULTS> | { entries?: number; bytes?: number; staleSeconds?: number } = {},
) {
  const cache = new AnswerCache({ ...CACHE_DEFAULTS, ...limits })
  const world = {
    cache,
    nowMs: 1_000_000,
    keep(said: Said, name = 'a.example', choices: QueryChoices = {}) {
      const message = makeQuery(name, choices)
      const query = parsed(message)
      const bytes = makeAnswer(message, said)
      return cache.keep(query, bytes, accepted(message, query, bytes), world.nowMs)
    },
    fails: (name = 'a.example') => cache.failed(parsed(makeQuery(name)), world.nowMs),
    /** Freshness and what is answered. */
    ask(name = 'a.example', choices: QueryChoices = {}) {
      const message = makeQuery(name, { id: 42, ...choices })
      const query = parsed(message)
      const kept = cache.find(query, world.nowMs)
      if (kept === undefined) return undefined
      const answer = decoded(out, cache.write(out, message, query, kept, world.nowMs, 1_232))
      const ttls = [...(answer.answers ?? []), ...(answer.authorities ?? [])].map(each =>
        'ttl' in each ? each.ttl : -1,
      )
      return { freshness: cache.freshness(kept, world.nowMs), rcode: answer.rcode, ttls }
    },
  }
  return world
}

test('cache: an answer holds as long as the smallest TTL in it', t => {
  const world = makeCache({ staleSeconds: 0 })
  t.true(world.keep({ answers: [cname(300), a(60, 'b.example')], additionals: [a(120, 'c.example')] }))
  t.deepEqual(world.ask(), { freshness: 'fresh', rcode: 'NOERROR', ttls: [300, 60] })
  world.nowMs += 59_000
  t.deepEqual(world.ask(), { freshness: 'fresh', rcode: 'NOERROR', ttls: [241, 1] })
  world.nowMs += 1_000
  t.is(world.ask(), undefined)
  t.is(world.cache.entries, 0)
  t.is(world.cache.bytes, 0)
})

test('cache: OPT is no record with a TTL, and is not kept', t => {
  const world = makeCache()
  t.true(world.keep({ answers: [a(60)], additionals: [opt(1_232)] }))
  t.deepEqual(world.ask()?.ttls, [60])
})

test('cache: a TTL is a day at most, and 0 where its top bit is set', t => {
  const world = makeCache({ staleSeconds: 0 })
  t.true(world.keep({ answers: [a(200_000)] }))
  t.deepEqual(world.ask()?.ttls, [86_400])
  world.nowMs += 24 * HOUR - 1_000
  t.deepEqual(world.ask()?.ttls, [1])
  world.nowMs += 1_000
  t.is(world.ask(), undefined)
  t.false(world.keep({ answers: [a(0x8000_0001)] }))
  t.false(world.keep({ answers: [a(0)] }))
})

test('cache: NXDOMAIN and no such type hold as the SOA says, RFC 2308 section 5', t => {
  for (const [ttl, minimum, holds] of [
    [300, 60, 60],
    [60, 300, 60],
    [86_400, 86_400, 10_800],
  ] as const)
    for (const rcode of [3, 0]) {
      const world = makeCache({ staleSeconds: 0 })
      t.true(world.keep({ authorities: [soa(ttl, minimum)], rcode }))
      t.deepEqual(world.ask(), { freshness: 'fresh', rcode: rcode === 3 ? 'NXDOMAIN' : 'NOERROR', ttls: [holds] })
      world.nowMs += holds * 1_000 - 1
      t.not(world.ask(), undefined)
      world.nowMs += 1
      t.is(world.ask(), undefined)
    }
})

test('cache: a chain that ends in nothing is negative, and holds no longer than each of its links', t => {
  const world = makeCache({ staleSeconds: 0 })
  t.true(world.keep({ answers: [cname(20)], authorities: [soa(300, 60)] }))
  t.deepEqual(world.ask()?.ttls, [20, 20])
  t.false(world.keep({ answers: [cname(20)] }), 'without a SOA nobody knows for how long')
  t.is(world.ask(), undefined, 'and what was known is over')
})

test('cache: negative answers without SOA, referrals and truncated ones are not kept', t => {
  const world = makeCache()
  t.false(world.keep({ rcode: 3 }))
  t.false(world.keep({}))
  t.false(world.keep({ authorities: [{ name: 'example', type: 'NS', ttl: 60, data: 'ns.example' }] }))
  const message = makeQuery('a.example')
  const bytes = makeAnswer(message, { answers: [a(60)] })
  bytes[2]! |= 0x02
  t.false(world.cache.keep(parsed(message), bytes, bytes.length, 0))
  t.is(world.cache.entries, 0)
})

test('cache: a SOA that is too short says nothing', t => {
  const world = makeCache()
  const message = makeQuery('a.example')
  const whole = makeAnswer(message, { authorities: [soa(300, 60)], rcode: 3 })
  const short = whole.subarray(0, -4)
  const sizeAt = short.indexOf(Buffer.from('000600010000012c', 'hex')) + 8
  t.true(world.cache.keep(parsed(message), whole, whole.length, 0))
  short.writeUInt16BE(short.readUInt16BE(sizeAt) - 4, sizeAt)
  t.false(world.cache.keep(parsed(message), short, short.length, 0))
})

test('cache: types, DO and CD have answers of their own; letters and IDs do not', t => {
  const world = makeCache()
  world.keep({ answers: [a(60)] })
  t.not(world.ask('A.Example', { id: 9 }), undefined)
  t.not(world.ask('a.example', { udpBytes: 1_232 }), undefined)
  t.is(world.ask('a.example', { type: 'AAAA' }), undefined)
  t.is(world.ask('a.example', { udpBytes: 1_232, dnssecOk: true }), undefined)
  t.is(world.ask('a.example', { flags: 0x0110 }), undefined)
})

test('cache: names of objects are names', t => {
  const world = makeCache()
  for (const name of ['__proto__', 'constructor', 'toString', '__proto__.constructor'])
    t.is(world.ask(name), undefined, name)
  world.keep({ answers: [a(60, '__proto__')] }, '__proto__')
  t.deepEqual(world.ask('__proto__')?.ttls, [60])
  t.is(world.ask('constructor'), undefined)
})

test('cache: stale, it is given with a TTL of 30 for a day, RFC 8767 section 5', t => {
  const world = makeCache()
  world.keep({ answers: [a(60), a(900, 'a.example', '192.0.2.2')] })
  world.nowMs += 60_000
  t.deepEqual(world.ask(), { freshness: 'stale', rcode: 'NOERROR', ttls: [30, 30] })
  world.nowMs += 24 * HOUR - 1
  t.is(world.ask()?.freshness, 'stale')
  world.nowMs += 1
  t.is(world.ask(), undefined)
})

test('cache: negative answers may be stale as well', t => {
  const world = makeCache()
  world.keep({ authorities: [soa(60, 60)], rcode: 3 })
  world.nowMs += 61_000
  t.deepEqual(world.ask(), { freshness: 'stale', rcode: 'NXDOMAIN', ttls: [30] })
})

test('cache: after a failure the stale answer is given for 30 s without asking', t => {
  const world = makeCache()
  world.keep({ answers: [a(60)] })
  world.nowMs += 60_000
  t.true(world.fails())
  t.deepEqual(world.ask(), { freshness: 'failing', rcode: 'NOERROR', ttls: [30] })
  world.nowMs += 29_999
  t.is(world.ask()?.freshness, 'failing')
  world.nowMs += 1
  t.is(world.ask()?.freshness, 'stale')
  world.keep({ answers: [a(60)] })
  t.is(world.ask()?.freshness, 'fresh', 'a new answer takes its place')
})

test('cache: a failure takes no answer away that holds', t => {
  const world = makeCache()
  world.keep({ answers: [a(60)] })
  t.true(world.fails())
  t.deepEqual(world.ask(), { freshness: 'fresh', rcode: 'NOERROR', ttls: [60] })
})

test('cache: a failure without any answer is SERVFAIL for 5 s, RFC 9520', t => {
  const world = makeCache()
  t.false(world.fails())
  t.deepEqual(world.ask(), { freshness: 'fresh', rcode: 'SERVFAIL', ttls: [] })
  world.nowMs += 4_000
  t.false(world.fails(), 'the failure itself is no answer to be stale')
  world.nowMs += 5_000
  t.is(world.ask(), undefined)
  world.fails()
  t.true(world.keep({ answers: [a(60)] }))
  t.deepEqual(world.ask()?.ttls, [60])
})

test('cache: at its number of entries the least recently used one goes', t => {
  const world = makeCache({ entries: 3 })
  for (const name of ['a', 'b', 'c']) world.keep({ answers: [a(60, name)] }, name)
  world.ask('a')
  world.keep({ answers: [a(60, 'd')] }, 'd')
  t.is(world.ask('b'), undefined)
  for (const name of ['c', 'a', 'd']) t.not(world.ask(name), undefined, name)
  world.keep({ answers: [a(60, 'e')] }, 'e')
  t.is(world.ask('c'), undefined)
  t.is(world.cache.entries, 3)
  t.is(world.cache.evicted, 2)
})

test('cache: at its number of bytes as well, and each entry counts with its overhead', t => {
  const message = makeQuery('a.example')
  const one = makeAnswer(message, { answers: [a(60)] }).length + parsed(message).key.length + ENTRY_OVERHEAD_BYTES
  const world = makeCache({ bytes: 2 * one })
  world.keep({ answers: [a(60)] })
  t.is(world.cache.bytes, one)
  world.keep({ answers: [a(60, 'b.example')] }, 'b.example')
  t.is(world.cache.bytes, 2 * one)
  t.is(world.cache.evicted, 0)
  world.keep({ answers: [a(60, 'c.example')] }, 'c.example')
  t.is(world.cache.bytes, 2 * one)
  t.is(world.ask(), undefined)
  t.false(makeCache({ bytes: one - 1 }).keep({ answers: [a(60)] }))
})

test('cache: an answer of more than 16 KB is not kept', t => {
  const world = makeCache()
  const text = (bytes: number): Answer => ({
    name: 'a.example',
    type: 'TXT',
    ttl: 60,
    data: Array(bytes / 250).fill('x'.repeat(250)),
  })
  t.true(world.keep({ answers: [text(16_000)] }, 'a.example', { type: 'TXT' }))
  t.false(world.keep({ answers: [text(17_000)] }, 'a.example', { type: 'TXT' }))
  t.is(world.cache.entries, 0)
})

test('cache: it agrees with a simple model over 20,000 steps', t => {
  const world = makeCache({ entries: 40, staleSeconds: 100 })
  const model = new Map<string, number>()
  let seed = 1
  const below = (end: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff
    return (seed >> 8) % end
  }
  for (let step = 0; step < 20_000; step++) {
    const name = `n${below(60)}`
    world.nowMs += below(3) * 1_000
    const until = model.get(name)
    const stands = until !== undefined && world.nowMs < until + 100_000
    if (!stands) model.delete(name)
    if (below(3) > 0) {
      const found = world.ask(name)
      if ((found !== undefined) !== stands) return t.fail(`step ${step}: ${name}`)
      if (found && (found.freshness === 'fresh') !== world.nowMs < until!) return t.fail(`step ${step}: freshness`)
    } else {
      const ttl = 1 + below(90)
      world.keep({ answers: [a(ttl, name)] }, name)
      model.delete(name)
      if (model.size === 40) model.delete(model.keys().next().value!)
      model.set(name, world.nowMs + ttl * 1_000)
      continue
    }
    if (stands) {
      model.delete(name)
      model.set(name, until!)
    }
  }
  t.is(world.cache.entries, model.size)
  t.true(world.cache.evicted > 100)
})
