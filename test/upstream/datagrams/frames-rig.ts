/** An association whose tables lie in the memory of rig.ts: what is sent and received through it, as a test writes it. */
import type { ExecutionContext } from 'ava'
import { parseAddress } from '../../../src/endpoint.ts'
import type { Association, AssociationListener, DatagramFields, DialError } from '../../../src/upstream/dialer.ts'
import { type Step, startBadSocks } from '../../helpers/bad-socks.ts'
import { until } from '../../helpers/sockets.ts'
import { frame } from '../../helpers/udp-in-tcp.ts'
import { CLIENT, DATA, open, type Rig, SCRATCH, silent } from '../rig.ts'

/** Places of the memory of the rig: what is sent, the slot of what comes, and the rows that tell of it. */
export const SENT = DATA
export const SLOT = 131_072
export const SLOT_BYTES = 65_536
export const FOUND = 262_144
export const OTHER = 524_288
export const EAGAIN = -11
export const TRUNCATED = 0xffff_ffff
/** For what comes in many pieces, on a machine that is busy. */
export const PATIENCE_MS = 30_000

export const ASKED: readonly Step[] = ['greeting', { send: [5, 0] }, 'request']
export const STANDS: readonly Step[] = [...ASKED, { send: [5, 0, 0, 1, 0, 0, 0, 0, 0, 0] }]

export interface Heard {
  made: Association[]
  failed: DialError[]
  datagrams: number
  /** At each event of datagrams. */
  onDatagrams?: () => void
}

export function associate(t: ExecutionContext, { dialer }: Rig, name?: string) {
  const heard: Heard = { made: [], failed: [], datagrams: 0 }
  const listener: AssociationListener = {
    onAssociated: association => heard.made.push(association),
    onAssociationFailed: error => heard.failed.push(error),
    onDatagrams() {
      heard.datagrams++
      heard.onDatagrams?.()
    },
  }
  const associating = dialer.associate(CLIENT, listener, name)
  t.teardown(() => (heard.made[0] ?? associating).close())
  return heard
}

export async function stand(t: ExecutionContext, script: readonly Step[], name?: string) {
  const bad = await startBadSocks(script)
  t.teardown(() => bad.close())
  const rig = open(t, bad.port, {}, silent, {}, 'tcp')
  const heard = associate(t, rig, name)
  await until(() => heard.made.length === 1, 'the association')
  return { bad, rig, heard, association: heard.made[0]! }
}

/** Sends a datagram to each, in one call; what send() says of them. */
export function send(
  { bytes, words }: Rig,
  association: Association,
  datagrams: readonly (readonly [string, Uint8Array])[],
) {
  const [addresses, messages, iovecs] = [SENT, SENT + 64, SENT + 32_768]
  let at = SENT + 49_152
  datagrams.forEach(([host, payload], row) => {
    const address = parseAddress(host)!
    bytes.set(address, addresses)
    const header = association.writeHeader(at, addresses, address.length === 4 ? 4 : 6, 53, payload.length)
    bytes.set(payload, at + 32)
    words.set([2 * row, 2, 0], messages / 4 + 3 * row)
    words.set([at, header, at + 32, payload.length], iovecs / 4 + 4 * row)
    at += 32 + payload.length
  })
  return association.send(messages, iovecs, datagrams.length)
}

/** The payloads, with the source of each; a string for what is told of otherwise. */
export function receive({ bytes, words }: Rig, association: Association, slotBytes = SLOT_BYTES, count = 1) {
  words.set([SLOT, 0], SCRATCH / 4 + 8)
  const rows = association.receive(SCRATCH + 32, count, slotBytes, FOUND)
  const out: DatagramFields = { family: 4, sourceAt: 0, port: 0, payloadAt: 0, payloadBytes: 0 }
  return Array.from({ length: Math.max(0, rows) }, (_, row): string => {
    const [at, length] = [words[FOUND / 4 + 2 * row]!, words[FOUND / 4 + 2 * row + 1]!]
    if (length === TRUNCATED) return 'too large'
    if (!association.parseDatagram(at, length, out)) return 'dropped'
    const source = bytes.subarray(out.sourceAt, out.sourceAt + (out.family === 4 ? 4 : 16))
    const payload = Buffer.from(bytes.subarray(out.payloadAt, out.payloadAt + out.payloadBytes))
    return `${Buffer.from(source).toString('hex')}:${out.port} ${payload.length > 40 ? payload.length : payload}`
  })
}

export const ONE = frame('203.0.113.7', 53, Buffer.from('one'))
export const TWO = frame('2001:db8::7', 54, Buffer.from('two'))
export const TOLD = ['cb007107:53 one', '20010db8000000000000000000000007:54 two']
