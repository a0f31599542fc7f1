/** What each server of the demo gives back, and how several of them come to listen on one port. */
import type { Server } from 'node:net'

export interface Listening {
  readonly port: number
  /** Ends the listener and everything that it accepted. Idempotent. */
  close(): Promise<void>
}

export type Open = (port: number) => Promise<Listening>

const ATTEMPTS = 10

/**
 * Opens all on the same port: the given one, or with 0 a free one chosen by the first. Closes what was opened when one
 * of them fails, and chooses anew (ten times at most) when the free port of the first was taken for another.
 */
export async function listenOnOnePort(openers: readonly Open[], port: number): Promise<Listening> {
  for (let attempt = 1; ; attempt++) {
    const opened: Listening[] = []
    try {
      for (const open of openers) opened.push(await open(opened[0]?.port ?? port))
      return { port: opened[0]?.port ?? port, close: () => closeAll(opened) }
    } catch (error) {
      await closeAll(opened)
      const taken = port === 0 && opened.length > 0 && (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (!taken || attempt === ATTEMPTS) throw error
    }
  }
}

async function closeAll(opened: readonly Listening[]): Promise<void> {
  await Promise.all(opened.map(one => one.close()))
}

/** Listens on one address; the port that it got. Rejects with the system's error. An IPv6 address takes no IPv4 clients. */
export async function listenOn(server: Server, host: string, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, ipv6Only: true }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  return typeof address === 'object' && address ? address.port : port
}
