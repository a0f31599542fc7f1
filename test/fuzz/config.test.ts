import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { parseFlags } from '../../src/config/flags.ts'
import { FormatError } from '../../src/config/format-error.ts'
import { addressWithPrefix, duration, integer } from '../../src/config/formats.ts'
import { flagOf, KEYS, variableOf } from '../../src/config/keys.ts'
import { type Loaded, loadConfig } from '../../src/config.ts'
import { formatAddress, parseAddress } from '../../src/endpoint.ts'
import { ConfigError } from '../../src/errors.ts'
import { temporaryFolder } from '../commands/tungate.ts'
import { Random } from './random.ts'
import { mutateText } from './texts.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const SECRET = 'S3cr3tZq'
const PROXY = `socks5://user:${SECRET}@proxy.example:1080`
const CODES = ['CONFIG_FILE', 'CONFIG_KEY', 'CONFIG_VALUE', 'USAGE']
const SIGNS = [
  '\n',
  ': ',
  '- ',
  '#',
  '"',
  "'",
  '{',
  '}',
  '[',
  ']',
  '&a ',
  '*a',
  '!x ',
  '|',
  '>',
  '%',
  '\t',
  '\0',
  '\u2028',
  ',',
  '@',
  ':',
]
const WORDS = [
  'null',
  'true',
  '1e3',
  '0x10',
  '-1',
  '99999999999',
  '1h',
  '10s',
  '::1',
  '198.18.0.1/15',
  'auto',
  'none',
  '../',
  PROXY,
]
const DICTIONARY = [...SIGNS, ...WORDS, ...KEYS.map(key => key.path)]

/** An error of the documented kind, on one line, with nothing of the password in it. */
function checkError(t: ExecutionContext, error: unknown, input: string): void {
  if (!(error instanceof ConfigError)) return t.fail(`${JSON.stringify(input)}: ${String(error)}`)
  if (!CODES.includes(error.code)) t.fail(`${JSON.stringify(input)}: code ${error.code}`)
  if (/\p{Cc}|\u2028|\u2029/u.test(error.message) || error.message.length > 1000)
    t.fail(`${JSON.stringify(input)}: not one line: ${JSON.stringify(error.message)}`)
  if (error.message.includes(SECRET)) t.fail(`${JSON.stringify(input)}: the password in ${error.message}`)
}

/** What was taken can be shown and given again, and shows no password. */
function checkLoaded(t: ExecutionContext, { shown, config }: Loaded, input: string): void {
  for (const key of KEYS) {
    const text = shown.get(key.path)!
    if (key.secret && text.includes(SECRET) && JSON.stringify(config.upstreams).includes(`"password":"${SECRET}"`))
      t.fail(`${JSON.stringify(input)}: the password is shown`)
    if (!key.secret) t.is(String(key.format.parse(text)), String(key.format.parse(text)))
  }
}

/** A text that was cut so that the secret stands alone, as the name of a key, is no secret that we could know. */
const isBare = (text: string) =>
  new RegExp(`(^|[^:\\w/@])"?'?${SECRET}`, 'm').test(text) || !text.includes(`:${SECRET}@`)

for (const [name, type] of [
  ['default.yaml', 'yaml'],
  ['system-wide.yaml', 'yaml'],
  ['default.json', 'json'],
] as const)
  test.serial(`fuzz: ${name}, mutated: taken, or one line of a documented error without the password`, t => {
    const random = new Random(name.length)
    const file = join(temporaryFolder(t), `gateway.${type}`)
    const template = templateOf(name)
    let taken = 0
    for (let round = 0; round < 1_000; round++) {
      const text = mutateText(template, DICTIONARY, random)
      if (text.includes(SECRET) && isBare(text)) continue
      writeFileSync(file, text)
      const start = performance.now()
      try {
        checkLoaded(t, loadConfig({ environment: {}, flags: [], file, uid: 1000, requireProxy: false }), text)
        taken++
      } catch (error) {
        checkError(t, error, text)
        if (error instanceof ConfigError && !error.message.includes(file) && !namesKey(error.message))
          t.fail(`neither file nor key in: ${error.message}`)
      }
      if (performance.now() - start > 5_000) t.fail(`too slow: ${JSON.stringify(text)}`)
    }
    t.true(taken > 20, `${taken} of the mutations are right`)
  })

