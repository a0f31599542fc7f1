/** dnsmasq as a resolver that knows some names alone. */
import { type Place, type RealServer, startProgram } from './servers.ts'

export interface DnsmasqOptions {
  readonly host: string
  readonly port?: number
  /** Name and address. */
  readonly hosts?: Readonly<Record<string, string>>
  /** Name and its canonical name, which must be one of `hosts`. */
  readonly aliases?: Readonly<Record<string, string>>
  /** Name and text records. */
  readonly texts?: Readonly<Record<string, readonly string[]>>
  /** Names below do not exist but for those. */
  readonly domains: readonly string[]
  /** Seconds. */
  readonly ttl?: number
}

export function startDnsmasq(place: Place, options: DnsmasqOptions): Promise<RealServer> {
  const { host, port = 53, hosts = {}, aliases = {}, texts = {}, domains, ttl = 60 } = options
  return startProgram(place, port, 'dnsmasq', [
    '--keep-in-foreground',
    '--conf-file=/dev/null',
    '--no-resolv',
    '--no-hosts',
    '--no-daemon',
    '--log-facility=-',
    '--bind-interfaces',
    '--pid-file=',
    '--user=root',
    `--listen-address=${host}`,
    `--port=${port}`,
    `--local-ttl=${ttl}`,
    ...domains.map(domain => `--local=/${domain}/`),
    ...Object.entries(hosts).map(([name, address]) => `--host-record=${name},${address},${ttl}`),
    ...Object.entries(aliases).map(([name, target]) => `--cname=${name},${target},${ttl}`),
    ...Object.entries(texts).flatMap(([name, values]) => values.map(value => `--txt-record=${name},${value}`)),
  ])
}
