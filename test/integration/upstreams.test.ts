/** Each cell of the table in docs/UPSTREAMS.md, through a real tun and the real server. */
import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { lacking, NAME, SERVERS, SILENT4, UNREACHABLE, USER, WRONG } from './upstream-servers.ts'
import { answerOf, COLUMNS, type Column, longMarkdown, markdown, TABLE, type UpstreamName } from './upstream-table.ts'
import { upstreamsForFile } from './upstream-world.ts'
import { DEST4, DEST6, NOWHERE4, skip, until } from './world.ts'

/** For an answer, beside other work, milliseconds. */
const PATIENCE_MS = 10_000
/** Without an answer it is silence: more than any answer of these servers takes. */
const SILENCE_MS = 600
/** In no route of the server namespace. */
const NOWHERE = [NOWHERE4, '2001:db8:beef::7'] as const

const upstreams = upstreamsForFile()

async function dial(host: string, port: number, patienceMs = PATIENCE_MS): Promise<string> {
  const { id, code } = await upstreams.world.near.call('dial', host, port, patienceMs)
  if (code !== '') return code === 'STILL_CONNECTING' ? 'silence' : code
  await upstreams.world.near.call('write', id, 'hello')
  const view = () => upstreams.world.near.call('view', id)
  await until(async () => (await view()).closed || (await view()).bytes === 5, 'the echo')
  const { text, error } = await view()
  await upstreams.world.near.call('destroy', [id])
  return text === 'hello' ? 'works' : `connected, then ${error || 'the end'}`
}

/** The server answers the client's end. */
async function answerAfterEnd(): Promise<string> {
  const { id } = await upstreams.world.near.call('dial', DEST4, 7002)
  await upstreams.world.near.call('write', id, 'hello')
  await upstreams.world.near.call('end', id)
  await until(async () => (await upstreams.world.near.call('view', id)).closed, 'the end')
  return (await upstreams.world.near.call('view', id)).text === '5 bytes' ? 'works' : 'lost'
}

/** The same of IPv4 and IPv6, or both. */
async function dialBoth([four, six]: readonly [string, string], port: number): Promise<string> {
  const [one, other] = [await dial(four, port), await dial(six, port)]
  return one === other ? one : `${one}, ${other} over IPv6`
}

async function sendDatagram(host: string, port: number): Promise<string> {
  const { id } = await upstreams.world.near.call('openUdp', host.includes(':') ? '::' : '0.0.0.0')
  try {
    await upstreams.world.near.call('connectUdp', id, host, port)
    const sha256 = await upstreams.world.near.call('sendUdp', id, 1200)
    const view = () => upstreams.world.near.call('viewUdp', id)
    await until(async () => (await view()).got.length > 0 || (await view()).error !== '', 'an answer')
    const { got, error } = await view()
    return error || (got[0]!.sha256 === sha256 ? 'works' : 'another datagram')
  } finally {
    await upstreams.world.near.call('closeUdp', id)
  }
}

const PROBES: { readonly [column in Exclude<Column, 'wrong'>]: () => Promise<string> } = {
  tcp4: () => dial(DEST4, 7001),
  tcp6: () => dial(DEST6, 7001),
  names: () => dial(NAME, 7001),
  noName: () => dial('nobody.example', 7001),
  halfClose: answerAfterEnd,
  udp: async () => {
    const [one, other] = [await sendDatagram(DEST4, 7), await sendDatagram(DEST6, 7)]
    return one === other ? one : `${one}, ${other} over IPv6`
  },
  // all cells show it; here it was accepted, and the next one tells what becomes of another
  password: () => dial(DEST4, 7001),
  refused: () => dialBoth([DEST4, DEST6], 7999),
  noRoute: () => dialBoth(NOWHERE, 80),
  unreachable: () => dialBoth(UNREACHABLE, 80),
  silent: () => dial(SILENT4, 80, SILENCE_MS),
}

/** Ten clients, one warning that says why, and no password in the log. */
async function wrongPassword(t: ExecutionContext): Promise<string> {
  const answers = new Set<string>()
  for (let count = 0; count < 10; count++) answers.add(await dial(DEST4, 7001))
  const warnings = upstreams.gateway.lines().filter(line => line.level === 'warn')
  t.is(warnings.length, 1, JSON.stringify(warnings))
  t.regex(JSON.stringify(warnings[0]), /user name and password|password/)
  t.false(upstreams.gateway.text.includes(WRONG.password))
  return [...answers].join(', ')
}

for (const [name, row] of Object.entries(TABLE) as [UpstreamName, (typeof TABLE)[UpstreamName]][])
  for (const [column, title] of Object.entries(COLUMNS) as [Column, string][]) {
    const answer = answerOf(row[column])
    if (answer === 'none') continue
    test.serial(`upstreams: ${name}: ${title}: ${answer}`, async t => {
      const reason = lacking(SERVERS[name])
      if (reason !== '') return skip(t, reason)
      await upstreams.through(name, column === 'wrong' ? WRONG : USER)
      t.is(column === 'wrong' ? await wrongPassword(t) : await PROBES[column](), answer)
    })
  }

test('upstreams: docs/UPSTREAMS.md has these tables', t => {
  const page = readFileSync(new URL('../../../docs/UPSTREAMS.md', import.meta.url), 'utf8')
  const lines = page.split('\n')
  for (const table of [markdown(), longMarkdown()]) {
    const at = lines.indexOf(table[0]!)
    t.deepEqual(at < 0 ? [] : lines.slice(at, at + table.length), table, table.join('\n'))
  }
})
