/**
 * The names of a map in a file, so that addresses mean the same after a restart. Text, a line for each, first the one that
 * gives way first:
 *
 * ```
 * # tungate names 1, next 198.18.16.9
 * 198.18.0.2 www.example.org
 * # end 1 5d41402a
 * ```
 *
 * The last line has their number and the CRC-32 of what stands before it: a wrong name would lead a client to somebody else, so a
 * file that is not whole is not used at all.
 */
import { randomInt } from 'node:crypto'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'

import { formatAddress, parseAddress } from '../endpoint.ts'
import type { SavedNames } from './name-map.ts'
import { NO_INDEX, type VirtualAddresses } from './virtual-addresses.ts'

/** 131,072 names of 200 characters. */
export const MAX_NAME_FILE_BYTES = 32 << 20

const HEAD = /^# tungate names 1, next (\S+)$/
const END = /^# end (\d+) ([0-9a-f]{8})\n$/
const NEW_LINE = 0x0a
const SPACE = 0x20
const DOT = 0x2e
/** Written at a time, so that packets need not wait for the whole. */
const LINES_AT_ONCE = 2_048

export interface LoadedNames extends SavedNames {
  /** Why there are none, for the log; undefined where the file is whole, or not there. */
  readonly damage: string | undefined
}

/**
 * Writes the file anew beside the old one (`.new`), forces it to the disk and puts it in its place: at any moment one of
 * the two is there whole. Readable for its owner alone. Rejects with the error of the file system; the old file is then still
 * there, as is what is no regular file. Not to be called again before it is done.
 */
export async function saveNames(path: string, saved: SavedNames, addresses: VirtualAddresses): Promise<void> {
  const draft = `${path}.new`
  await sizeOf(path)
  try {
    const file = await open(draft, 'w', 0o600)
    try {
      let checksum = 0
      const write = async (text: string) => {
        checksum = crc32(text, checksum)
        await file.write(text)
      }
      await write(`# tungate names 1, next ${formatAddress(addresses.address4(saved.next))}\n`)
      let count = 0
      let text = ''
      for (const [index, name] of saved.names) {
        text += `${formatAddress(addresses.address4(index))} ${name}\n`
        if (++count % LINES_AT_ONCE !== 0) continue
        await write(text)
        text = ''
      }
      await write(text)
      await file.write(`# end ${count} ${hex(checksum)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {})
    throw error
  }
  await syncFolder(dirname(path))
}

/** The new name of the file is on the disk, too. A file system that cannot do that has at least the file. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r').catch(() => undefined)
  await folder?.sync().catch(() => {})
  await folder?.close()
}

/**
 * Reads the file. One that is not there gives no names; neither does a damaged one, and then new names begin
 * anywhere, so that hardly any address means something else than before. Addresses that are not ours any more are left out.
 * Rejects where the file is there and cannot be read.
 */
export async function loadNames(path: string, addresses: VirtualAddresses): Promise<LoadedNames> {
  const bytes = await sizeOf(path)
  if (bytes === undefined) return { names: [], next: 0, damage: undefined }
  if (bytes > MAX_NAME_FILE_BYTES) return damaged(`it has ${bytes} bytes, ${MAX_NAME_FILE_BYTES} at most are read`)
  return parseNames(await readFile(path), addresses)
}

/** Undefined where there is none. To read from a pipe could take for ever, and a device is nobody's to replace. */
async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  if (found?.isFile() === false) throw new Error('it is no regular file')
  return found?.size
}

function damaged(damage: string): LoadedNames {
  return { names: [], next: randomInt(2 ** 24), damage }
}

function parseNames(bytes: Buffer, addresses: VirtualAddresses): LoadedNames {
  const endAt = bytes.lastIndexOf(NEW_LINE, bytes.length - 2) + 1
  const end = END.exec(bytes.toString('latin1', endAt))
  if (end === null) return damaged('its end is missing')
  const body = bytes.subarray(0, endAt)
  if (hex(crc32(body)) !== end[2]) return damaged('its checksum is wrong')
  const headEnd = body.indexOf(NEW_LINE)
  const next = parseAddress(HEAD.exec(body.toString('latin1', 0, headEnd))?.[1] ?? '')
  if (next === undefined) return damaged('its first line is unknown')
  const names: [number, string][] = []
  let count = 0
  for (let at = headEnd + 1; at < endAt; count++) {
    const lineEnd = body.indexOf(NEW_LINE, at)
    const nameAt = parseLine(body, at, lineEnd)
    if (nameAt === NO_LINE) return damaged('a line is no address and name')
    const index = addresses.indexOf(lineAddress)
    if (index !== NO_INDEX) names.push([index, body.toString('latin1', nameAt, lineEnd)])
    at = lineEnd + 1
  }
  if (count !== Number(end[1])) return damaged('lines are missing')
  return { names, next: Math.max(addresses.indexOf(next), 0), damage: undefined }
}

const NO_LINE = -1
const MAX_NAME_LENGTH = 253
const NAME_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => (/[a-z0-9_.-]/.test(String.fromCharCode(byte)) ? 1 : 0))
const lineAddress = new Uint8Array(4)

/**
 * An address, which goes into `lineAddress`, a space and a name: where the name begins. By hand, for a full file has 130,000 lines,
 * and is read while a gateway starts.
 */
function parseLine(bytes: Uint8Array, at: number, end: number): number {
  let next = at
  for (let part = 0; part < 4; part++) {
    const from = next
    let value = 0
    for (; next < end && bytes[next]! >= 0x30 && bytes[next]! <= 0x39; next++) value = value * 10 + bytes[next]! - 0x30
    const follows = part < 3 ? DOT : SPACE
    if (next === from || next > from + 3 || value > 255 || bytes[next] !== follows) return NO_LINE
    lineAddress[part] = value
    next++
  }
  if (next >= end || end - next > MAX_NAME_LENGTH) return NO_LINE
  for (let index = next; index < end; index++) if (NAME_BYTE[bytes[index]!] === 0) return NO_LINE
  return next
}

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0')
}
