/**
 * Given to node by --require, with --expose-gc: with each SIGUSR2 the heap is collected, and what is in use then stands in the file
 * that SOAK_MEMORY_FILE names, as JSON. Bytes in use of the stack's malloc are counted by a walk over its chunks.
 */
const { readFileSync, renameSync, writeFileSync } = require('node:fs') as typeof import('node:fs')

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer }
}

interface WebAssemblyNames {
  Instance: new (module: object, imports: object) => { readonly exports: Exports }
}

const webAssembly = (globalThis as unknown as { WebAssembly: WebAssemblyNames }).WebAssembly
const memories: ArrayBuffer[] = []

webAssembly.Instance = class extends webAssembly.Instance {
  constructor(module: object, imports: object) {
    super(module, imports)
    memories.push(this.exports.memory.buffer)
  }
}

/** The first global is the stack's pointer: it starts where the stack begins, and there malloc's memory begins too. */
function heapBase(wasm: Uint8Array): number {
  let at = 8
  const number = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = wasm[at++]!
      value += (byte & 127) * 2 ** shift
      if (byte < 128) return value
    }
  }
  for (;;) {
    const [section, length] = [wasm[at++]!, number()]
    if (section === 6) break
    at += length
  }
  number() // how many
  at += 3 // i32, mutable, i32.const
  return number()
}

/**
 * dlmalloc: a chunk is its neighbour's word and its own head, the size with two bits for "the one before" and "this one is in use"; what
 * it gives out, 8 bytes behind, is aligned to 16. Throws Error when there is no such chunk: the walk would tell nothing.
 */
function bytesInUse(memory: ArrayBuffer, base: number): number {
  const words = new Uint32Array(memory)
  let used = 0
  for (let at = base; at + 8 < memory.byteLength; ) {
    const head = words[at / 4 + 1]!
    const size = head & ~7
    if (size === 0 && at === base) throw new Error('no chunk of malloc where the heap begins')
    if (size === 0) break
    if (head & 2) used += size
    at += size
  }
  return used
}

const base = ((heapBase(readFileSync(process.env.SOAK_WASM!)) + 15) & ~15) + 8

process.on('SIGUSR2', () => {
  const { gc } = globalThis as unknown as { gc: () => void }
  gc()
  gc()
  const { heapUsed, external } = process.memoryUsage()
  const stack = memories.reduce((sum, memory) => sum + bytesInUse(memory, base), 0)
  const file = process.env.SOAK_MEMORY_FILE!
  writeFileSync(`${file}.part`, JSON.stringify({ heapUsed, external, stack }))
  renameSync(`${file}.part`, file)
})
