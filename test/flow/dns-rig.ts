/** A plane in memory whose queries to port 53 are answered by a service with a way that the test speaks for. */
import type { ExecutionContext } from 'ava'
import { AnswerCache } from '../../src/dns/cache.ts'
import type { NameMap } from '../../src/dns/name-map.ts'
import { SuffixTable } from '../../src/dns/split.ts'
import { DnsDatagrams } from '../../src/flow/dns-datagrams.ts'
import { DnsStreams } from '../../src/flow/dns-stream.ts'
import { DnsService } from '../../src/resolver/dns-service.ts'
import type { Resolvers } from '../../src/resolver/resolvers.ts'
import { type Resolver, Rung } from '../../src/resolver/rung.ts'
import { ScriptedWay } from '../resolver/rig.ts'
import { openWith, TestDialer } from './rig.ts'

export function openDns(t: ExecutionContext, map?: NameMap) {
  const way = new ScriptedWay(true)
  const resolver: Resolver = {
    prefix: '\u0001',
    name: 'scripted',
    rungs: [new Rung('tcp', 'scripted', way)],
    answeredBy: undefined,
  }
  const asked: string[] = []
  const resolvers: Pick<Resolvers, 'at'> = {
    at(address, port) {
      asked.push(`${[...address].join('.')}:${port}`)
      return resolver
    },
  }
  let service!: DnsService
  const rig = openWith(
    t,
    {},
    poller => new TestDialer(poller, 1),
    undefined,
    undefined,
    ({ stack, poller, flush }) => {
      service = new DnsService({
        cache: new AnswerCache(),
        map,
        split: new SuffixTable<Resolver>(),
        log: { info() {}, warn() {} },
        clock: () => performance.now(),
        turn: work => poller.turn(work),
      })
      t.teardown(() => service.close())
      return {
        datagramService: new DnsDatagrams({ stack, flush }, service, resolvers),
        streamService: new DnsStreams(service, resolvers),
      }
    },
  )
  return { ...rig, way, asked, service }
}
