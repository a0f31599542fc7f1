import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { ConfigError } from '../../src/errors.ts'
import { loadScript, type ScriptLimits } from '../../src/rules/script.ts'
import { flow, UPSTREAMS } from './rig.ts'

/** Long enough for a machine that is busy; the tests of lateness set their own. */
const PATIENT = { verdictMs: 30_000, loadMs: 60_000 }

/** A rules file with this content, loaded; all of it is gone after the test. */
async function script(t: ExecutionContext, content: string, limits: Partial<ScriptLimits> = {}, name = 'rules.mjs') {
  const file = rulesFile(t, content, name)
  const complaints: string[] = []
  const onComplaint = (message: string) => complaints.push(message)
  const loaded = await loadScript({ file, upstreams: UPSTREAMS, onComplaint, limits: { ...PATIENT, ...limits } })
  t.teardown(() => loaded.close())
  return { rules: loaded, complaints, file }
}

function rulesFile(t: ExecutionContext, content: string, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tungate-script-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

/** Asks until `isDone` says so. */
async function until(isDone: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isDone())) await new Promise(resolve => setTimeout(resolve, 5))
}

test('script: a verdict is a target, or undefined, by what the flow is', async t => {
  const { rules, complaints } = await script(
    t,
    `export default defineRules(async flow => {
      if (flow.port === 25) return 'reject'
      if (flow.domain === 'www.example.org') return 'office'
      if (flow.source === 'fd00::2' && flow.protocol === 'udp') return flow.destination === '' ? 'drop' : 'direct'
    })`,
  )
  t.deepEqual(await rules.verdict(flow('tcp', '192.0.2.1', 25)), { kind: 'reject' })
  t.deepEqual(await rules.verdict(flow('tcp', '192.0.2.1', 443, { domain: 'WWW.example.org.' })), {
    kind: 'upstream',
    name: 'office',
  })
  t.deepEqual(await rules.verdict(flow('udp', '2001:db8::1', 53, { source: 'fd00::2' })), { kind: 'direct' })
  t.deepEqual(await rules.verdict(flow('udp', 'a.example', 53, { source: 'fd00::2' })), { kind: 'drop' })
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 443)), undefined)
  t.deepEqual(complaints, [])
})

test('script: a verdict is cached by what was read for it', async t => {
  const { rules } = await script(
    t,
    `let calls = 0
    export default flow => {
      calls++
      if (flow.port === 1) return calls === 1 ? 'direct' : 'drop'
      return flow.domain === 'a.example' && flow.source === '10.0.0.2' ? 'lab' : 'office'
    }`,
  )
  t.deepEqual(await rules.verdict(flow('tcp', '192.0.2.1', 1)), { kind: 'direct' })
  t.deepEqual(await rules.verdict(flow('udp', '198.51.100.9', 1, { domain: 'b.example' })), { kind: 'direct' })
  t.like(rules.counters(), { asked: 2, cached: 1, entries: 1 })
  const asked = async (domain: string, source: string) => {
    const verdict = await rules.verdict(flow('tcp', '192.0.2.1', 443, { domain, source }))
    return [verdict, rules.counters().cached]
  }
  t.deepEqual(await asked('a.example', '10.0.0.2'), [{ kind: 'upstream', name: 'lab' }, 1])
  t.deepEqual(await asked('a.example', '10.0.0.3'), [{ kind: 'upstream', name: 'office' }, 1])
  t.deepEqual(await asked('b.example', '10.0.0.2'), [{ kind: 'upstream', name: 'office' }, 1])
  t.deepEqual(
    await asked('b.example', '10.0.0.4'),
    [{ kind: 'upstream', name: 'office' }, 2],
    'the source was not read',
  )
  t.deepEqual(await asked('a.example', '10.0.0.2'), [{ kind: 'upstream', name: 'lab' }, 3])
})

