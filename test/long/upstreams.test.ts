/** The second table of docs/UPSTREAMS.md. Slow: the largest datagram is searched for, and what is lost is waited for. */
import { createHash } from 'node:crypto'
import test from 'ava'
import { lacking, SERVERS, USER } from '../integration/upstream-servers.ts'
import { LONG_COLUMNS, LONG_TABLE, type UpstreamName } from '../integration/upstream-table.ts'
import { upstreamsForFile } from '../integration/upstream-world.ts'
import { DEST4, skip, until, untilAtRest } from '../integration/world.ts'

const BULK_BYTES = 20_000_000
const LINE = '0123456789abcde\n'
const BULK_SHA256 = createHash('sha256')
  .update(LINE.repeat(BULK_BYTES / LINE.length))
  .digest('hex')
/** Both directions were full at once, or by chance not. */
const AT_TIMES = 'stands still at times'
/** Without a byte for so long it stands still, milliseconds. */
const STILL_MS = 3_000
/** A datagram that is not answered is taken for lost, and sent once more, milliseconds. */
const LOST_MS = 500

const upstreams = upstreamsForFile()

/** Both directions are full for as long as it takes. */
async function bulk(): Promise<string> {
  const { near } = upstreams.world
  const { id, code } = await near.call('dial', DEST4, 7001)
  if (code !== '') return code
  await near.call('write', id, LINE, BULK_BYTES / LINE.length)
  let [seen, since] = [-1, 0]
  const isOver = async () => {
    const { bytes } = await near.call('view', id)
    if (bytes !== seen) [seen, since] = [bytes, performance.now()]
    return bytes >= BULK_BYTES || performance.now() - since > STILL_MS
  }
  await until(isOver, 'its end', 60_000)
  const { bytes, sha256, closed, error } = await near.call('view', id)
  await near.call('reset', id)
  if (bytes === BULK_BYTES) return sha256 === BULK_SHA256 ? 'exact' : 'other bytes'
  return closed ? `closed after ${bytes} bytes: ${error}` : AT_TIMES
}

/** How many echoes come back while all of them are open. */
async function many(): Promise<number> {
  const { near } = upstreams.world
  const ids = await near.call('dialMany', DEST4, 7001, 500)
  for (const id of ids) await near.call('write', id, 'hello')
  const good = async () => {
    const views = await Promise.all(ids.map(id => near.call('view', id)))
    return views.filter(({ text }) => text === 'hello').length
  }
  await until(async () => (await good()) === ids.length, 'all echoes', 10_000).catch(() => undefined)
  const count = await good()
  await near.call('destroy', ids)
  return count
}

/** An echo of `bytes` bytes, each from an endpoint of its own. */
async function echoes(bytes: number): Promise<boolean> {
  const { near } = upstreams.world
  const { id } = await near.call('openUdp', '0.0.0.0')
  try {
    await near.call('connectUdp', id, DEST4, 7)
    const sha256 = await near.call('sendUdp', id, bytes)
    const got = async () => (await near.call('viewUdp', id)).got
    await until(async () => (await got()).length > 0, 'the echo', LOST_MS).catch(() => undefined)
    return (await got())[0]?.sha256 === sha256
  } finally {
    await near.call('closeUdp', id)
  }
}

async function largestDatagram(): Promise<number> {
  let [passes, fails] = [1_000, 65_508]
  while (fails - passes > 1) {
    const bytes = (passes + fails) >> 1
    if ((await echoes(bytes)) || (await echoes(bytes))) passes = bytes
    else fails = bytes
  }
  return passes
}

/** Whether a client is given what another address sends to its relay. */
async function strangerIsHeard(): Promise<'yes' | 'no'> {
  const { near, far } = upstreams.world
  const client = await near.call('openUdp', '0.0.0.0')
  const [asked, stranger] = [await far.call('openUdp', DEST4), await far.call('openUdp', '203.0.113.99')]
  try {
    await near.call('sendUdp', client.id, 5, asked.port, DEST4)
    const came = async () => (await far.call('viewUdp', asked.id)).got
    await until(async () => (await came()).length > 0, 'the datagram')
    const [{ from, port } = { from: '', port: 0 }] = await came()
    const heard = async () => (await near.call('viewUdp', client.id)).got.length
    // what comes behind it shows that it does not come
    await far.call('sendUdp', stranger.id, 6, port, from)
    await far.call('sendUdp', asked.id, 7, port, from)
    await until(async () => (await heard()) > 0, 'an answer')
    await until(async () => (await heard()) > 1, 'the second', LOST_MS).catch(() => undefined)
    return (await heard()) > 1 ? 'yes' : 'no'
  } finally {
    await near.call('closeUdp', client.id)
    for (const { id } of [asked, stranger]) await far.call('closeUdp', id)
  }
}

for (const [name, row] of Object.entries(LONG_TABLE) as [UpstreamName, (typeof LONG_TABLE)[UpstreamName]][]) {
  const cell = (column: keyof typeof LONG_COLUMNS, measure: () => Promise<string | number>) =>
    test.serial(`upstreams: ${name}: ${LONG_COLUMNS[column]}: ${row[column]}`, async t => {
      const reason = lacking(SERVERS[name])
      if (reason !== '') return skip(t, reason)
      await upstreams.through(name, USER)
      const answer = await measure()
      if (row[column] === AT_TIMES) t.true(answer === AT_TIMES || answer === 'exact', String(answer))
      else t.is(answer, row[column])
      await untilAtRest(upstreams.gateway)
    })
  cell('bulk', bulk)
  cell('many', many)
  if (row.largest > 0) cell('largest', largestDatagram)
  if (row.stranger !== 'none') cell('stranger', strangerIsHeard)
}
