/** What rules decide, and what comes of others in their place. */
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ConfigError } from '../../src/errors.ts'
import type { RoutedFlow } from '../../src/flow/router.ts'
import { PlaneRules } from '../../src/plane/plane-rules.ts'
import { type RoutedDialers, RulesRouter } from '../../src/plane/rules-router.ts'
import type { Dialer } from '../../src/upstream/dialer.ts'
import { temporaryFolder } from '../commands/tungate.ts'
import { until } from '../helpers/sockets.ts'
import { address, compiled } from '../rules/rig.ts'

class NamedDialer implements Dialer {
  readonly name: string
  closed = false

  constructor(name: string) {
    this.name = name
  }

  connect(): never {
    throw new Error('not dialed here')
  }

  associate(): never {
    throw new Error('not dialed here')
  }

  isUpstream({ port }: { readonly port: number }): boolean {
    return port === this.name.length
  }

  counters(): Record<string, number> {
    return { dials: 1, [this.name]: 1 }
  }

  close(): void {
    this.closed = true
  }
}

function temporaryFile(t: ExecutionContext, name: string, text: string): string {
  const file = join(temporaryFolder(t), name)
  writeFileSync(file, text)
  return file
}

function router() {
  const names = ['proxy', 'office', 'lab', 'direct']
  const dialers = new Map(names.map(name => [name, new NamedDialer(name)]))
  return { dialers, router: new RulesRouter(named(dialers), 'proxy') }
}

function named(dialers: ReadonlyMap<string, NamedDialer>): RoutedDialers {
  const all = [...dialers.values()]
  return {
    get: name => {
      const dialer = dialers.get(name)
      if (dialer === undefined) throw new Error(`no upstream is named ${name}`)
      return dialer
    },
    isUpstream: endpoint => all.some(dialer => dialer.isUpstream(endpoint)),
    counters: () => ({ dialers: all.length }),
    close: () => {
      for (const dialer of all) dialer.close()
    },
  }
}

const flow = (port: number, more: Partial<RoutedFlow> = {}): RoutedFlow => ({
  protocol: 'tcp',
  source: { address: address('10.0.0.2'), port: 40_000 },
  destination: { address: address('192.0.2.1'), port },
  domain: undefined,
  ...more,
})

const RULES = `
- to: office
  name: the office
  port: 1
- to: direct
  port: 2
- to: reject
  port: 3
- to: drop
  port: 4
- to: lab
  domainSuffix: example.org
  sniff: true
  port: 5
`

/** What people are told, and the dialer. */
function decided(found: RulesRouter, asked: RoutedFlow) {
  const { kind, why, ...rest } = found.decide(asked)
  return [kind, why, 'dialer' in rest ? (rest.dialer as NamedDialer).name : '']
}

test('rules-router: without rules everything goes to the default, and nothing is decided', t => {
  const { router: found, dialers } = router()
  t.is(found.single, dialers.get('proxy'))
  found.replace({ kind: 'tables', rules: compiled('[]') })
  t.is(found.single, dialers.get('proxy'))
})

test('rules-router: where virtual addresses stand for names there is something to decide', t => {
  const names = { acquire: () => undefined, release: () => {} }
  const found = new RulesRouter(named(new Map([['proxy', new NamedDialer('proxy')]])), 'proxy', names)
  t.is(found.single, undefined)
  t.deepEqual(decided(found, flow(80)), ['dial', 'no rule: proxy', 'proxy'])
})

test('rules-router: each target, and its reason', t => {
  const { router: found } = router()
  found.replace({ kind: 'tables', rules: compiled(RULES) })
  t.is(found.single, undefined)
  t.deepEqual(
    [1, 2, 3, 4, 5, 6].map(port => decided(found, flow(port))),
    [
      ['dial', 'rule 1 (the office): office', 'office'],
      ['dial', 'rule 2: direct', 'direct'],
      ['reject', 'rule 3: reject', ''],
      ['drop', 'rule 4: drop', ''],
      ['look', 'its first bytes are waited for', ''],
      ['dial', 'no rule: proxy', 'proxy'],
    ],
  )
  t.deepEqual(decided(found, flow(5, { domain: 'www.example.org' })), ['dial', 'rule 5: lab', 'lab'])
  t.deepEqual(decided(found, flow(5, { domain: '' })), ['dial', 'no rule: proxy', 'proxy'])
  t.deepEqual(decided(found, flow(5, { protocol: 'udp' })), ['dial', 'no rule: proxy', 'proxy'])
  t.deepEqual(decided(found, flow(5, { destination: { name: 'example.org', port: 5 } })), [
    'dial',
    'rule 5: lab',
    'lab',
  ])
})

test('rules-router: one flow after another of a rule shares its decision', t => {
  const { router: found } = router()
  found.replace({ kind: 'tables', rules: compiled(RULES) })
  t.is(found.decide(flow(1)), found.decide(flow(1)))
})

test('rules-router: others in their place hold from then on, none at all too', t => {
  const { router: found, dialers } = router()
  found.replace({ kind: 'tables', rules: compiled(RULES) })
  const { revision } = found
  found.replace({ kind: 'tables', rules: compiled('- to: lab') })
  t.deepEqual(decided(found, flow(3)), ['dial', 'rule 1: lab', 'lab'])
  t.true(found.revision > revision)
  found.replace({ kind: 'none' })
  t.is(found.single, dialers.get('proxy'))
})

