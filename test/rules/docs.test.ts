/** The examples of docs/rules.md do what it says. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { explainFlow } from '../../src/commands/explain.ts'
import { loadConfig } from '../../src/config.ts'
import { compileText } from '../../src/rules/compile.ts'
import { loadScript } from '../../src/rules/script.ts'
import { temporaryFolder } from '../commands/tungate.ts'
import { flow } from './rig.ts'

const guide = readFileSync(new URL('../../../docs/rules.md', import.meta.url), 'utf8')

function examples(kind: string): string[] {
  return [...guide.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(match => match[1] === kind).map(match => match[2]!)
}

function folderWithLists(t: { teardown(fn: () => void): void }): string {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'lists'))
  for (const name of ['ads', 'trackers']) writeFileSync(join(folder, `lists/${name}.txt`), 'ads.example\n')
  writeFileSync(join(folder, 'lists/nets.txt'), '192.0.2.0/24\n')
  return folder
}

test('docs/rules.md: each example is a list of rules', t => {
  const folder = folderWithLists(t)
  const all = examples('yaml')
  t.true(all.length >= 3)
  for (const text of all) {
    const rules = compileText(text, {
      file: 'rules.md',
      folder,
      upstreams: ['proxy', 'office'],
      defaultUpstream: 'proxy',
    })
    t.true(rules.summaries.length > 0, text)
  }
})

test('docs/rules.md: explain says what stands there', async t => {
  const folder = folderWithLists(t)
  const [rules] = examples('yaml')
  const file = join(folder, 'gateway.yaml')
  const indented = rules!.replace(/^/gm, '  ').trimEnd()
  writeFileSync(file, `proxy: socks5://10.9.0.1\nupstreams: { office: socks5://10.9.0.2 }\nrules:\n${indented}\n`)
  const { config } = loadConfig({ environment: {}, flags: [], uid: 0, requireProxy: true, file })
  const all = examples('console')
  t.true(all.length > 0)
  for (const text of all) {
    const [command, ...lines] = text.trimEnd().split('\n')
    const words = command!.split(' ').slice(3, 5)
    t.is(await explainFlow(config, { words, values: new Map(), json: false }), `${lines.join('\n')}\n`)
  }
})

test('docs/rules.md: the script gives its verdicts', async t => {
  const file = join(temporaryFolder(t), 'rules.mjs')
  const [text] = examples('js')
  writeFileSync(file, text!)
  const limits = { verdictMs: 5_000 }
  const script = await loadScript({ file, upstreams: ['proxy', 'office'], onComplaint: line => t.fail(line), limits })
  t.teardown(() => script.close())
  t.deepEqual(await script.verdict(flow('udp', '192.0.2.1', 443)), { kind: 'reject' })
  t.is(await script.verdict(flow('tcp', '192.0.2.1', 443)), undefined)
  const backup = await script.verdict(flow('tcp', 'a.backup.example', 22))
  t.true(backup?.kind === 'drop' || (backup?.kind === 'upstream' && backup.name === 'office'))
})

test('docs/rules.md: each key of a rule has its row', t => {
  const keys = ['protocol', 'source', 'destination', 'destinationFile', 'port', 'domain', 'domainSuffix', 'domainFile']
  for (const key of [...keys, 'domainSuffixFile', 'sniff']) t.true(guide.includes(`| \`${key}\` |`), key)
})
