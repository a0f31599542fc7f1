/** The service for names of a data plane: what of it outlives a stack, and what stands on one. */
import { AnswerCache, CACHE_DEFAULTS } from '../dns/cache.ts'
import { NameMap } from '../dns/name-map.ts'
import { SuffixTable } from '../dns/split.ts'
import { NO_INDEX, VirtualAddresses } from '../dns/virtual-addresses.ts'
import { parseAddress, sameAddress } from '../endpoint.ts'
import type { DatagramService } from '../flow/datagram-service.ts'
import { DnsDatagrams } from '../flow/dns-datagrams.ts'
import { DnsStreams } from '../flow/dns-stream.ts'
import type { NameLookup } from '../flow/router.ts'
import type { StreamService } from '../flow/stream-service.ts'
import type { Poller } from '../io/poller.ts'
import type { GatewayOptions } from '../options.ts'
import { type DnsLog, DnsService } from '../resolver/dns-service.ts'
import { Resolvers } from '../resolver/resolvers.ts'
import type { Resolver } from '../resolver/rung.ts'
import type { Stack } from '../stack/stack.ts'
import type { Dialer } from '../upstream/dialer.ts'
import { TlsDials } from '../upstream/transport/tls-dial.ts'

/** RFC 2544: a network for measurements, which nobody on the Internet has. */
const NETWORK4 = Uint8Array.of(198, 18, 0, 0)
const BITS4 = 15
/** Of an IPv6 address, those of the prefix behind which an IPv4 address stands. */
const PREFIX6_BYTES = 12

type NamesOptions = Pick<GatewayOptions, 'dns' | 'tun' | 'bind'>

/** One time for all threads, in milliseconds: their own begin when they do. */
export function sharedClock(): number {
  return performance.timeOrigin + performance.now()
}

/** The addresses that stand for names, whichever mode: nobody else answers there. */
export function virtualAddresses({ address4, address6 }: GatewayOptions['tun']): VirtualAddresses {
  const [own4, own6] = [address4, address6].map(text => parseAddress(text.split('/')[0]!))
  return new VirtualAddresses({
    network4: NETWORK4,
    bits4: BITS4,
    own4: own4 ?? NETWORK4,
    prefix6: own6?.subarray(0, PREFIX6_BYTES),
  })
}

/** What a service needs of the stack that it stands on. */
export interface NamesHost {
  readonly stack: Stack
  readonly poller: Poller
  readonly dialer: Dialer
  flush(): void
}

export interface RunningNames {
  readonly datagramService: DatagramService
  readonly streamService: StreamService
  counters(): Record<string, number>
  close(): void
}

export class NamesService {
  readonly #options: NamesOptions
  readonly #log: DnsLog
  readonly #cache: AnswerCache
  readonly #addresses: VirtualAddresses
  readonly #map: NameMap | undefined

  /** @param memory of the name map, for all planes the same; undefined without virtual addresses */
  constructor(options: NamesOptions, log: DnsLog, memory: SharedArrayBuffer | undefined) {
    this.#options = options
    this.#log = log
    this.#cache = new AnswerCache({ ...CACHE_DEFAULTS, entries: options.dns.cacheEntries })
    this.#addresses = virtualAddresses(options.tun)
    this.#map = memory === undefined ? undefined : new NameMap(this.#addresses, undefined, memory)
  }

  /** undefined: there are no virtual addresses. */
  get lookup(): NameLookup | undefined {
    const map = this.#map
    if (map === undefined) return undefined
    return {
      acquire: address => (map.addresses.indexOf(address) === NO_INDEX ? undefined : (map.acquire(address) ?? '')),
      release: address => void map.release(address),
    }
  }

  run({ stack, poller, dialer, flush }: NamesHost): RunningNames {
    const { dns, bind, tun } = this.#options
    const { abi, bytes, words } = stack
    const { scratch, scratchBytes, landingTable, landingSlots, landingBytes, landed } = abi
    const split = new SuffixTable<Resolver>()
    const service = new DnsService({
      cache: this.#cache,
      map: this.#map,
      split,
      log: this.#log,
      clock: sharedClock,
      turn: work => poller.turn(work),
    })
    const tls = new TlsDials(poller, dialer)
    const own = [tun.address4, tun.address6].map(text => parseAddress(text.split('/')[0]!))
    const resolvers = new Resolvers(
      {
        memory: { bytes, words, scratch, scratchBytes, landingTable, landingSlots, landingBytes, landed },
        poller,
        dialer,
        binding: bind,
        counters: service.counters,
        dialTls: (resolver, listener) => tls.connect(resolver, listener),
        isOurs: address =>
          this.#addresses.indexOf(address) !== NO_INDEX ||
          own.some(each => each !== undefined && sameAddress(each, address)),
      },
      dns.resolver,
    )
    for (const [suffix, address] of Object.entries(dns.split)) split.set(suffix, resolvers.direct(address))
    return {
      datagramService: new DnsDatagrams({ stack, flush }, service, resolvers),
      streamService: new DnsStreams(service, resolvers),
      counters: () => ({ ...service.counters, dns_pending: service.pending, dns_cached: this.#cache.entries }),
      close: () => {
        service.close()
        resolvers.close()
      },
    }
  }
}
