/**
 * The origin servers of the demo in a thread of their own: hashing an upload would otherwise take turns with the
 * gateway in one event loop.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Destination } from '../endpoint.ts'

export interface OriginOptions {
  /** As in DnsServerOptions. */
  readonly names: Readonly<Record<string, readonly string[]>>
  /** Downloads and uploads have this length, so its hash is made beforehand. */
  readonly bytes: number
}

export interface OriginPorts {
  readonly http: number
  readonly dns: number
  readonly echo: number
  /** Nothing listens here. */
  readonly closed: number
}

export interface Origin {
  /** On 127.0.0.1. */
  readonly ports: OriginPorts
  /** SHA-256, in hex, of the first `bytes` bytes of the pattern. */
  readonly sha256: string
  close(): Promise<void>
}

/** What the thread says, once, when everything listens. */
export type OriginReady = Pick<Origin, 'ports' | 'sha256'>

/** Rejects with the error of the thread. */
export async function startOrigin(options: OriginOptions): Promise<Origin> {
  const worker = new Worker(new URL('./origin-thread.js', import.meta.url), { workerData: options })
  const close = async () => {
    await worker.terminate()
  }
  try {
    const [ready] = (await once(worker, 'message')) as [OriginReady]
    worker.unref()
    return { ...ready, close }
  } catch (error) {
    await close()
    throw error
  }
}

export function onLoopback(port: number): Destination {
  return { address: Uint8Array.of(127, 0, 0, 1), port }
}
