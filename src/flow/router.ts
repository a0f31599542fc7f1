/** Where a flow goes. It is decided once, when the flow begins; what is decided later leaves it where it is. */
import type { Destination, IpEndpoint } from '../endpoint.ts'
import type { Dialer } from '../upstream/dialer.ts'

/** One object for each rule and target, shared by the flows. `why`: for people. */
export type Decision =
  | { readonly kind: 'dial'; readonly dialer: Dialer; readonly why: string }
  /** Told at once: RST, or port unreachable. */
  | { readonly kind: 'reject'; readonly why: string }
  /** Not a word. */
  | { readonly kind: 'drop'; readonly why: string }
  /** TCP without a known name: the client is answered, so that its first bytes may tell it. */
  | { readonly kind: 'look'; readonly why: string }
  /** It takes a moment: `ask`. */
  | { readonly kind: 'ask'; readonly why: string }

/** What is known of a flow that begins. */
export interface RoutedFlow {
  readonly protocol: 'tcp' | 'udp'
  readonly source: IpEndpoint
  /** As it is to be dialed: a name where its address stands for one. */
  readonly destination: Destination
  /** As RuleFlow.domain: undefined while it is not known, '' once it is known that there is none. */
  readonly domain: string | undefined
}

/** Names that virtual addresses stand for, as clients were told them. */
export interface NameLookup {
  /**
   * For a flow that begins: the name behind an address of 4 or 16 bytes; '' when the address is of ours and stands for none
   * (any more); undefined when it is an ordinary one. An address keeps its name until each call that gave one has had its
   * `release`.
   */
  acquire(address: Uint8Array): string | undefined
  release(address: Uint8Array): void
}

export interface Router {
  /** Where there is nothing to decide: of every flow. `decide`, `ask` and `names` are not asked then. */
  readonly single: Dialer | undefined
  /** Undefined where no address stands for a name. */
  readonly names: NameLookup | undefined
  /** Grows when the rules were replaced: what was turned away may have its way now. */
  readonly revision: number
  /** `flow` is not kept. */
  decide(flow: RoutedFlow): Decision
  /** After 'ask': never rejects, and takes some 50 ms at most. It resolves outside of a turn. */
  ask(flow: RoutedFlow): Promise<Decision>
  /** The destination is an upstream itself, or the client a socket of ours: a route leads the gateway's own traffic into the tun. */
  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean
  counters(): Record<string, number>
  /** Of the dialers too. */
  close(): void
}
