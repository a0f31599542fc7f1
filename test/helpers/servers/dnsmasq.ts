/** dnsmasq: the authority for a few names, and the resolver of a namespace. It knows nobody else to ask. */
import type { Place, RealServer } from '../servers.ts'
import { startProgram } from '../servers.ts'

export interface DnsmasqOptions {
  /** Addresses to listen on, UDP and TCP. Default: 127.0.0.1. */
  readonly hosts?: readonly string[]
  /** Addresses of each name, of both families. */
  readonly names: Readonly<Record<string, readonly string[]>>
  /** Name and its canonical name, which must be one of `names`. */
  readonly aliases?: Readonly<Record<string, string>>
  /** Name and text records. */
  readonly texts?: Readonly<Record<string, readonly string[]>>
  /** Of all records, seconds. Default: 300. */
  readonly ttl?: number
}

const PORT = 53

export function startDnsmasq(place: Place, options: DnsmasqOptions): Promise<RealServer> {
  const { hosts = ['127.0.0.1'], names, aliases = {}, texts = {}, ttl = 300 } = options
  const listen = ['--bind-interfaces', ...hosts.map(host => `--listen-address=${host}`), `--port=${PORT}`]
  const alone = ['--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--pid-file=', '--user=', '--group=']
  const records = [
    ...Object.entries(names).map(([name, addresses]) => `--host-record=${name},${addresses.join(',')},${ttl}`),
    ...Object.entries(aliases).map(([name, target]) => `--cname=${name},${target},${ttl}`),
    ...Object.entries(texts).flatMap(([name, values]) => values.map(value => `--txt-record=${name},${value}`)),
  ]
  const rest = [...records, `--local-ttl=${ttl}`, '--local=/#/', '--log-facility=-']
  return startProgram(place, PORT, 'dnsmasq', ['--keep-in-foreground', ...alone, ...listen, ...rest])
}
