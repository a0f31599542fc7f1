/** The thread of origin.ts: HTTP, DNS and UDP echo on the machine's loopback. */
import { createServer } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { startDnsServer } from './dns-server.ts'
import { patternSha256, startHttpServer } from './http-server.ts'
import { listenOn } from './listening.ts'
import type { OriginOptions, OriginReady } from './origin.ts'
import { startUdpEcho } from './udp-echo.ts'

async function start({ names, bytes }: OriginOptions): Promise<OriginReady> {
  const [http, dns, echo, closed] = await Promise.all([
    startHttpServer(),
    startDnsServer({ names }),
    startUdpEcho(),
    findClosedPort(),
  ])
  const sha256 = await patternSha256(bytes)
  return { ports: { http: http.port, dns: dns.port, echo: echo.port, closed }, sha256 }
}

/** A port that was free a moment ago. */
async function findClosedPort(): Promise<number> {
  const server = createServer()
  const port = await listenOn(server, '127.0.0.1', 0)
  await new Promise(resolve => server.close(resolve))
  return port
}

parentPort!.postMessage(await start(workerData as OriginOptions))
