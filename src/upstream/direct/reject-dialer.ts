/** Nothing goes out: clients are told so at once. */
import type { Associating, AssociationListener, Dial, DialError, Dialer, DialListener } from '../dialer.ts'

const REJECTED: DialError = { failure: 'refused', message: 'rejected: reject:// is where it was sent to' }
const OVER: Dial & Associating = { cancel() {}, close() {}, expire: () => REJECTED }

export class RejectDialer implements Dialer {
  #rejected = 0

  connect(_destination: unknown, _client: unknown, listener: DialListener): Dial {
    this.#rejected++
    listener.onFailed(REJECTED)
    return OVER
  }

  associate(_client: unknown, listener: AssociationListener): Associating {
    this.#rejected++
    listener.onAssociationFailed(REJECTED)
    return OVER
  }

  isUpstream(): boolean {
    return false
  }

  counters(): Record<string, number> {
    return { rejected: this.#rejected }
  }

  close(): void {}
}
