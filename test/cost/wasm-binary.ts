/** Numbers and vectors of the WebAssembly binary format. */

export class BinaryReader {
  at: number
  readonly #from: Uint8Array

  constructor(from: Uint8Array, at = 0) {
    this.#from = from
    this.at = at
  }

  get atEnd(): boolean {
    return this.at >= this.#from.length
  }

  byte(): number {
    const byte = this.#from[this.at++]
    if (byte === undefined) throw new Error('the WebAssembly module ends too early')
    return byte
  }

  bytes(length: number): Uint8Array {
    const end = this.at + length
    if (end > this.#from.length) throw new Error('the WebAssembly module ends too early')
    const part = this.#from.subarray(this.at, end)
    this.at = end
    return part
  }

  rest(): Uint8Array {
    return this.bytes(this.#from.length - this.at)
  }

  /** LEB128 of up to 32 bits. */
  unsigned(): number {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
  }

  /** A LEB128 whose value does not matter, signed or not. */
  skipNumber(): void {
    while (this.byte() >= 0x80);
  }

  text(): string {
    return Buffer.from(this.bytes(this.unsigned())).toString()
  }
}

/** LEB128. */
export function unsigned(value: number): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Uint8Array.from([...bytes, rest])
    bytes.push((rest % 128) | 0x80)
  }
}
