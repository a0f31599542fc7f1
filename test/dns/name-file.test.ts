import { execFileSync } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { loadNames, MAX_NAME_FILE_BYTES, saveNames } from '../../src/dns/name-file.ts'
import { NAME_MAP_DEFAULTS, NameMap } from '../../src/dns/name-map.ts'
import { VirtualAddresses } from '../../src/dns/virtual-addresses.ts'
import { parseAddress } from '../../src/endpoint.ts'

const at = (text: string) => parseAddress(text)!
const network = { network4: at('198.18.0.0'), bits4: 15, own4: at('198.18.0.1'), prefix6: undefined }
const addresses = new VirtualAddresses(network)

async function place(t: ExecutionContext): Promise<{ folder: string; path: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'tungate-names-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return { folder, path: join(folder, 'names') }
}

function mapOf(names: readonly string[]): NameMap {
  const map = new NameMap(addresses)
  for (const name of names) map.assign(name, 0)
  return map
}

const many = (count: number) => Array.from({ length: count }, (_, index) => `host-${index}.example.org`)

test('name-file: what is written is read again, text and all', async t => {
  const { folder, path } = await place(t)
  await saveNames(path, mapOf(['a.example', '_b.example']).save(), addresses)
  t.regex(
    await readFile(path, 'latin1'),
    /^# tungate names 1, next 198\.18\.0\.4\n198\.18\.0\.2 a\.example\n198\.18\.0\.3 _b\.example\n# end 2 [0-9a-f]{8}\n$/,
  )
  const { names, next, damage } = await loadNames(path, addresses)
  t.deepEqual(
    [...names],
    [
      [0, 'a.example'],
      [1, '_b.example'],
    ],
  )
  t.is(next, 2)
  t.is(damage, undefined)
  t.deepEqual(await readdir(folder), ['names'])
  t.is((await stat(path)).mode & 0o777, 0o600)
})

test('name-file: 20,000 names, and they mean the same in a new map', async t => {
  const { path } = await place(t)
  const map = mapOf(many(20_000))
  await saveNames(path, map.save(), addresses)
  const again = new NameMap(addresses)
  again.restore(await loadNames(path, addresses), 0)
  t.is(again.size, 20_000)
  for (const name of many(20_000)) if (again.assign(name, 0) !== map.assign(name, 0)) return t.fail(name)
  t.is(again.revision, 0, 'nothing new to save')
})

test('name-file: a file that is not there is no damage', async t => {
  const { path } = await place(t)
  t.deepEqual(await loadNames(path, addresses), { names: [], next: 0, damage: undefined })
})

test('name-file: cut at any byte, or with any byte changed, it says so and gives nothing', async t => {
  const { path } = await place(t)
  await saveNames(path, mapOf(['a.example', 'b.example']).save(), addresses)
  const whole = await readFile(path)
  for (let length = whole.length - 1; length >= 0; length--) {
    await truncate(path, length)
    const { names, damage } = await loadNames(path, addresses)
    t.truthy(damage, `${length} bytes`)
    t.deepEqual(names, [])
  }
  for (let index = 0; index < whole.length; index++) {
    const changed = Buffer.from(whole)
    changed[index]! ^= 0x01
    await writeFile(path, changed)
    const { names, damage } = await loadNames(path, addresses)
    t.truthy(damage, `byte ${index}`)
    t.deepEqual(names, [])
  }
})

test('name-file: after damage new names begin anywhere', async t => {
  const { path } = await place(t)
  const starts = new Set<number>()
  await writeFile(path, 'not of ours')
  for (let count = 0; count < 8; count++) {
    const map = new NameMap(addresses)
    map.restore(await loadNames(path, addresses), 0)
    starts.add(map.assign('a.example', 0))
  }
  t.true(starts.size > 4)
})

