import test, { type ExecutionContext } from 'ava'
import {
  type AddressFields,
  encodeAuth,
  encodeGreeting,
  encodeReply,
  encodeRequest,
  encodeUdpHeader,
  MALFORMED,
  NEED_MORE,
  parseAuth,
  parseAuthReply,
  parseGreeting,
  parseMethod,
  parseReply,
  parseRequest,
  parseUdpHeader,
} from '../../src/upstream/socks5/socks5-codec.ts'
import { auth, authReply, greeting, method, reply, request, udpHeader } from '../upstream/unparsed.ts'
import { Random } from './random.ts'
import { mutateBytes } from './texts.ts'

const ROUNDS = 4_000
const AT = 5

type Parser = (bytes: Uint8Array, at: number, length: number, out: never) => number

interface Codec {
  readonly parse: Parser
  readonly out: () => object
  /** A right message. */
  readonly encode: (bytes: Uint8Array, random: Random) => number
}

function destination(random: Random) {
  const port = random.below(65_536)
  if (random.once(3)) return { name: 'x'.repeat(1 + random.below(255)), port }
  return { address: random.bytes(random.once(2) ? 4 : 16), port }
}

const codecs: Readonly<Record<string, Codec>> = {
  greeting: {
    parse: parseGreeting,
    out: greeting,
    encode: (bytes, random) => encodeGreeting(bytes, 0, true, random.once(2)),
  },
  method: {
    parse: parseMethod,
    out: method,
    encode: (bytes, random) => put(bytes, [5, random.below(256)]),
  },
  auth: {
    parse: parseAuth,
    out: auth,
    encode: (bytes, random) =>
      encodeAuth(bytes, 0, random.bytes(1 + random.below(255)), random.bytes(1 + random.below(20))),
  },
  'auth reply': {
    parse: parseAuthReply,
    out: authReply,
    encode: (bytes, random) => put(bytes, [1, random.below(3)]),
  },
  request: {
    parse: parseRequest,
    out: request,
    encode: (bytes, random) => encodeRequest(bytes, 0, 1, destination(random)),
  },
  reply: {
    parse: parseReply,
    out: reply,
    encode: (bytes, random) => encodeReply(bytes, 0, random.below(12), destination(random)),
  },
  'UDP header': {
    parse: parseUdpHeader,
    out: udpHeader,
    encode: (bytes, random) => encodeUdpHeader(bytes, 0, random.bytes(random.once(2) ? 4 : 16), random.below(65_536)),
  },
}

function put(bytes: Uint8Array, message: readonly number[]): number {
  bytes.set(message)
  return message.length
}

/** What a parser says of the first `length` bytes, and what it found; behind them stands `poison`, which it must not see. */
function told({ parse, out }: Codec, message: Buffer, length: number, poison: number): { used: number; found: object } {
  const bytes = Buffer.alloc(AT + length + 8, poison)
  message.copy(bytes, AT, 0, length)
  const found = out()
  return { used: (parse as (...args: unknown[]) => number)(bytes, AT, length, found), found }
}

/** The answer to each prefix: more is wanted until it is known, and then it stays; nothing behind the prefix counts. */
function checkPrefixes(t: ExecutionContext, codec: Codec, message: Buffer, isStream: boolean): void {
  let known: number | undefined
  for (let length = 0; length <= message.length; length++) {
    const { used, found } = told(codec, message, length, 0)
    const other = told(codec, message, length, 0xff)
    if (used !== other.used) return t.fail(`${length} of ${message.toString('hex')}: what is behind counts`)
    if (used > length || used < MALFORMED) return t.fail(`${length} of ${message.toString('hex')}: ${used} used`)
    if (!isStream) continue
    if (known !== undefined && used !== known) return t.fail(`${length} of ${message.toString('hex')}: another answer`)
    if (used !== NEED_MORE) known = used
    if (used > 0 && !inside(found as Partial<AddressFields>, used))
      return t.fail(`${length} of ${message.toString('hex')}: an address outside of the message`)
  }
}

function inside({ addressAt, addressLength }: Partial<AddressFields>, used: number): boolean {
  if (addressAt === undefined || addressLength === undefined) return true
  return addressAt >= AT + 4 && addressLength > 0 && addressAt + addressLength + 2 === AT + used
}

for (const [name, codec] of Object.entries(codecs))
  test(`fuzz: ${name}: any bytes, at every split point, are taken, refused or waited for`, t => {
    const random = new Random(name.length)
    const bytes = Buffer.alloc(600)
    let right = 0
    for (let round = 0; round < ROUNDS; round++) {
      const length = codec.encode(bytes, random)
      const message = bytes.subarray(0, length)
      if (round % 10 > 0) checkPrefixes(t, codec, mutateBytes(message, random), codec.parse !== parseUdpHeader)
      else if (told(codec, message, length, 0).used === length) right++
    }
    t.is(right, ROUNDS / 10, 'each right message is taken whole')
  })
