/** A connection of our own, beside the tun: for resolvers that are asked directly. */
import { formatEndpoint, type IpEndpoint } from '../endpoint.ts'
import { SystemError } from '../errors.ts'
import { addon, ERROR, HANGUP, WRITABLE } from '../io/addon.ts'
import type { Poller } from '../io/poller.ts'
import { type Binding, lacksResources, Socket } from '../io/socket.ts'
import type { Dial, DialError, DialListener } from '../upstream/dialer.ts'

/** As `Dialer.connect`. */
export function dialDirectly(poller: Poller, to: IpEndpoint, binding: Binding, listener: DialListener): Dial {
  let socket: Socket | undefined
  const fail = (message: string, failure: DialError['failure']) => {
    socket?.close(true)
    listener.onFailed({ failure, message: `${formatEndpoint(to)}: ${message}` })
  }
  try {
    const made = Socket.connectTcp(poller, to, binding, {
      onReady: events => {
        const error = events & (ERROR | HANGUP) ? made.takeError() : 0
        if (error !== 0) fail(addon.errnoName(error), 'refused')
        else if (events & WRITABLE) listener.onConnected({ socket: made, early: undefined, readable: true })
      },
    })
    socket = made
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    fail(error.code, lacksResources(error) ? 'no-resources' : 'net-unreachable')
  }
  const cancel = () => socket?.close(true)
  const expire = (): DialError => {
    cancel()
    return { failure: 'timeout', message: `${formatEndpoint(to)} does not answer` }
  }
  return { cancel, expire }
}
