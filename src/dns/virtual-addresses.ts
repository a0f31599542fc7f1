/**
 * The addresses that stand for names: one index for an IPv4 address and, with a prefix of 96 bits before it, an IPv6 address.
 * So who sees `fd74:756e::c612:17` knows that it is 198.18.0.23, and both are found from an index by arithmetic alone.
 *
 * They begin behind the gateway's own address. Those that end in .0 and .255 are left out: no broadcast in a network of this
 * size but the first and the last, yet there are programs and filters that take them for such. It costs 1 of 128.
 */
import { parseAddress } from '../endpoint.ts'
import { readU32, writeU32 } from './wire.ts'

export interface VirtualNetworks {
  /** Of 4 bytes; its lower bits are 0. */
  readonly network4: Uint8Array
  /** 8 to 24. */
  readonly bits4: number
  /** The gateway's own address of 4 bytes; one that is not in the network takes nothing from it. */
  readonly own4: Uint8Array
  /** The first 12 bytes of the IPv6 addresses, a unique local prefix (RFC 4193); undefined for no IPv6. */
  readonly prefix6: Uint8Array | undefined
}

export const NO_INDEX = -1

/** Of the 256 addresses that share their first three bytes. */
const PER_BLOCK = 254
const PREFIX6_BYTES = 12

export class VirtualAddresses {
  readonly hasIpv6: boolean
  /** Indexes are 0 to `count` - 1. */
  readonly count: number
  readonly #base: number
  readonly #end: number
  /** Of all places of the network, the one of index 0. */
  readonly #firstPlace: number
  readonly #prefix6: Uint8Array
  readonly #address4 = new Uint8Array(4)
  readonly #address6 = new Uint8Array(16)

  constructor({ network4, bits4, own4, prefix6 }: VirtualNetworks) {
    const size = 2 ** (32 - bits4)
    this.#base = readU32(network4, 0)
    this.#end = this.#base + size
    if (bits4 < 8 || bits4 > 24 || network4.length !== 4 || this.#base % size !== 0)
      throw new RangeError('virtual addresses: an IPv4 network of 8 to 24 bits is needed, its other bits 0')
    if (prefix6 !== undefined && prefix6.length !== PREFIX6_BYTES)
      throw new RangeError(`virtual addresses: an IPv6 prefix of ${PREFIX6_BYTES} bytes is needed`)
    const own = readU32(own4, 0)
    this.#firstPlace = own >= this.#base && own < this.#end ? this.#placeBehind(own - this.#base) : 0
    this.count = (size / 256) * PER_BLOCK - this.#firstPlace
    this.hasIpv6 = prefix6 !== undefined
    this.#prefix6 = prefix6 ?? new Uint8Array(PREFIX6_BYTES)
    this.#address6.set(this.#prefix6)
  }

  #placeBehind(offset: number): number {
    return Math.floor(offset / 256) * PER_BLOCK + Math.min(offset % 256, PER_BLOCK)
  }

  /** 4 bytes that hold until the next call. */
  address4(index: number): Uint8Array {
    writeU32(this.#address4, 0, this.#valueOf(index))
    return this.#address4
  }

  /** 16 bytes that hold until the next call. */
  address6(index: number): Uint8Array {
    writeU32(this.#address6, PREFIX6_BYTES, this.#valueOf(index))
    return this.#address6
  }

  #valueOf(index: number): number {
    const place = this.#firstPlace + index
    return this.#base + Math.floor(place / PER_BLOCK) * 256 + 1 + (place % PER_BLOCK)
  }

  /** `NO_INDEX` for an address that stands for no name. `address` has 4 or 16 bytes. */
  indexOf(address: Uint8Array): number {
    if (address.length === 4) return this.#indexOf(readU32(address, 0))
    if (!this.hasIpv6) return NO_INDEX
    for (let at = 0; at < PREFIX6_BYTES; at++) if (address[at] !== this.#prefix6[at]) return NO_INDEX
    return this.#indexOf(readU32(address, PREFIX6_BYTES))
  }

  #indexOf(value: number): number {
    const last = value & 255
    if (value < this.#base || value >= this.#end || last === 0 || last === 255) return NO_INDEX
    const place = ((value - this.#base) >>> 8) * PER_BLOCK + last - 1
    return Math.max(place - this.#firstPlace, NO_INDEX)
  }
}

/**
 * The address that a name below in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5) asks for; undefined where it is none, or
 * not a whole one. `name` is in lower case.
 */
export function addressOfReverseName(name: string): Uint8Array | undefined {
  if (name.endsWith('.in-addr.arpa')) return parseAddress(name.slice(0, -13).split('.').reverse().join('.'))
  if (!/^([0-9a-f]\.){32}ip6\.arpa$/.test(name)) return undefined
  const address = new Uint8Array(16)
  for (let nibble = 0; nibble < 32; nibble++)
    address[15 - (nibble >> 1)]! |= Number.parseInt(name[nibble * 2]!, 16) << ((nibble & 1) * 4)
  return address
}
