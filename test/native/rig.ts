/** What the tests of the addon stand on: a network namespace held by a process, and an Io with some memory. */
import { execFileSync, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { userInfo } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { addon, type Io } from '../../src/io/addon.ts'

export const addonPath = fileURLToPath(new URL('../../../native/tungate.node', import.meta.url))
export const isRoot = userInfo().uid === 0

export function canOpenTun(): boolean {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

export interface Namespace {
  readonly pid: number
  /** Runs a command inside and returns its output; throws when it fails. */
  run(command: string, ...args: string[]): string
  /** Is there a device of this name inside? */
  has(device: string): boolean
}

/** A network namespace that ends with the test; with a user namespace of its own when `user` is set. */
export async function openNamespace(t: ExecutionContext, user = !isRoot): Promise<Namespace> {
  const holder = spawn('unshare', [user ? '-Urn' : '-n', 'sh', '-c', 'echo in; exec sleep 100'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => holder.kill('SIGKILL'))
  await new Promise<void>((resolve, reject) => {
    holder.stdout.once('data', () => resolve())
    holder.once('error', reject)
    holder.once('exit', code => reject(new Error(`unshare ended with ${code}`)))
  })
  const pid = holder.pid!
  const enter = ['-t', `${pid}`, '-n', ...(user ? ['-U', '--preserve-credentials'] : []), '--']
  const run = (command: string, ...args: string[]) =>
    execFileSync('nsenter', [...enter, command, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const has = (device: string) => {
    const links = JSON.parse(run('ip', '-j', 'link')) as { ifname: string }[]
    return links.some(link => link.ifname === device)
  }
  return { pid, run, has }
}

/** Polls until `condition` holds; throws after 5 seconds. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 5000; !condition(); await delay(2))
    if (Date.now() > end) throw new Error(`not within 5 s: ${what}`)
}

export const SLOT_BYTES = 4096
const SLOTS = 0
const IOVECS = 4096
const MESSAGES = 8192
const FOUND = 16384
const DATA = 65536

export interface Rig {
  readonly io: Io
  readonly bytes: Uint8Array
  /** All events so far, in order, as `[token, events]`. */
  readonly events: [number, number][]
  /** Events of one token, or'ed. */
  seen(token: number): number
  /** Lays the parts into memory and an iovec table over them; returns the arguments for readv and writev. */
  iovecs(...parts: (Uint8Array | number)[]): [table: number, count: number]
  /** Lays messages of several parts each into memory; returns the arguments for writePackets and sendDatagrams. */
  messages(...messages: Uint8Array[][]): [messages: number, iovecs: number, count: number]
  /** Prepares a table of slots; returns the arguments for readPackets. */
  slots(count: number): [slots: number, count: number, slotBytes: number]
  /** The same for recvDatagrams, of at most 8 slots. */
  landing(count: number): [slots: number, count: number, slotBytes: number, found: number]
  /** Of row `at` that recvDatagrams found. */
  foundLength(at: number): number
  found(at: number): Uint8Array
  slotLength(at: number): number
  slot(at: number): Uint8Array
  /** The bytes of one part of the last iovecs(). */
  part(at: number): Uint8Array
}

export function openRig(t: ExecutionContext, readyRows = 64): Rig {
  const memory = new ArrayBuffer(1 << 20)
  const bytes = new Uint8Array(memory)
  const words = new Uint32Array(memory)
  const ready = new Int32Array(2 * readyRows)
  const events: [number, number][] = []
  const io = new addon.Io(memory, ready, count => {
    for (let at = 0; at < count; at++) events.push([ready[2 * at]!, ready[2 * at + 1]!])
  })
  t.teardown(() => io.close())
  let end = DATA
  const putRow = (row: number, part: Uint8Array | number) => {
    const length = typeof part === 'number' ? part : part.length
    if (typeof part !== 'number') bytes.set(part, end)
    words[row] = end
    words[row + 1] = length
    end += length + 3
  }
  const rowBytes = (row: number) => bytes.subarray(words[row]!, words[row]! + words[row + 1]!)
  return {
    io,
    bytes,
    events,
    seen: token => events.reduce((all, [of, bits]) => (of === token ? all | bits : all), 0),
    iovecs(...parts) {
      end = DATA
      for (const [at, part] of parts.entries()) putRow(IOVECS / 4 + 2 * at, part)
      return [IOVECS, parts.length]
    },
    messages(...messages) {
      end = DATA
      let row = 0
      messages.forEach((parts, at) => {
        words.set([row, parts.length, 0], MESSAGES / 4 + 3 * at)
        for (const part of parts) putRow(IOVECS / 4 + 2 * row++, part)
      })
      return [MESSAGES, IOVECS, messages.length]
    },
    slots(count) {
      for (let at = 0; at < count; at++) words.set([DATA + at * SLOT_BYTES, 0], SLOTS / 4 + 2 * at)
      return [SLOTS, count, SLOT_BYTES]
    },
    landing(count) {
      return [...this.slots(count), FOUND]
    },
    foundLength: at => words[FOUND / 4 + 2 * at + 1]!,
    found: at => rowBytes(FOUND / 4 + 2 * at),
    slotLength: at => words[SLOTS / 4 + 2 * at + 1]!,
    slot: at => rowBytes(SLOTS / 4 + 2 * at),
    part: at => rowBytes(IOVECS / 4 + 2 * at),
  }
}

/** Closes a descriptor of the addon at the end of the test. */
export function owned(t: ExecutionContext, fd: number): number {
  if (fd < 0) throw new Error(addon.errnoName(fd))
  t.teardown(() => addon.close(fd, false))
  return fd
}
