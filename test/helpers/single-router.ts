import type { IpEndpoint } from '../../src/endpoint.ts'
import type { Decision, Router } from '../../src/flow/router.ts'
import type { Dialer } from '../../src/upstream/dialer.ts'

/** Nothing to decide: all flows through one upstream. */
export class SingleRouter implements Router {
  readonly single: Dialer
  readonly names = undefined
  readonly revision = 0

  constructor(dialer: Dialer) {
    this.single = dialer
  }

  decide(): Decision {
    return { kind: 'dial', dialer: this.single, why: '' }
  }

  async ask(): Promise<Decision> {
    return this.decide()
  }

  isUpstream(destination: IpEndpoint, client?: IpEndpoint): boolean {
    return this.single.isUpstream(destination, client)
  }

  counters(): Record<string, number> {
    return this.single.counters()
  }

  close(): void {
    this.single.close()
  }
}
