/**
 * Whole messages by `dns-packet`: for questions of the gateway's own and for people to read, some a minute at most. It makes an
 * object of each part, and text of names, which loses what is no UTF-8 or has a dot in a label; so clients' messages never
 * pass through it.
 */
import { decode, encode, type RecordType } from 'dns-packet'

import { EDNS_BYTES } from './answer.ts'

/**
 * A query of the gateway's own, with EDNS: what a resolver is probed with. Throws a RangeError for a name that cannot be one:
 * dns-packet would write it as a message that cannot be read.
 */
export function encodeQuery(name: string, type: RecordType, id: number): Buffer {
  const labels = name.split('.').map(label => Buffer.byteLength(label))
  const isName = name === '' || (labels.every(bytes => bytes > 0 && bytes <= 63) && Buffer.byteLength(name) <= 253)
  if (!isName) throw new RangeError(`DNS: ${JSON.stringify(name)} is no name`)
  return encode({
    type: 'query',
    id,
    flags: 0x0100,
    questions: [{ name, type, class: 'IN' }],
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: EDNS_BYTES,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  })
}

/**
 * An answer in one line for a log or a person: `NOERROR: CNAME example.org, A 192.0.2.1`. Records of types that are not known
 * here stand by their number. Says that it cannot be read where it cannot.
 */
export function describeAnswer(bytes: Uint8Array, length: number): string {
  try {
    const message = decode(Buffer.from(bytes.buffer, bytes.byteOffset, length))
    const code = (message as { rcode?: string }).rcode ?? 'NOERROR'
    const records = (message.answers ?? []).map(answer =>
      describeRecord(answer.type, 'data' in answer ? answer.data : ''),
    )
    return records.length === 0 ? code : `${code}: ${records.join(', ')}`
  } catch (error) {
    return `cannot be read: ${(error as Error).message}`
  }
}

function describeRecord(type: string, data: unknown): string {
  const kind = type.replace('UNKNOWN_', 'TYPE')
  if (typeof data === 'string') return `${kind} ${JSON.stringify(data).slice(1, -1)}`
  return Buffer.isBuffer(data) ? `${kind} ${data.length} bytes` : kind
}