test('rules-router: an upstream that is not there is refused, and nothing has changed', t => {
  const { dialers } = router()
  const found = new RulesRouter(named(new Map([...dialers].slice(0, 2))), 'proxy')
  t.throws(() => found.replace({ kind: 'tables', rules: compiled('- to: lab') }), {
    message: 'no upstream is named lab',
  })
  t.is(found.single, dialers.get('proxy'))
})

test('rules-router: counters, an upstream of any, and the end are those of all', t => {
  const { router: found, dialers } = router()
  t.deepEqual(found.counters(), { dialers: 4 })
  t.true(found.isUpstream({ address: address('192.0.2.1'), port: 3 }))
  t.false(found.isUpstream({ address: address('192.0.2.1'), port: 4 }))
  found.close()
  t.true([...dialers.values()].every(({ closed }) => closed))
})

const SCRIPT = `export default defineRules(flow => {
  if (flow.port === 1) return 'office'
  if (flow.port === 2) return 'reject'
  return undefined
})
`

test('plane-rules: a script decides, and its name is the reason', async t => {
  const { router: found } = router()
  const rules = new PlaneRules({ upstreams: ['proxy', 'office'] }, message => t.fail(message))
  t.teardown(() => rules.close())
  rules.attach(found)
  await rules.use({ kind: 'script', file: temporaryFile(t, 'rules.mjs', SCRIPT) })
  t.is(found.decide(flow(1)).kind, 'ask')
  const asked = async (port: number) => {
    const { kind, why } = await found.ask(flow(port))
    return [kind, why]
  }
  t.deepEqual(await asked(1), ['dial', 'rules.mjs: office'])
  t.deepEqual(await asked(2), ['reject', 'rules.mjs: reject'])
  t.deepEqual(await asked(3), ['dial', 'rules.mjs: proxy'])
  t.like(rules.counters(), { script_asked: 3 })
})

test('plane-rules: a script that cannot be loaded changes nothing, tables end one that runs', async t => {
  const { router: found } = router()
  const rules = new PlaneRules({ upstreams: ['proxy', 'office'] }, message => t.fail(message))
  t.teardown(() => rules.close())
  rules.attach(found)
  const good = temporaryFile(t, 'rules.mjs', SCRIPT)
  await rules.use({ kind: 'script', file: good })
  const wrong = temporaryFile(t, 'wrong.mjs', 'export default 3')
  await t.throwsAsync(rules.use({ kind: 'script', file: wrong }), { instanceOf: ConfigError })
  t.is((await found.ask(flow(1))).why, 'rules.mjs: office')
  await rules.use({ kind: 'script', file: temporaryFile(t, 'other.mjs', SCRIPT) })
  t.is((await found.ask(flow(1))).why, 'other.mjs: office')
  await rules.use({ kind: 'tables', rules: compiled('- to: office') })
  t.is(found.decide(flow(9)).why, 'rule 1: office')
  t.deepEqual(rules.counters(), {})
})

test('plane-rules: a script that others take the place of does not go on', async t => {
  const beats = temporaryFile(t, 'beats', '')
  const script = `import { appendFileSync } from 'node:fs'
    setInterval(() => appendFileSync(${JSON.stringify(beats)}, '.'), 5)
    export default () => undefined`
  const rules = new PlaneRules({ upstreams: ['proxy'] }, () => {})
  await rules.use({ kind: 'script', file: temporaryFile(t, 'rules.mjs', script) })
  await until(() => statSync(beats).size > 0, 'its work')
  await rules.use({ kind: 'tables', rules: compiled('[]') })
  const { size } = statSync(beats)
  await new Promise(resolve => setTimeout(resolve, 100))
  t.is(statSync(beats).size, size)
})

test('plane-rules: the last ones that were given hold, however long those before take', async t => {
  const { router: found } = router()
  const rules = new PlaneRules({ upstreams: ['proxy', 'office'] }, message => t.fail(message))
  t.teardown(() => rules.close())
  rules.attach(found)
  const slow = `await new Promise(resolve => setTimeout(resolve, 300))\n${SCRIPT}`
  await Promise.all([
    rules.use({ kind: 'script', file: temporaryFile(t, 'slow.mjs', slow) }),
    rules.use({ kind: 'tables', rules: compiled('- to: office') }),
  ])
  t.is(found.decide(flow(9)).why, 'rule 1: office')
})

test('plane-rules: a script that is being loaded when it is closed is let go of', async t => {
  const rules = new PlaneRules({ upstreams: ['proxy', 'office'] }, () => {})
  const using = rules.use({ kind: 'script', file: temporaryFile(t, 'rules.mjs', SCRIPT) })
  await rules.close()
  await using
  t.deepEqual(rules.counters(), {})
})

test('plane-rules: a new stack has the rules of the one before', async t => {
  const rules = new PlaneRules({ upstreams: ['proxy', 'office'] }, () => {})
  await rules.use({ kind: 'tables', rules: compiled('- to: office') })
  const { router: found } = router()
  rules.attach(found)
  t.is(found.decide(flow(9)).why, 'rule 1: office')
})
