/**
 * Given to a gateway by `--require`: what it reads from its tun goes to the file that RECORD_PACKETS names as well, each
 * packet as it came: length (u16, little-endian), 12 bytes of vnet header (zeros where the device has none), packet.
 */
const { appendFileSync } = require('node:fs') as typeof import('node:fs')

interface Io {
  readPackets(fd: number, slots: number, count: number, slotBytes: number): number
}
interface Addon {
  Io: new (memory: ArrayBuffer, ready: Int32Array, onReady: (count: number) => void) => Io
  tunOpen(options: object): { vnetHdr: boolean }
}

const VNET_BYTES = 12

function recording(addon: Addon, file: string): void {
  const { Io, tunOpen } = addon
  let skip = 0
  addon.tunOpen = options => {
    const info = tunOpen(options)
    skip = info.vnetHdr ? VNET_BYTES : 0
    return info
  }
  addon.Io = class extends Io {
    constructor(memory: ArrayBuffer, ready: Int32Array, onReady: (count: number) => void) {
      super(memory, ready, onReady)
      const words = new Uint32Array(memory)
      const read = this.readPackets // the addon gives each object functions of its own
      this.readPackets = (fd, slots, count, slotBytes) => {
        const got = read(fd, slots, count, slotBytes)
        for (let row = slots / 4; row < slots / 4 + 2 * got; row += 2)
          appendFileSync(file, record(Buffer.from(memory, words[row], words[row + 1]), skip))
        return got
      }
    }
  }
}

function record(raw: Buffer, skip: number): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16LE(raw.length - skip)
  const vnet = skip > 0 ? raw.subarray(0, skip) : Buffer.alloc(VNET_BYTES)
  return Buffer.concat([length, vnet, raw.subarray(skip)])
}

const file = process.env.RECORD_PACKETS
const { dlopen } = process
if (file !== undefined)
  process.dlopen = (...args: Parameters<typeof dlopen>) => {
    dlopen.apply(process, args)
    const { exports } = args[0] as { exports: Addon }
    if (typeof exports.tunOpen !== 'function') return
    Object.assign(args[0], { exports: { ...exports } })
    recording((args[0] as { exports: Addon }).exports, file)
  }
