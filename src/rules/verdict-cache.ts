/**
 * Verdicts by what was read to find them: a verdict that came of the port alone holds for all flows to that port. Bounded; the
 * least recently used goes first.
 */
import type { ScriptFlow, ScriptVerdict } from './define-rules.ts'

/** The fields of a flow; the bit of each in a mask is its place. */
export const FLOW_FIELDS = [
  'protocol',
  'source',
  'destination',
  'port',
  'domain',
] as const satisfies readonly (keyof ScriptFlow)[]

interface Entry {
  readonly verdict: ScriptVerdict
  readonly until: number
}

export class VerdictCache {
  readonly #entries = new Map<string, Entry>()
  /** How many entries there are of each mask. */
  readonly #masks = new Map<number, number>()
  readonly #maxEntries: number
  readonly #maxAgeMs: number
  readonly #now: () => number

  constructor(maxEntries: number, maxAgeMs: number, now: () => number) {
    this.#maxEntries = maxEntries
    this.#maxAgeMs = maxAgeMs
    this.#now = now
  }

  get size(): number {
    return this.#entries.size
  }

  /** One look-up for each set of fields that some verdict has read: 32 at most, mostly one. */
  find(flow: ScriptFlow): { readonly verdict: ScriptVerdict } | undefined {
    for (const mask of this.#masks.keys()) {
      const key = keyOf(flow, mask)
      const entry = this.#entries.get(key)
      if (entry === undefined) continue
      this.#entries.delete(key)
      if (entry.until <= this.#now()) {
        this.#count(mask, -1)
        continue
      }
      this.#entries.set(key, entry)
      return entry
    }
    return undefined
  }

  /** `mask`: the fields that were read. */
  keep(flow: ScriptFlow, mask: number, verdict: ScriptVerdict): void {
    const key = keyOf(flow, mask)
    if (!this.#entries.delete(key)) this.#count(mask, 1)
    this.#entries.set(key, { verdict, until: this.#now() + this.#maxAgeMs })
    if (this.#entries.size <= this.#maxEntries) return
    const oldest = this.#entries.keys().next().value!
    this.#entries.delete(oldest)
    this.#count(Number.parseInt(oldest, 10), -1)
  }

  #count(mask: number, change: number): void {
    const count = (this.#masks.get(mask) ?? 0) + change
    if (count === 0) this.#masks.delete(mask)
    else this.#masks.set(mask, count)
  }
}

/** No value holds a line feed but a domain that is none, which `flowForScript` leaves out. */
function keyOf(flow: ScriptFlow, mask: number): string {
  let key = String(mask)
  for (let at = 0; at < FLOW_FIELDS.length; at++) if ((mask >> at) & 1) key += `\n${flow[FLOW_FIELDS[at]!]}`
  return key
}