test('script: a late verdict is the default, one complaint, and cached when it comes', async t => {
  const { rules, complaints, file } = await script(
    t,
    `export default async flow => {
      if (flow.port < 1000) await new Promise(resolve => setTimeout(resolve, 300))
      return flow.port === 1 ? 'drop' : 'direct'
    }`,
    { verdictMs: 10, hangMs: 60_000 },
  )
  const asked = flow('tcp', '192.0.2.1', 1)
  t.is(await rules.verdict(asked), undefined)
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 2)), undefined)
  t.deepEqual(complaints, [`${file}: gave no verdict within 10 ms; flows without a verdict go by the default`])
  await until(() => rules.counters().entries! > 0)
  t.deepEqual(await rules.verdict(asked), { kind: 'drop' })
  let port = 1000
  await until(async () => (await rules.verdict(flow('tcp', '192.0.2.1', port++))) !== undefined)
  t.is(rules.counters().restarts, 0, 'a slow promise is no reason to end the thread')
})

test('script: a thread that hangs is ended and started again after a while; flows do not wait for it', async t => {
  const { rules, complaints, file } = await script(
    t,
    `export default flow => {
      if (flow.port === 666) for (;;);
      return 'direct'
    }`,
    { verdictMs: 200, hangMs: 300, backoffMs: 50, maxBackoffMs: 100 },
  )
  const bad = flow('tcp', '192.0.2.1', 666)
  // a port that is new each time, so that an answer comes from the thread and not from the cache
  let port = 1000
  const answers = async () => (await rules.verdict(flow('tcp', '192.0.2.1', port++)))?.kind === 'direct'
  for (let round = 1; round <= 2; round++) {
    t.is(await rules.verdict(bad), undefined)
    t.is(await rules.verdict(bad), undefined, 'at once: it is silent')
    await until(() => rules.counters().restarts! >= round)
    // the machine may be so busy that a good verdict is late too
    await until(answers)
    writeFileSync(file, `export default flow => { while (flow.port === 666); return 'direct' }`)
  }
  t.is(complaints.filter(line => /did not answer for 300 ms, and is started again/.test(line)).length, 1)
  t.is(complaints.filter(line => /no verdict within/.test(line)).length, 1)
})

test('script: what it throws is one complaint with file and line, and the default', async t => {
  const { rules, complaints, file } = await script(
    t,
    `export default flow => {
      const nothing = undefined
      return nothing.port + flow.port
    }`,
  )
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 1)), undefined)
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 2)), undefined)
  t.is(complaints.length, 1)
  t.regex(complaints[0]!, /^\/.*rules\.mjs:3: TypeError: Cannot read properties of undefined \(reading 'port'\); flows/)
  t.true(complaints[0]!.startsWith(`${file}:3: `))
  t.is(rules.counters().failed, 2)
})

test('script: a verdict that is no target is the default, with a complaint that tells which there are', async t => {
  const { rules, complaints, file } = await script(t, `export default flow => (flow.port === 1 ? 'direkt' : 7)`)
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 1)), undefined)
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 2)), undefined)
  t.deepEqual(complaints, [
    `${file}: gave a wrong verdict: found "direkt" (did you mean direct?), allowed proxy, office, lab, direct, reject, drop; flows without a verdict go by the default`,
    `${file}: gave a number, allowed a text or undefined; flows without a verdict go by the default`,
  ])
})

test('script: a thread that ends by itself, or fills its memory, is started again', async t => {
  const { rules, complaints } = await script(
    t,
    `export default flow => {
      if (flow.port === 1) setTimeout(() => { throw new Error('later') })
      if (flow.port === 2) process.exit(3)
      if (flow.port === 3) for (const all = []; ; ) all.push(new Array(1000).fill(all.length))
      return 'direct'
    }`,
    { backoffMs: 10, maxBackoffMs: 20, heapMb: 16, hangMs: 60_000 },
  )
  for (const port of [1, 2, 3]) {
    await rules.verdict(flow('tcp', '192.0.2.1', port))
    await until(() => rules.counters().restarts! >= port)
    await until(async () => (await rules.verdict(flow('tcp', '192.0.2.1', 1000 + port))) !== undefined)
  }
  t.is(complaints.length, 1)
  t.regex(complaints[0]!, /rules\.mjs: ended by Error: later, and is started again/)
})

