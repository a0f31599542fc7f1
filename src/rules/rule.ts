/** A rule as it is once parsed, and what a flow looks like to the rules. */
import type { Destination, IpEndpoint } from '../endpoint.ts'

export type Protocol = 'tcp' | 'udp'

/** What is known of a flow when it is to be sent somewhere. */
export interface RuleFlow {
  readonly protocol: Protocol
  readonly source: IpEndpoint
  /**
   * With `name`, as behind a virtual address: conditions on the address do not hold then. With neither, as when a user asks
   * what would happen: the address is not known, and the name not yet.
   */
  readonly destination: Destination | { readonly port: number }
  /**
   * The name that the client asked for, in any case. Undefined: not known so far. '': known to have none, as after a look
   * at the first bytes that has found none.
   */
  readonly domain?: string | undefined
}

/** Where a flow goes. `reject` answers at once (RST, ICMP), `drop` never. */
export type Target =
  | { readonly kind: 'upstream'; readonly name: string }
  | { readonly kind: 'direct' | 'reject' | 'drop' }

/** Words that no upstream and no group may have as its name. */
export const OWN_TARGETS = ['direct', 'reject', 'drop'] as const

export interface Cidr {
  /** 4 or 16 bytes, the bits behind the prefix 0. */
  readonly address: Uint8Array
  readonly prefix: number
}

export interface DomainPattern {
  /** As domain-name.ts makes it. */
  readonly name: string
  /** The name itself and all below it, else the name alone. */
  readonly below: boolean
}

/** Both ends belong to it. */
export interface PortRange {
  readonly first: number
  readonly last: number
}

/** The conditions of a rule, in the order in which `explain` looks at them. */
export const CONDITIONS = ['protocol', 'source', 'destination', 'port', 'domain'] as const
export type Condition = (typeof CONDITIONS)[number]

/** All conditions that are there must hold; one with several values holds when one of them does. */
export interface Rule {
  /** 1 for the first. */
  readonly number: number
  /** For logs; '' for none. */
  readonly name: string
  readonly protocol?: readonly Protocol[]
  readonly source?: readonly Cidr[]
  readonly destination?: readonly Cidr[]
  readonly port?: readonly PortRange[]
  readonly domain?: readonly DomainPattern[]
  /** Where the domain is not known, it is asked for in the first bytes. */
  readonly sniff: boolean
  readonly target: Target
  /** The values of each condition for people, the first few of them. */
  readonly texts: { readonly [condition in Condition]?: string }
}

export function targetText(target: Target): string {
  return target.kind === 'upstream' ? target.name : target.kind
}

/** `rule 3 (ads)` */
export function ruleText(rule: { readonly number: number; readonly name: string }): string {
  return rule.name === '' ? `rule ${rule.number}` : `rule ${rule.number} (${rule.name})`
}
