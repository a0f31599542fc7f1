/** Rules that change while the gateway runs. */
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { rulesFromInput } from '../../src/config/list-input.ts'
import { ConfigError, GatewayError } from '../../src/errors.ts'
import type { RulesOptions } from '../../src/options.ts'
import type { LoadedRules } from '../../src/rules/load-rules.ts'
import { match } from '../../src/rules/matcher.ts'
import { RulesKeeper } from '../../src/rules/rules-keeper.ts'
import { FilesWatch } from '../../src/rules/watch-files.ts'
import { temporaryFolder } from '../commands/tungate.ts'
import { until } from '../helpers/sockets.ts'
import { flow, UPSTREAMS } from './rig.ts'

const EMPTY: RulesOptions = { written: [], place: 'rules', folder: '/', file: '' }

function keep(t: ExecutionContext, source: RulesOptions | undefined) {
  const used: LoadedRules[] = []
  const lines: { level: string; message: string; fields: Record<string, unknown> }[] = []
  const line =
    (level: string) =>
    (message: string, fields: Record<string, unknown> = {}) =>
      void lines.push({ level, message, fields })
  const keeper = new RulesKeeper({
    source: source ?? EMPTY,
    targets: { upstreams: UPSTREAMS, defaultUpstream: 'proxy' },
    namesKnown: false,
    log: { info: line('info'), warn: line('warn'), error: line('error') },
    onRules: async rules => void used.push(rules),
  })
  t.teardown(() => keeper.close())
  return { keeper, used, lines }
}

/** The machine may have much else to do. */
const soon = (state: () => boolean, what: string) => until(state, what, 20_000)

/** The number of the rule that takes a flow to the port; 0: none. */
function ruleOf(loaded: LoadedRules | undefined, port: number, domain?: string): number {
  if (loaded?.kind !== 'tables') throw new Error('no tables')
  return match(loaded.rules, flow('tcp', '192.0.2.1', port, { domain })) + 1
}

const PORT_80 = '- to: office\n  port: 80\n'
const PORT_81 = '- to: office\n  port: 81\n'

test('rules-keeper: a file that is written in place, and one that takes its place, are read', async t => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'rules.yaml')
  writeFileSync(file, PORT_80)
  const { keeper, used, lines } = keep(t, { ...EMPTY, file })
  t.is(ruleOf(await keeper.load(), 80), 1)
  writeFileSync(file, PORT_81)
  await soon(() => used.length === 1, 'the change')
  t.is(ruleOf(used[0], 81), 1)
  writeFileSync(join(folder, 'rules.yaml.new'), PORT_80)
  renameSync(join(folder, 'rules.yaml.new'), file)
  await soon(() => used.length === 2, 'the rename')
  t.is(ruleOf(used[1], 80), 1)
  t.like(lines[0], { level: 'info', fields: { rules: 1 } })
  t.deepEqual(keeper.counters(), { rules_replaced: 2, rules_refused: 0 })
})

test('rules-keeper: a link that leads elsewhere by now, as Kubernetes does it', async t => {
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'one'), PORT_80)
  writeFileSync(join(folder, 'two'), PORT_81)
  symlinkSync('one', join(folder, 'data'))
  symlinkSync('data', join(folder, 'rules.yaml'))
  const { keeper, used } = keep(t, { ...EMPTY, file: join(folder, 'rules.yaml') })
  await keeper.load()
  symlinkSync('two', join(folder, 'data.new'))
  renameSync(join(folder, 'data.new'), join(folder, 'data'))
  await soon(() => used.length === 1, 'the change')
  t.is(ruleOf(used[0], 81), 1)
})

