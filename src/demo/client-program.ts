/**
 * What runs as a client behind the tun where no usual program serves:
 *
 *     client-program.js pattern N            N bytes of the pattern of http-server.ts to standard output
 *     client-program.js sha256               {"bytes": N, "sha256": "…"} of standard input
 *     client-program.js echo HOST PORT N     a datagram of N bytes out and back; {"milliseconds": N}, or exit code 1
 *
 * Standard input and output are pipes of a shell, so reading and writing them may block.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { readSync, writeSync } from 'node:fs'
import { isIPv6 } from 'node:net'
import { PATTERN_BYTES, patternBlock } from './http-server.ts'

const STDIN = 0
const STDOUT = 1
/** A datagram may be lost on any way; so many are sent, one after the other, before it is called a failure. */
const ECHO_ATTEMPTS = 3
const ECHO_TIMEOUT_MS = 1000

function writePattern(bytes: number): void {
  const block = patternBlock()
  for (let done = 0; done < bytes; ) {
    const at = done % PATTERN_BYTES
    done += writeSync(STDOUT, block, at, Math.min(PATTERN_BYTES - at, bytes - done))
  }
}

function readSha256(): string {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(1 << 20)
  let bytes = 0
  for (let length = readSync(STDIN, buffer); length > 0; length = readSync(STDIN, buffer)) {
    hash.update(buffer.subarray(0, length))
    bytes += length
  }
  return JSON.stringify({ bytes, sha256: hash.digest('hex') })
}

/** Resolves with true when the same bytes came from the same address and port. */
async function echo(host: string, port: number, bytes: number): Promise<boolean> {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  const message = randomBytes(bytes)
  const answered = new Promise<boolean>((resolve, reject) => {
    socket.on('error', reject)
    socket.on('message', (answer, from) => resolve(answer.equals(message) && from.port === port))
    // Connected: the kernel lets no other sender in, and hands over ICMP errors.
    socket.connect(port, host, () => socket.send(message))
  })
  const late = new Promise<false>(resolve => setTimeout(resolve, ECHO_TIMEOUT_MS, false).unref())
  try {
    return await Promise.race([answered, late])
  } finally {
    socket.close()
  }
}

async function echoAgain(host: string, port: number, bytes: number): Promise<string> {
  for (let attempt = 0; attempt < ECHO_ATTEMPTS; attempt++) {
    const startedAt = performance.now()
    if (await echo(host, port, bytes)) return JSON.stringify({ milliseconds: performance.now() - startedAt })
  }
  throw new Error(`no whole answer to ${ECHO_ATTEMPTS} datagrams of ${bytes} bytes`)
}

const [verb, ...words] = process.argv.slice(2)
if (verb === 'pattern') writePattern(Number(words[0]))
else if (verb === 'sha256') console.log(readSha256())
else if (verb === 'echo') console.log(await echoAgain(words[0]!, Number(words[1]), Number(words[2])))
else throw new Error('pattern N, sha256, or echo HOST PORT N')
