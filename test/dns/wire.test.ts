import test from 'ava'
import { expandName, formatName, MALFORMED, readRecord, recordFields, skipName } from '../../src/dns/wire.ts'
import { bytesOf } from './messages.ts'

const HEADER = '#000000000000000000000000'
// RFC 1035 §4.1.4: F.ISI.ARPA at 20, FOO.F.ISI.ARPA at 40, ARPA by a pointer at 64, the root at 92.
const RFC_1035 = Buffer.alloc(93)
RFC_1035.set(bytesOf('1 F 3 ISI 4 ARPA 0'), 20)
RFC_1035.set(bytesOf('3 FOO #c014'), 40)
RFC_1035.set(bytesOf('#c01a'), 64)

function expanded(bytes: Uint8Array, at: number): string | undefined {
  const out = new Uint8Array(255)
  const length = expandName(bytes, at, bytes.length, out)
  return length === MALFORMED ? undefined : formatName(out.subarray(0, length))
}

test('wire: the compressed names of RFC 1035 section 4.1.4', t => {
  t.is(expanded(RFC_1035, 20), 'F.ISI.ARPA')
  t.is(expanded(RFC_1035, 40), 'FOO.F.ISI.ARPA')
  t.is(expanded(RFC_1035, 64), 'ARPA')
  t.is(expanded(RFC_1035, 92), '.')
  t.is(skipName(RFC_1035, 20, 93), 32)
  t.is(skipName(RFC_1035, 40, 93), 46)
  t.is(skipName(RFC_1035, 64, 93), 66)
  t.is(skipName(RFC_1035, 92, 93), 93)
})

test('wire: pointers that lead on, to themselves, in a circle or into the header are malformed', t => {
  for (const [name, why] of [
    ['#c00c', 'itself'],
    ['#c00e 0', 'on'],
    ['1 a #c00c', 'to its own start'],
    ['#c000', 'the header'],
    ['#c00b', 'the header'],
    ['#ffff', 'beyond the end'],
    ['#c0', 'half a pointer'],
    ['#80 0', 'an unknown kind of label'],
    ['#40 0', 'an unknown kind of label'],
    ['3 ab', 'a label that is cut off'],
    ['1 a', 'no root'],
  ] as const)
    t.is(expanded(bytesOf(`${HEADER} ${name}`), 12), undefined, why)
  t.is(expanded(bytesOf(`${HEADER} 1 a #c010 1 b #c00c`), 16), undefined, 'a circle of two')
})

test('wire: a name has 255 bytes at most, also by pointers', t => {
  const label = `63 ${'x'.repeat(63)}`
  const longest = bytesOf(`${HEADER} ${label} ${label} ${label} 61 ${'y'.repeat(61)} 0`)
  t.is(longest.length, 12 + 255)
  t.is(expanded(longest, 12)?.length, 253)
  t.is(skipName(longest, 12, longest.length), longest.length)
  const tooLong = bytesOf(`${HEADER} ${label} ${label} ${label} 62 ${'y'.repeat(62)} 0`)
  t.is(expanded(tooLong, 12), undefined)
  t.is(skipName(tooLong, 12, tooLong.length), MALFORMED)
  const byPointer = Buffer.concat([longest, bytesOf('1 z #c00c')])
  t.is(expanded(byPointer, longest.length), undefined)
})

test('wire: the end of a name lies within the message', t => {
  const name = bytesOf('2 ab #c00c')
  for (let end = 0; end < name.length; end++) t.is(skipName(name, 0, end), MALFORMED, `${end}`)
  t.is(skipName(name, 0, name.length), name.length)
})

test('wire: a record is read whole, and at no cut', t => {
  const message = bytesOf(`${HEADER} 1 a 0 #0001 #0001 #fffffffe #0004 #c0000201`)
  const out = recordFields()
  t.is(readRecord(message, 12, message.length, out), message.length)
  t.deepEqual(out, { nameAt: 12, type: 1, class: 1, ttlAt: 19, ttl: 0xffff_fffe, dataAt: 25, dataBytes: 4 })
  for (let cut = 12; cut < message.length; cut++) t.is(readRecord(message, 12, cut, recordFields()), MALFORMED)
})

test('wire: names as people read them', t => {
  t.is(formatName(bytesOf('3 a.b 2 #00ff 1 \\ 0')), 'a\\.b.\\000\\255.\\\\')
  t.is(formatName(bytesOf('0')), '.')
})
