/** Where the gateway's own datagrams go, in all threads; with a wrong route and two workers: test/integration/refusal.test.ts. */
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { type IpEndpoint, parseAddress } from '../../../src/endpoint.ts'
import { Relays, relayCells } from '../../../src/upstream/datagrams/relays.ts'

const at = (address: string, port: number): IpEndpoint => ({ address: parseAddress(address)!, port })

function rig(associations = 64) {
  const cells = relayCells(associations)
  return { cells, one: new Relays(cells), other: new Relays(cells) }
}

for (const address of ['192.0.2.1', '2001:db8::1', '255.255.255.255'])
  test(`relays: what one thread adds others know, until the last association there ends (${address})`, t => {
    const { one, other } = rig()
    const relay = at(address, 5000)
    t.false(one.has(relay))
    one.add(at(address, 5000))
    one.add(at(address, 5000))
    other.add(at(address, 5000))
    one.remove(relay)
    other.remove(relay)
    for (const relays of [one, other]) {
      t.true(relays.has(relay))
      t.false(relays.has(at(address, 5001)))
      t.false(relays.has(at('192.0.2.2', 5000)))
      t.false(relays.has(at('2001:db8::2', 5000)))
    }
    one.remove(relay)
    one.remove(relay)
    for (const relays of [one, other]) t.false(relays.has(relay))
  })

test('relays: as many as there may be associations are all known to all, and gone without a trace', t => {
  const { cells, one, other } = rig(1024)
  const all = Array.from({ length: 1024 }, (_, n) =>
    n % 2 === 0 ? at('192.0.2.1', 20_000 + n) : at(`2001:db8::${n.toString(16)}`, 443),
  )
  for (const relay of all) one.add(relay)
  t.is(all.filter(relay => other.has(relay)).length, 1024)
  for (const relay of all) one.remove(relay)
  t.is(all.filter(relay => other.has(relay) || one.has(relay)).length, 0)
  t.is(cells.filter((word, index) => index % 2 === 0 && word !== 0).length, 0)
})

test('relays: one that finds no place is known where it is used', t => {
  const { one, other } = rig(1)
  const all = Array.from({ length: 100 }, (_, n) => at('192.0.2.1', 20_000 + n))
  for (const relay of all) one.add(relay)
  t.true(all.every(relay => one.has(relay)))
  t.true(all.filter(relay => other.has(relay)).length <= 32)
  for (const relay of all) one.remove(relay)
  t.false(all.some(relay => one.has(relay) || other.has(relay)))
})

test('relays: threads that add at once take each other no place', async t => {
  const { cells, one } = rig(400)
  const program = `
    import { workerData } from 'node:worker_threads'
    const { Relays } = await import(workerData.module)
    const relays = new Relays(workerData.cells)
    for (let round = 0; round < 200; round++) {
      for (let port = 1; port <= 200; port++) relays.add({ address: Uint8Array.of(192, 0, 2, workerData.host), port })
      if (round < 199) for (let port = 1; port <= 200; port++)
        relays.remove({ address: Uint8Array.of(192, 0, 2, workerData.host), port })
    }`
  const module = new URL('../../../src/upstream/datagrams/relays.js', import.meta.url).href
  const workers = [1, 2].map(
    host =>
      new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
        workerData: { cells, host, module },
      }),
  )
  await Promise.all(
    workers.map(worker => new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject))),
  )
  for (const host of [1, 2])
    for (let port = 1; port <= 200; port++) t.true(one.has(at(`192.0.2.${host}`, port)), `${host}:${port}`)
})
