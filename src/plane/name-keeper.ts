/** The memory of the name map, for all planes of a gateway, and its file: read at the start, written now and then and at the end. */
import { loadNames, saveNames } from '../dns/name-file.ts'
import { NameMap } from '../dns/name-map.ts'
import type { GatewayOptions } from '../options.ts'
import { sharedClock, virtualAddresses } from './names-service.ts'

const SAVE_MS = 5_000

interface KeeperLog {
  info(message: string, fields?: Record<string, unknown>): void
  warn(message: string, fields?: Record<string, unknown>): void
}

export class NameKeeper {
  readonly memory: SharedArrayBuffer
  readonly #map: NameMap
  readonly #path: string
  readonly #log: KeeperLog
  #savedRevision = 0
  #saving: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #complained = false

  constructor({ tun, dns }: Pick<GatewayOptions, 'tun' | 'dns'>, log: KeeperLog) {
    const addresses = virtualAddresses(tun)
    this.memory = NameMap.memoryFor(addresses)
    this.#map = new NameMap(addresses, undefined, this.memory)
    this.#path = dns.mapFile
    this.#log = log
  }

  /** A file that cannot be used is told, and changes nothing else. */
  async start(): Promise<void> {
    if (this.#path === '') return
    try {
      const { damage, ...saved } = await loadNames(this.#path, this.#map.addresses)
      this.#map.restore(saved, sharedClock())
      if (damage !== undefined)
        this.#log.warn('the file of names is damaged: clients learn their addresses anew', { file: this.#path, damage })
      else if (this.#map.size > 0) this.#log.info('names are known', { names: this.#map.size })
    } catch (error) {
      this.#log.warn('the file of names cannot be read', { file: this.#path, reason: (error as Error).message })
    }
    this.#savedRevision = this.#map.revision
    this.#timer = setInterval(() => this.#save(), SAVE_MS).unref()
  }

  #save(): Promise<void> {
    if (this.#path === '' || this.#map.revision === this.#savedRevision) return this.#saving ?? Promise.resolve()
    this.#saving ??= this.#write().finally(() => {
      this.#saving = undefined
    })
    return this.#saving
  }

  async #write(): Promise<void> {
    const { revision } = this.#map
    try {
      await saveNames(this.#path, this.#map.save(), this.#map.addresses)
      this.#savedRevision = revision
      this.#complained = false
    } catch (error) {
      if (!this.#complained)
        this.#log.warn('the file of names cannot be written', { file: this.#path, reason: (error as Error).message })
      this.#complained = true
    }
  }

  counters(): Record<string, number> {
    const { size, live, evicted, exhausted } = this.#map
    return { dns_names: size, dns_names_live: live, dns_names_evicted: evicted, dns_names_exhausted: exhausted }
  }

  /** What is known is in the file when it resolves. Idempotent. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#saving
    await this.#save()
  }
}
