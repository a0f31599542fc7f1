/** The way to the proxy, cut and free again; with a real one: test/integration/proxy-storms.test.ts. */
import test from 'ava'
import { WRITABLE } from '../../../src/io/addon.ts'
import type { Watcher } from '../../../src/io/poller.ts'
import type { Socket } from '../../../src/io/socket.ts'
import { PathProbe } from '../../../src/upstream/proxy/path-probe.ts'

function rig() {
  const made: { watcher: Watcher; closed: boolean }[] = []
  let answers = 0
  const probe = new PathProbe(
    watcher => {
      const one = { watcher, closed: false }
      made.push(one)
      return { close: () => Object.assign(one, { closed: true }) } as unknown as Socket
    },
    () => answers++,
  )
  return { made, probe, answers: () => answers, open: () => made.filter(({ closed }) => !closed).length }
}

test('path-probe: nobody waits, nobody asks', t => {
  const { made, probe } = rig()
  for (let count = 0; count < 10; count++) probe.tick(false)
  t.is(made.length, 0)
})

test('path-probe: a new one with each tick, two at once', t => {
  const { made, probe, open } = rig()
  for (let count = 1; count <= 9; count++) {
    probe.tick(true)
    t.is(open(), Math.min(count, 2))
  }
  t.is(made.length, 9)
  probe.tick(false)
  t.is(open(), 0)
})

test('path-probe: its answer is told once, and it is closed', t => {
  const { made, probe, answers, open } = rig()
  probe.tick(true)
  probe.tick(true)
  made[0]!.watcher.onReady(0)
  t.is(answers(), 0)
  made[0]!.watcher.onReady(WRITABLE)
  made[0]!.watcher.onReady(WRITABLE)
  t.is(answers(), 1)
  t.is(open(), 0)
})
