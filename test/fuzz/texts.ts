/** Mutations of texts and of byte messages. */
import type { Random } from './random.ts'

/** One to four of: a piece gone, twice, moved, or put in from the dictionary; a character changed; cut off. */
export function mutateText(text: string, dictionary: readonly string[], random: Random): string {
  let made = text
  for (let count = 1 + random.below(4); count > 0; count--) {
    const at = random.below(made.length + 1)
    const end = Math.min(made.length, at + random.below(12))
    const head = made.slice(0, at)
    const tail = made.slice(end)
    const piece = made.slice(at, end)
    made = random.pick([
      () => head + tail,
      () => head + piece + piece + tail,
      () => head + random.pick(dictionary) + tail,
      () => head + random.pick(dictionary) + piece + tail,
      () => head + String.fromCharCode(random.below(random.once(4) ? 0x3000 : 128)) + tail,
      () => (random.once(8) ? head : head + piece.toUpperCase() + tail),
      () => tail + head,
    ])()
  }
  return made
}

/** Bytes changed, put in, taken out, or cut off; sometimes all of them by chance. */
export function mutateBytes(bytes: Uint8Array, random: Random): Buffer {
  if (random.once(20)) return random.bytes(random.below(40))
  const made = [...bytes]
  for (let count = random.below(4); count > 0; count--) {
    const at = random.below(made.length + 1)
    const how = random.below(5)
    if (how === 0) made.splice(at, 1)
    else if (how === 1) made.splice(at, 0, random.next() & 255)
    else if (how === 2) made.length = at
    else
      made[Math.min(at, made.length)] = random.once(2) ? random.pick([0, 1, 2, 3, 4, 5, 127, 255]) : random.next() & 255
  }
  return Buffer.from(made)
}

/** The same bytes in pieces, of which some may be empty. */
export function pieces(bytes: Buffer, random: Random): Buffer[] {
  const made: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + random.below(random.once(2) ? 3 : bytes.length))
    made.push(bytes.subarray(at, end))
    at = end
  }
  return made
}
