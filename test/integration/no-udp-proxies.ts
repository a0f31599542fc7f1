/** Proxies that carry no datagrams. */
import { startTinyproxy } from '../helpers/servers/tinyproxy.ts'
import { type RealServer, startMicrosocks } from '../helpers/servers.ts'
import { PROXY4, type World } from './world.ts'

interface NoUdpProxy {
  readonly url: string
  start(world: World): Promise<RealServer>
}

export const NO_UDP_PROXIES: Readonly<Record<string, NoUdpProxy>> = {
  microsocks: {
    url: `socks5://${PROXY4}:1081`,
    start: ({ server }) => startMicrosocks(server, { host: PROXY4, port: 1081 }),
  },
  tinyproxy: {
    url: `http://${PROXY4}:8888`,
    start: ({ server }) => startTinyproxy(server, { host: PROXY4, port: 8888 }),
  },
}