function templateOf(name: string): string {
  if (name.endsWith('.json'))
    return JSON.stringify(
      { proxy: PROXY, tun: { mtu: 1500 }, tcp: { idleTimeout: '2h' }, log: { level: 'info' } },
      null,
      1,
    )
  const text = readFileSync(`${root}config/${name}`, 'utf8').replace(/^ *#.*\n/gm, '')
  return /^proxy:.*$/m.test(text) ? text.replace(/^proxy:.*$/m, `proxy: ${PROXY}`) : `proxy: ${PROXY}\n${text}`
}

const namesKey = (message: string) => KEYS.some(key => message.includes(key.path))

test('fuzz: flags and variables, mutated: taken, or one line of a documented error that names the flag or the variable', t => {
  const random = new Random(3)
  let taken = 0
  for (let round = 0; round < 3_000; round++) {
    const key = random.pick(KEYS)
    const isNamed = key.path === 'upstreams'
    const seed = isNamed ? `{office: '${PROXY}', all: {group: failover, members: [office]}}` : PROXY
    const value = mutateText(key.secret ? seed : key.format.print(key.default), DICTIONARY, random)
    const isFlag = random.once(2)
    const isNameSound = !isFlag || !random.once(10)
    const name = isFlag ? flagOf(key) : variableOf(key)
    if ((!key.secret || isNamed) && value.includes(SECRET) && isBare(value)) continue
    try {
      const args = isFlag ? [`${isNameSound ? name : mutateText(name, DICTIONARY, random)}=${value}`] : []
      const { flags } = parseFlags(args, { command: 'run', paths: 'all', switches: [] })
      const environment = isFlag ? {} : { [name]: value }
      checkLoaded(t, loadConfig({ environment, flags, uid: 1000, requireProxy: false }), value)
      taken++
    } catch (error) {
      checkError(t, error, `${name}=${value}`)
      if (isNameSound && error instanceof ConfigError && !error.message.includes(name))
        t.fail(`${name} is not named in: ${error.message}`)
    }
  }
  t.true(taken > 50, `${taken} of the mutations are right`)
})

test('fuzz: addresses: what is formatted is parsed back, what is parsed is formatted and parsed the same', t => {
  const random = new Random(5)
  const seeds = ['203.0.113.7', '2001:db8::7', '::', '::ffff:1.2.3.4', '1:2:3:4:5:6:7:8', 'fe80::1:0:0:1']
  let taken = 0
  for (let round = 0; round < 20_000; round++) {
    const bytes = random.bytes(random.once(2) ? 4 : 16)
    if (random.once(2)) bytes.fill(0, random.below(bytes.length), random.below(bytes.length) + 1)
    t.deepEqual(Buffer.from(parseAddress(formatAddress(bytes))!), bytes)
    const text = mutateText(random.pick(seeds), [':', '::', '.', '0', 'ffff', '256', '00', '1.2.3.4'], random)
    const parsed = parseAddress(text)
    if (parsed === undefined) continue
    taken++
    t.true(parsed.length === 4 || parsed.length === 16)
    t.deepEqual(parseAddress(formatAddress(parsed)), parsed)
  }
  t.true(taken > 1_000)
})

test('fuzz: formats: what is taken is printed and taken the same, what is not is a FormatError', t => {
  const random = new Random(6)
  const formats = [duration(10, 86_400_000, 'off'), integer(0, 65_535), addressWithPrefix(4), addressWithPrefix(6)]
  const seeds = ['10s', '1500ms', '2h', '0', '65535', '198.18.0.1/15', 'fd74:756e::1/64']
  let taken = 0
  for (let round = 0; round < 20_000; round++) {
    const text = mutateText(
      random.pick(seeds),
      ['0', '9', 'ms', 's', 'm', 'h', '/', '/0', ' ', '-', '.', ':', 'e3'],
      random,
    )
    for (const format of formats) {
      try {
        const value = format.parse(text)
        taken++
        t.is(format.parse(format.print(value)), value)
      } catch (error) {
        if (!(error instanceof FormatError)) return t.fail(`${JSON.stringify(text)}: ${String(error)}`)
      }
    }
  }
  t.true(taken > 1_000)
})