test('rules-keeper: a file behind a link to another folder is seen to change', async t => {
  const folder = temporaryFolder(t)
  const file = join(temporaryFolder(t), 'rules.yaml')
  writeFileSync(file, PORT_80)
  symlinkSync(file, join(folder, 'rules.yaml'))
  const { keeper, used } = keep(t, { ...EMPTY, file: join(folder, 'rules.yaml') })
  await keeper.load()
  writeFileSync(file, PORT_81)
  await soon(() => used.length === 1, 'the change')
  t.is(ruleOf(used[0], 81), 1)
})

test('rules-keeper: a wrong file that a link leads to by now is seen to be mended', async t => {
  const [folder, one, two] = [temporaryFolder(t), temporaryFolder(t), temporaryFolder(t)]
  writeFileSync(join(one, 'rules.yaml'), PORT_80)
  writeFileSync(join(two, 'rules.yaml'), '- to: ofice\n')
  symlinkSync(join(one, 'rules.yaml'), join(folder, 'rules.yaml'))
  const { keeper, used, lines } = keep(t, { ...EMPTY, file: join(folder, 'rules.yaml') })
  await keeper.load()
  symlinkSync(join(two, 'rules.yaml'), join(folder, 'rules.yaml.new'))
  renameSync(join(folder, 'rules.yaml.new'), join(folder, 'rules.yaml'))
  await soon(() => lines.length === 1, 'the error')
  writeFileSync(join(two, 'rules.yaml'), PORT_81)
  await until(() => used.length === 1, 'the right one', 5_000)
  t.is(ruleOf(used[0], 81), 1)
})

test('rules-keeper: a list that changes is read again, a list that is new is watched', async t => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'rules.yaml')
  writeFileSync(join(folder, 'names.txt'), 'one.example\n')
  writeFileSync(file, '- to: office\n  domainFile: names.txt\n')
  const { keeper, used } = keep(t, { ...EMPTY, file })
  t.is(ruleOf(await keeper.load(), 80, 'one.example'), 1)
  writeFileSync(join(folder, 'names.txt'), 'two.example\n')
  await soon(() => used.length === 1, 'the change of the list')
  t.is(ruleOf(used[0], 80, 'two.example'), 1)
  writeFileSync(join(folder, 'more.txt'), 'three.example\n')
  writeFileSync(file, '- to: office\n  domainFile: more.txt\n')
  await soon(() => used.length === 2, 'the change of the file')
  writeFileSync(join(folder, 'more.txt'), 'four.example\n')
  await soon(() => used.length === 3, 'the change of the new list')
  t.is(ruleOf(used[2], 80, 'four.example'), 1)
})

test('rules-keeper: a wrong file changes nothing, says file and line once, and the next right one is read', async t => {
  const file = join(temporaryFolder(t), 'rules.yaml')
  writeFileSync(file, PORT_80)
  const { keeper, used, lines } = keep(t, { ...EMPTY, file })
  await keeper.load()
  writeFileSync(file, `${PORT_80}- to: ofice\n`)
  await soon(() => lines.length === 1, 'the error')
  t.is(lines[0]!.level, 'error')
  t.regex(lines[0]!.message, /^the rules stay as they were: .*rules\.yaml:3: rule 2: to: found "ofice"/)
  t.is(lines[0]!.fields.code, 'CONFIG_FILE')
  t.is(used.length, 0)
  t.deepEqual(keeper.counters(), { rules_replaced: 0, rules_refused: 1 })
  rmSync(file)
  await soon(() => lines.length === 2, 'that it is gone')
  writeFileSync(file, PORT_81)
  await soon(() => used.length === 1, 'the right one')
  t.is(ruleOf(used[0], 81), 1)
})

test('rules-keeper: of other files of the folder nothing comes', async t => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'rules.yaml')
  writeFileSync(file, PORT_80)
  const { keeper, used } = keep(t, { ...EMPTY, file })
  await keeper.load()
  writeFileSync(join(folder, 'other.yaml'), PORT_81)
  await t.throwsAsync(until(() => used.length > 0, 'a reload', 500))
})

