import test from 'ava'
import { MemoryTun } from '../../src/tun/memory.ts'

function open() {
  const memory = new ArrayBuffer(65_536)
  const words = new Uint32Array(memory)
  const bytes = new Uint8Array(memory)
  words.set([4096, 0, 8192, 0], 0)
  return { tun: new MemoryTun(memory, { mtu: 1500, vnetHdr: false }), words, bytes }
}

test('memory tun: packets land in the slots, as many as there are slots', t => {
  const { tun, words, bytes } = open()
  for (const byte of [1, 2, 3]) tun.toGateway.push(Uint8Array.of(byte, byte))
  t.is(tun.read(0, 2, 100), 2)
  t.deepEqual([words[1], words[3], bytes[4096], bytes[8193]], [2, 2, 1, 2])
  t.is(tun.read(0, 2, 100), 1)
  t.is(bytes[4096], 3)
  t.is(tun.read(0, 2, 100), 0)
})

test('memory tun: what is longer than a slot is cut, as the kernel does', t => {
  const { tun, words, bytes } = open()
  tun.toGateway.push(new Uint8Array(10).fill(7))
  t.is(tun.read(0, 1, 4), 1)
  t.is(words[1], 4)
  t.is(bytes[4100], 0)
})

test('memory tun: written packets are the pieces of their iovecs, copied', t => {
  const { tun, words, bytes } = open()
  bytes.set([1, 2, 3, 4, 5], 4096)
  words.set([4096, 2, 4099, 2, 4098, 1], 32) // iovecs at 128
  words.set([0, 2, 0, 2, 1, 0], 64) // packets at 256
  t.is(tun.write(256, 128, 2), 2)
  bytes.fill(0, 4096, 5000)
  t.deepEqual(
    tun.fromGateway.map(packet => [...packet]),
    [[1, 2, 4, 5], [3]],
  )
})