test('name-file: sound by its checksum, but of wrong lines or another version', async t => {
  const { path } = await place(t)
  const { crc32 } = await import('node:zlib')
  const write = (body: string, count: number) =>
    writeFile(path, `${body}# end ${count} ${crc32(body).toString(16).padStart(8, '0')}\n`)
  const head = '# tungate names 1, next 198.18.0.2\n'
  for (const [body, count, why] of [
    [`${head}198.18.0.2 a\n`, 1, undefined],
    [`${head}198.18.0.2 a\n`, 2, 'lines are missing'],
    [`${head}198.18.0.2 a b\n`, 1, 'a line is no address and name'],
    [`${head}198.18.0.2 A\n`, 1, 'a line is no address and name'],
    [`${head}198.18.0 a\n`, 1, 'a line is no address and name'],
    [`${head}454.18.0.2 a\n`, 1, 'a line is no address and name'],
    ['# tungate names 2, next 198.18.0.2\n', 0, 'its first line is unknown'],
    ['# tungate names 1, next x\n', 0, 'its first line is unknown'],
  ] as const) {
    await write(body, count)
    t.is((await loadNames(path, addresses)).damage, why)
  }
})

test('name-file: one that is too long is not read', async t => {
  const { path } = await place(t)
  await writeFile(path, '')
  await truncate(path, MAX_NAME_FILE_BYTES + 1)
  t.regex((await loadNames(path, addresses)).damage ?? '', /^it has 33554433 bytes/)
})

test('name-file: addresses of another network are left out', async t => {
  const { path } = await place(t)
  await saveNames(path, mapOf(many(3)).save(), addresses)
  const other = new VirtualAddresses({ ...network, own4: at('198.18.0.2') })
  const { names, next, damage } = await loadNames(path, other)
  t.is(damage, undefined)
  t.deepEqual(
    [...names],
    [
      [0, 'host-1.example.org'],
      [1, 'host-2.example.org'],
    ],
  )
  t.is(next, 2)
})

test('name-file: where it cannot be written the old one stays, and nothing beside it', async t => {
  const { folder, path } = await place(t)
  await saveNames(path, mapOf(['a.example']).save(), addresses)
  const before = await readFile(path)
  const broken = {
    names: (function* () {
      yield [0, 'b.example'] as [number, string]
      throw new Error('no more')
    })(),
    next: 0,
  }
  await t.throwsAsync(saveNames(path, broken, addresses), { message: 'no more' })
  t.deepEqual(await readFile(path), before)
  t.deepEqual(await readdir(folder), ['names'])
  await t.throwsAsync(saveNames(join(folder, 'none', 'names'), mapOf([]).save(), addresses), { code: 'ENOENT' })
})

test('name-file: one that is there and cannot be read is an error', async t => {
  const { folder, path } = await place(t)
  await writeFile(path, '')
  await chmod(path, 0)
  // Root reads everything; a folder is no file for anybody.
  await t.throwsAsync(loadNames(folder, addresses), { message: /no regular file/ })
  if (process.getuid?.() !== 0) await t.throwsAsync(loadNames(path, addresses), { code: 'EACCES' })
})

test('name-file: what is no file is neither waited for nor replaced', async t => {
  const { folder, path } = await place(t)
  execFileSync('mkfifo', [path])
  await symlink('/dev/null', join(folder, 'nothing'))
  for (const each of [path, join(folder, 'nothing')]) {
    await t.throwsAsync(loadNames(each, addresses), { message: /no regular file/ })
    await t.throwsAsync(saveNames(each, mapOf(['a.example']).save(), addresses), { message: /no regular file/ })
  }
  t.true((await stat(path)).isFIFO())
  t.true((await stat(join(folder, 'nothing'))).isCharacterDevice())
})

test('name-file: names come and go while it is written', async t => {
  const { path } = await place(t)
  const map = new NameMap(addresses, { ...NAME_MAP_DEFAULTS, names: 10_000, holdSeconds: 0 })
  for (const name of many(10_000)) map.assign(name, 0)
  const { names, next } = map.save()
  const busy = {
    names: (function* () {
      let count = 0
      for (const pair of names) {
        yield pair
        map.assign(`new-${count++}.example.org`, 0)
      }
    })(),
    next,
  }
  await saveNames(path, busy, addresses)
  const loaded = await loadNames(path, addresses)
  t.is(loaded.damage, undefined)
  const again = new NameMap(addresses, { ...NAME_MAP_DEFAULTS, names: 10_000, holdSeconds: 0 })
  again.restore(loaded, 0)
  t.is(again.size, 5_000)
})