test('rules-keeper: reload() reads a source in the place of the former, and rejects what is wrong', async t => {
  const { keeper, used } = keep(t, undefined)
  await keeper.reload(rulesFromInput([{ to: 'lab', port: 80 }]))
  t.is(ruleOf(used[0], 80), 1)
  await t.throwsAsync(keeper.reload(rulesFromInput([{ to: 'nobody' }])), {
    instanceOf: ConfigError,
    message: /^rules: rule 1: to: found "nobody"/,
  })
  await keeper.reload()
  t.is(ruleOf(used[1], 80), 1, 'the last one that was right')
})

test('rules-keeper: a reload while it is loaded for the start comes behind it', async t => {
  const folder = temporaryFolder(t)
  const [slow, fast] = [join(folder, 'slow.mjs'), join(folder, 'fast.mjs')]
  writeFileSync(slow, 'await new Promise(resolve => setTimeout(resolve, 1_500))\nexport default () => {}')
  writeFileSync(fast, 'export default () => {}')
  const { keeper } = keep(t, { ...EMPTY, file: slow })
  const order: string[] = []
  await Promise.all([
    keeper.load().then(() => order.push('slow')),
    keeper.reload({ ...EMPTY, file: fast }).then(() => order.push('fast')),
  ])
  t.deepEqual(order, ['slow', 'fast'])
})

test('rules-keeper: reloads come one after the other, in order', async t => {
  const { keeper, used } = keep(t, undefined)
  const ports = [80, 81, 82]
  await Promise.all(ports.map(port => keeper.reload(rulesFromInput([{ to: 'lab', port }]))))
  t.deepEqual(
    used.map((loaded, at) => ruleOf(loaded, ports[at]!)),
    [1, 1, 1],
  )
})

test('rules-keeper: rules on names that are never known are warned of, and not where a rule looks for them', async t => {
  const { keeper, lines } = keep(t, undefined)
  const deaf = { to: 'lab', name: 'ours', domain: 'a.example' }
  await keeper.reload(rulesFromInput([deaf, { to: 'office', domain: 'b.example' }]))
  const warned = () => lines.filter(({ level }) => level === 'warn').map(({ message }) => message)
  t.deepEqual(warned(), [
    'rule 1 (ours) and 1 more: no flow has a name to match, for that takes sniff: true, or dns.mode map',
  ])
  await keeper.reload(rulesFromInput([deaf, { to: 'office', domain: 'b.example', sniff: true }]))
  await keeper.reload(rulesFromInput([{ to: 'lab', port: 80 }]))
  t.is(warned().length, 1)
})

// alone: that a script is wrong takes two processes, and has a time limit
test.serial('rules-keeper: a script is loaded once to see that it can be', async t => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'rules.mjs')
  writeFileSync(file, 'export default defineRules(() => undefined)')
  const { keeper, used, lines } = keep(t, { ...EMPTY, file })
  t.deepEqual(await keeper.load(), { kind: 'script', file })
  writeFileSync(file, 'export default')
  await soon(() => lines.length === 1, 'the error')
  t.regex(lines[0]!.message, /rules\.mjs:1: SyntaxError/)
  t.is(used.length, 0)
})

test('rules-keeper: what is under way when it is closed is given up', async t => {
  const { keeper, used, lines } = keep(t, undefined)
  const reload = keeper.reload(EMPTY)
  keeper.close()
  await t.throwsAsync(reload, { instanceOf: GatewayError, code: 'CLOSED' })
  t.is(used.length, 0)
  t.is(lines.length, 0)
})

test('watch-files: what is closed watches nothing any more', async t => {
  const folder = temporaryFolder(t)
  let changes = 0
  const watch = new FilesWatch(
    () => changes++,
    (_, reason) => t.fail(reason),
  )
  watch.close()
  watch.set([join(folder, 'rules.yaml')])
  writeFileSync(join(folder, 'rules.yaml'), PORT_80)
  await t.throwsAsync(until(() => changes > 0, 'a change', 500))
})
