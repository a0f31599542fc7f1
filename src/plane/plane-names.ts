/**
 * How a data plane answers for names: by a service that is loaded and made for the first question, since many a gateway, and any
 * gateway's start, has none.
 */
import { DNS_PORT } from '../dns/port.ts'
import type { NameLookup } from '../flow/router.ts'
import type { GatewayOptions } from '../options.ts'
import { zeroDnsCounters } from '../resolver/dns-counters.ts'
import type { DnsLog } from '../resolver/dns-service.ts'
import { type NamesHost, NamesService, type RunningNames } from './names-service.ts'

export class PlaneNames {
  /** undefined: there are no virtual addresses. */
  readonly lookup: NameLookup | undefined
  readonly #isServed: boolean
  readonly #make: () => NamesService
  #service: NamesService | undefined

  /** @param memory of the name map, for all planes the same; undefined without virtual addresses */
  constructor(options: GatewayOptions, log: DnsLog, memory: SharedArrayBuffer | undefined) {
    this.#isServed = options.dns.mode !== 'forward'
    this.#make = () => new NamesService(options, log, memory)
    if (memory !== undefined) this.lookup = this.#get().lookup
  }

  #get(): NamesService {
    this.#service ??= this.#make()
    return this.#service
  }

  /** Undefined where queries are flows like any other. */
  run(host: NamesHost): RunningNames | undefined {
    return this.#isServed ? lateNames(() => this.#get().run(host)) : undefined
  }
}

function lateNames(run: () => RunningNames): RunningNames {
  let running: RunningNames | undefined
  const get = () => {
    running ??= run()
    return running
  }
  return {
    datagramService: {
      takes: (_destAt, _family, port) => port === DNS_PORT,
      receive: (client, row) => get().datagramService.receive(client, row),
    },
    streamService: {
      takes: ({ port }) => port === DNS_PORT,
      open: (host, id, destination) => get().streamService.open(host, id, destination),
    },
    counters: () => running?.counters() ?? { ...zeroDnsCounters(), dns_pending: 0, dns_cached: 0 },
    close: () => running?.close(),
  }
}