const BROKEN: [title: string, name: string, content: string, message: RegExp][] = [
  [
    'a mistake in the syntax',
    'rules.mjs',
    'export default 1\n\nconst x = = 2\n',
    /rules\.mjs:3: SyntaxError: Unexpected token '='$/,
  ],
  ['an error while loading', 'rules.mjs', '\nnull.x\n', /rules\.mjs:2: TypeError: Cannot read properties of null/],
  ['an error thrown by JSON.parse', 'rules.mjs', '\n\nJSON.parse("{")\n', /rules\.mjs:3: SyntaxError: /],
  ['an import that is not there', 'rules.mjs', "import './none.mjs'\n", /rules\.mjs: Error: Cannot find module/],
  ['no default export', 'rules.mjs', 'export const rules = 1\n', /rules\.mjs: has no function as its default export/],
  [
    'a control character in its error',
    'rules.mjs',
    'throw new Error("a\\n\\u001bb")\n',
    /rules\.mjs:1: Error: a\\u\{a\}\\u\{1b\}b$/,
  ],
  ['another kind of file', 'rules.txt', '', /rules\.txt: found another kind of file, allowed \.js, \.mjs/],
]

for (const [title, name, content, message] of BROKEN) {
  test(`script: a file with ${title} is refused with its place`, async t => {
    const error = await t.throwsAsync(script(t, content, {}, name), { instanceOf: ConfigError })
    t.is(error!.code, 'CONFIG_FILE')
    t.regex(error!.message, message)
    t.notRegex(error!.message, /\n/)
  })
}

test('script: a file that never ends loading is refused', async t => {
  await t.throwsAsync(script(t, 'for (;;);', { loadMs: 300 }), { message: /rules\.mjs: not loaded within 300 ms$/ })
  await t.throwsAsync(script(t, 'await new Promise(() => {})', { loadMs: 60_000 }), {
    message: /ended by itself, with code 13$/,
  })
})

test('script: CommonJS and a .js without package.json are loaded too', async t => {
  for (const [name, content] of [
    ['rules.cjs', 'module.exports = defineRules(() => "drop")'],
    ['rules.js', 'export default () => "drop"'],
    ['rules.js', 'module.exports = () => "drop"'],
  ] as const) {
    const { rules } = await script(t, content, {}, name)
    t.deepEqual(await rules.verdict(flow('tcp', '192.0.2.1', 1)), { kind: 'drop' }, `${name}: ${content}`)
  }
})

const canStrip = Boolean((process.features as { typescript?: unknown }).typescript)

test(`script: TypeScript is ${canStrip ? 'run' : 'refused by a Node.js that cannot run it, with a way out'}`, async t => {
  const content =
    'export default defineRules((flow: { port: number }): string => (flow.port === 1 ? "drop" : "direct"))'
  const loaded = script(t, content, {}, 'rules.ts')
  if (!canStrip) {
    const message = /rules\.ts: found TypeScript, which this Node\.js \(v20.*22\.18.*JavaScript with types in comments/
    await t.throwsAsync(loaded, { instanceOf: ConfigError, message })
    return
  }
  t.deepEqual(await (await loaded).rules.verdict(flow('tcp', '192.0.2.1', 1)), { kind: 'drop' })
})

test('script: promises that never come do not take the places of verdicts for ever', async t => {
  const { rules, complaints } = await script(
    t,
    "export default flow => (flow.port < 10 ? new Promise(() => {}) : 'direct')",
    { maxRunning: 3, endlessMs: 200, verdictMs: 200, hangMs: 60_000, backoffMs: 10 },
  )
  await Promise.all([1, 2, 3].map(port => rules.verdict(flow('tcp', '192.0.2.1', port))))
  let port = 1000
  await until(async () => (await rules.verdict(flow('tcp', '192.0.2.1', port++)))?.kind === 'direct')
  t.is(rules.counters().restarts, 1)
  t.true(
    complaints.some(line => /has waited for a verdict for more than 200 ms, and is started again/.test(line)),
    complaints.join('\n'),
  )
})

test('script: more verdicts than may be under way go by the default at once', async t => {
  const { rules, complaints } = await script(t, 'export default () => new Promise(() => {})', { maxRunning: 3 })
  const waiting = [1, 2, 3].map(port => rules.verdict(flow('tcp', '192.0.2.1', port)))
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 4)), undefined)
  t.is(rules.counters().running, 3)
  t.regex(complaints[0]!, /has 3 verdicts under way/)
  await rules.close()
  t.deepEqual(await Promise.all(waiting), [undefined, undefined, undefined], 'closing lets them go')
  t.is(await rules.verdict(flow('tcp', '192.0.2.1', 5)), undefined)
})
