import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { NAME_MAP_DEFAULTS, NameMap, type NameMapLimits } from '../../src/dns/name-map.ts'
import { NO_INDEX, VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { formatAddress, parseAddress } from '../../src/endpoint.ts'
import { Random } from '../fuzz/random.ts'
import type { NameWork } from './name-map-worker.ts'

const at = (text: string) => parseAddress(text)!
const prefix6 = at('fd74:756e::').subarray(0, 12)
const addresses = () => new VirtualAddresses({ network4: at('198.18.0.0'), bits4: 15, own4: at('198.18.0.1'), prefix6 })

/** A map and its clock; addresses are text. */
function makeMap(limits: Partial<NameMapLimits> = {}) {
  const map = new NameMap(addresses(), { ...NAME_MAP_DEFAULTS, ...limits })
  const world = {
    map,
    nowMs: 0,
    assign(name: string) {
      const index = map.assign(name, world.nowMs)
      return index === NO_INDEX ? undefined : formatAddress(map.addresses.address4(index))
    },
  }
  return world
}

test('name-map: a name has one address, of both kinds, for as long as it stands', t => {
  const { map, assign } = makeMap()
  t.is(assign('a.example'), '198.18.0.2')
  t.is(assign('b.example'), '198.18.0.3')
  t.is(assign('a.example'), '198.18.0.2')
  t.is(map.nameOf(at('198.18.0.3')), 'b.example')
  t.is(map.nameOf(at('fd74:756e::c612:3')), 'b.example')
  t.is(map.nameOf(at('198.18.0.4')), undefined)
  t.is(map.nameOf(at('198.18.0.1')), undefined)
  t.is(map.nameOf(at('192.0.2.1')), undefined)
  t.is(map.size, 2)
  t.is(map.revision, 2)
})

test('name-map: names of objects are names', t => {
  const { map, assign } = makeMap()
  for (const name of ['__proto__', 'constructor']) t.is(map.nameOf(at(assign(name)!)), name)
})

test('name-map: when all are given away the one out of use for longest gives way', t => {
  const world = makeMap({ names: 3, holdSeconds: 0 })
  for (const name of ['a', 'b', 'c']) world.assign(name)
  world.assign('a')
  t.is(world.assign('d'), '198.18.0.3')
  t.is(world.map.nameOf(at('198.18.0.3')), 'd')
  t.is(world.assign('b'), '198.18.0.4')
  t.is(world.map.nameOf(at('198.18.0.2')), 'a')
  t.is(world.map.evicted, 2)
  t.is(world.map.size, 3)
})

test('name-map: an address with live flows is never given away', t => {
  const world = makeMap({ names: 2, holdSeconds: 0 })
  const { map } = world
  const first = at(world.assign('a')!)
  const second = at(world.assign('b')!)
  t.is(map.acquire(first), 'a')
  t.is(map.acquire(first), 'a')
  t.is(world.assign('c'), '198.18.0.3')
  t.is(map.acquire(second), 'c')
  t.is(map.live, 2)
  t.is(world.assign('d'), undefined, 'all are live')
  t.is(world.assign('a'), '198.18.0.2', 'names that are there are answered all the same')
  t.is(map.exhausted, 1)
  t.true(map.release(first))
  t.is(world.assign('d'), undefined, 'one of two flows has ended')
  t.true(map.release(first))
  t.is(world.assign('d'), '198.18.0.2')
  t.is(map.live, 1)
  t.is(map.nameOf(second), 'c')
})

test('name-map: flows to the IPv6 address count for the same name', t => {
  const world = makeMap({ names: 1, holdSeconds: 0 })
  world.assign('a')
  t.is(world.map.acquire(at('fd74:756e::c612:2')), 'a')
  t.is(world.assign('b'), undefined)
  t.true(world.map.release(at('198.18.0.2')))
  t.is(world.assign('b'), '198.18.0.2')
})

test('name-map: what stands for no name is not acquired, and not released', t => {
  const { map, assign } = makeMap({ names: 2 })
  t.is(map.acquire(at('198.18.0.2')), undefined)
  t.false(map.release(at('198.18.0.2')))
  assign('a')
  t.false(map.release(at('198.18.0.2')), 'no flow')
  t.is(map.acquire(at('198.18.0.4')), undefined, 'an address over the bound')
  t.false(map.release(at('198.18.0.4')))
  t.false(map.release(at('192.0.2.1')))
  t.is(map.live, 0)
})

test('name-map: an address that was told keeps its name while clients may hold the answer', t => {
  const world = makeMap({ names: 1, holdSeconds: 20 })
  world.assign('a')
  world.nowMs = 15_000
  world.assign('a')
  world.nowMs = 34_999
  t.is(world.assign('b'), undefined)
  t.is(world.map.exhausted, 1)
  world.nowMs = 35_000
  t.is(world.assign('b'), '198.18.0.2')
})

test('name-map: it agrees with a simple model over 100,000 steps', t => {
  const random = new Random(7)
  const world = makeMap({ names: 50, holdSeconds: 3 })
  const { map } = world
  /** Name → address, when told and flows; in the order of their last use. */
  const model = new Map<string, { address: string; told: number; flows: number }>()
  const use = (name: string) => {
    const entry = model.get(name)!
    model.delete(name)
    model.set(name, entry)
  }
  for (let step = 0; step < 100_000; step++) {
    world.nowMs += random.below(200)
    const name = `n${random.below(80)}`
    const entry = model.get(name)
    const action = random.below(4)
    if (action < 2) {
      const got = world.assign(name)
      if (entry !== undefined) {
        if (got !== entry.address) return t.fail(`step ${step}: ${name} moved`)
        entry.told = world.nowMs
        use(name)
        continue
      }
      let free: string | undefined
      if (model.size < 50) free = got
      else {
        const oldest = [...model].find(([, { flows }]) => flows === 0)
        if (oldest !== undefined && world.nowMs - oldest[1].told >= 3_000) {
          free = oldest[1].address
          model.delete(oldest[0])
        }
      }
      if (got !== free) return t.fail(`step ${step}: ${got} and not ${free}`)
      if (got !== undefined) {
        if ([...model.values()].some(({ address }) => address === got)) return t.fail(`step ${step}: ${got} twice`)
        model.set(name, { address: got, told: world.nowMs, flows: 0 })
      }
    } else if (entry !== undefined && action === 2) {
      if (map.acquire(at(entry.address)) !== name) return t.fail(`step ${step}: acquire`)
      entry.flows++
    } else if (entry !== undefined) {
      if (map.release(at(entry.address)) !== entry.flows > 0) return t.fail(`step ${step}: release`)
      if (entry.flows === 1) use(name)
      entry.flows = Math.max(entry.flows - 1, 0)
    }
  }
  t.is(map.size, model.size)
  t.is(map.live, [...model.values()].filter(({ flows }) => flows > 0).length)
  t.true(map.evicted > 1_000)
  t.true(map.exhausted > 1_000)
})

test('name-map: what is saved comes back, with its addresses and its order', t => {
  const world = makeMap({ names: 10, holdSeconds: 0 })
  for (const name of ['a', 'b', 'c', 'd', 'e']) world.assign(name)
  world.map.acquire(at('198.18.0.2'))
  world.assign('b')
  const saved = world.map.save()
  const names = [...saved.names].map(([index, name]) => [formatAddress(world.map.addresses.address4(index)), name])
  t.deepEqual(names, [
    ['198.18.0.4', 'c'],
    ['198.18.0.5', 'd'],
    ['198.18.0.6', 'e'],
    ['198.18.0.3', 'b'],
    ['198.18.0.2', 'a'],
  ])
  t.is(saved.next, 5)

  const again = makeMap({ names: 10, holdSeconds: 0 })
  again.map.restore(world.map.save(), 0)
  t.is(again.map.size, 5)
  t.is(again.map.live, 0)
  for (const name of ['a', 'b', 'c', 'd', 'e']) t.is(again.assign(name), world.assign(name), name)
})

test('name-map: addresses given away between the last save and a crash come last after it', t => {
  const world = makeMap({ names: 8, holdSeconds: 0 })
  for (const name of ['a', 'b', 'c']) world.assign(name)
  const saved = world.map.save()
  // Not saved any more.
  const lost = ['x', 'y'].map(name => world.assign(name))
  t.deepEqual(lost, ['198.18.0.5', '198.18.0.6'])

  const again = makeMap({ names: 8, holdSeconds: 0 })
  again.map.restore(saved, 0)
  t.deepEqual(['k', 'l', 'm'].map(again.assign), ['198.18.0.7', '198.18.0.8', '198.18.0.9'])
  t.is(again.map.nameOf(at('198.18.0.5')), undefined)

  const full = makeMap({ names: 8, holdSeconds: 0 })
  for (let count = 0; count < 8; count++) full.assign(`f${count}`)
  const fullSaved = full.map.save()
  t.deepEqual([full.assign('x'), full.assign('y')], ['198.18.0.2', '198.18.0.3'])
  const afterwards = makeMap({ names: 8, holdSeconds: 0 })
  afterwards.map.restore(fullSaved, 0)
  t.is(afterwards.map.nameOf(at('198.18.0.2')), undefined, 'x to a client, f0 in the file: nobody')
  t.is(afterwards.map.nameOf(at('198.18.0.3')), undefined)
  t.deepEqual(['k', 'l'].map(afterwards.assign), ['198.18.0.4', '198.18.0.5'])
  t.is(afterwards.map.nameOf(at('198.18.0.6')), 'f4')
  t.is(afterwards.map.size, 6)
})

test('name-map: what was restored is not given away while clients may hold it, and a quarter is free meanwhile', t => {
  const world = makeMap({ names: 8, holdSeconds: 20 })
  for (let count = 0; count < 8; count++) world.assign(`f${count}`)
  const again = makeMap({ names: 8, holdSeconds: 20 })
  again.map.restore(world.map.save(), 0)
  t.is(again.map.size, 4)
  again.nowMs = 1_000
  t.deepEqual(['x', 'y', 'z'].map(again.assign), ['198.18.0.4', '198.18.0.5', undefined])
  again.nowMs = 20_000
  t.is(again.assign('z'), '198.18.0.6')
})

test('name-map: new names begin where those of before would have gone on', t => {
  const world = makeMap({ names: 16 })
  world.map.restore({ names: [[1, 'a']], next: 6 }, 0)
  t.deepEqual(['b', 'c'].map(world.assign), ['198.18.0.12', '198.18.0.13'])
})

test('name-map: pairs that do not fit are left out', t => {
  const { map } = makeMap({ names: 100 })
  map.restore(
    {
      names: [
        [50, 'a'],
        [50, 'b'],
        [51, 'a'],
        [-1, 'c'],
        [100, 'd'],
      ],
      next: 1_000_040,
    },
    0,
  )
  t.is(map.size, 1)
  t.is(map.nameOf(map.addresses.address4(50)), 'a')
  t.is(map.nameOf(map.addresses.address4(51)), undefined)
  t.is(map.assign('d', 0), 66, 'behind 40, 1,000,040 counted round, and 25 that may have been given away')
})

test('name-map: threads that share its memory agree at once', t => {
  const limits = { ...NAME_MAP_DEFAULTS, names: 100 }
  const memory = NameMap.memoryFor(addresses(), limits)
  const [one, other] = [new NameMap(addresses(), limits, memory), new NameMap(addresses(), limits, memory)]
  t.is(one.assign('a', 0), 0)
  t.is(other.assign('b', 0), 1)
  t.is(other.assign('a', 0), 0)
  t.is(other.acquire(at('198.18.0.2')), 'a')
  t.deepEqual([one.live, one.size, one.revision], [1, 2, 2])
  t.true(one.release(at('198.18.0.2')))
  t.is(other.live, 0)
})

test('name-map: 4 threads that work on it at a time break nothing', async t => {
  const networks = { network4: at('198.18.0.0'), bits4: 15, own4: at('198.18.0.1'), prefix6: undefined }
  const limits = { names: 4_096, ttlSeconds: 10, holdSeconds: 0 }
  const memory = NameMap.memoryFor(new VirtualAddresses(networks), limits)
  const work: NameWork = { networks, memory, names: 10_000, rounds: 30_000 }
  const threads = Array.from({ length: 4 }, () => {
    return new Worker(new URL('./name-map-worker.js', import.meta.url), { workerData: work })
  })
  const wrong = await Promise.all(threads.map(thread => once(thread, 'message')))
  t.deepEqual(wrong, Array(4).fill([0]))
  const map = new NameMap(new VirtualAddresses(networks), limits, memory)
  t.deepEqual([map.live, map.size], [0, 4_096])
  const saved = [...map.save().names]
  t.is(new Set(saved.map(([index]) => index)).size, 4_096)
  t.is(new Set(saved.map(([, name]) => name)).size, 4_096)
  for (const [index, name] of saved) t.is(map.assign(name, 1e9), index)
})
