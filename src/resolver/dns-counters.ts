/** What a service for names counts. */
export interface DnsCounters {
  dns_queries: number
  dns_malformed: number
  dns_from_map: number
  dns_from_cache: number
  dns_stale: number
  dns_failed: number
  dns_limit: number
  dns_upstream_queries: number
  dns_foreign_answers: number
}

export function zeroDnsCounters(): DnsCounters {
  return {
    dns_queries: 0,
    dns_malformed: 0,
    dns_from_map: 0,
    dns_from_cache: 0,
    dns_stale: 0,
    dns_failed: 0,
    dns_limit: 0,
    dns_upstream_queries: 0,
    dns_foreign_answers: 0,
  }
}
