/** Mutated messages, challenges and URLs of upstreams: what each reader must hold to, whatever it is given. */
import { setImmediate } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { FormatError } from '../../src/config/format-error.ts'
import { parseProxyUrl, proxyUrlText } from '../../src/config/proxy-url.ts'
import {
  encodeHevHeader,
  encodeHevNameHeader,
  hevFields,
  parseHevDatagram,
  parseHevHeader,
} from '../../src/upstream/datagrams/hev-udp-codec.ts'
import { HttpAuthentication } from '../../src/upstream/http/http-authentication.ts'
import { parseChallenges } from '../../src/upstream/http/http-challenge.ts'
import {
  encodeConnect,
  fieldTexts,
  MAX_HEAD_BYTES,
  parseResponse,
  responseFields,
} from '../../src/upstream/http/http-codec.ts'
import { alienToHttp, refusedByHttp } from '../../src/upstream/http/http-reasons.ts'
import { parseReply4, reply4Fields } from '../../src/upstream/socks4/socks4-codec.ts'
import { MALFORMED, NEED_MORE } from '../../src/upstream/socks5/socks5-codec.ts'
import { Random } from './random.ts'
import { mutateBytes, mutateText } from './texts.ts'

/** Where messages begin in their buffer. */
const AT = 5
const SECRET = 'S3cr3tZq'
/** Rounds, after which the test runner may hear of the tests. */
const BREATH = 1_000

interface Codec {
  readonly parse: (bytes: Uint8Array, at: number, length: number, out: never) => number
  readonly out: () => object
  /** A message, mutated. */
  readonly make: (random: Random) => Buffer
  /** Looks at what was found in the first `used` bytes from AT on; a text says what is wrong. */
  readonly check: (bytes: Buffer, used: number, found: never) => string | undefined
}

const HEADS = [
  'HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-x\r\n',
  'HTTP/1.0 200 OK\nVia: 1.1 x\n\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nLink: a\r\n\r\nHTTP/1.1 200\r\nContent-Length: 5\r\n\r\nabc',
  'HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid/6.13\r\nContent-Length: 12\r\nX-Squid-Error: ERR_CACHE_ACCESS_DENIED 0\r\nProxy-Authenticate: Digest realm="a \\"b\\"", nonce="zT0v", qop="auth,auth-int", algorithm=SHA-256, stale=false, opaque="x"\r\nProxy-Authenticate: Basic realm="c"\r\nConnection: keep-alive\r\n\r\n<html>',
  'HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate YII=, NTLM,\r\n Digest realm=r, nonce=n, algorithm=MD5-sess, userhash=true,\r\n\tcharset=UTF-8\r\nproxy-connection: close\r\n\r\n',
  'HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
  'HTTP/1.1 502 Bad Gateway\r\nProxy-Status: "a;b"; error=connection_refused; details="x, \\" y", c;error=dns_error\r\n\r\n',
  'HTTP/1.1 500 Unable to connect\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n',
] as const
const PIECES = [
  '\r\n',
  '\n',
  '\r',
  '\r\n\r\n',
  '\n\n',
  '\0',
  ' ',
  '\t',
  ':',
  ',',
  ';',
  '=',
  '"',
  '\\',
  '\x7f',
  '\xff',
  '100',
  '101',
  '204',
  '407',
  'HTTP/1.1 ',
  'close',
  'Content-Length: 99999999999\r\n',
  'Proxy-Status: a; error=',
  'Proxy-Authenticate: ',
  'Digest ',
  'Basic realm=x',
  'nonce="',
  'realm="',
  'qop=auth',
  'stale=true',
  `algorithm=${'x'.repeat(300)}`,
  'y'.repeat(3_000),
  '; '.repeat(500),
]

function makeHead(random: Random): Buffer {
  const text = random.once(4) ? random.pick(HEADS) + random.pick(HEADS) : random.pick(HEADS)
  if (random.once(3)) return mutateBytes(Buffer.from(text, 'latin1'), random)
  let made = mutateText(text, PIECES, random)
  if (random.once(20)) made = made.replace('\r\n', `\r\nX: ${'z'.repeat(MAX_HEAD_BYTES - random.below(700))}\r\n`)
  return Buffer.from(made, 'latin1')
}

const isLine = (text: string) => text.length < 400 && !/\p{Cc}|\u2028|\u2029/u.test(text) && !text.includes(SECRET)

/** What a dialer does with an answer; each authorization that comes of it can be sent. */
function checkHead(bytes: Buffer, used: number, fields: ReturnType<typeof responseFields>): string | undefined {
  const { status, reasonAt, reasonLength, fieldsAt, fieldsLength, contentLength } = fields
  if (used > MAX_HEAD_BYTES || status < 100 || status > 999) return `${used} bytes, status ${status}`
  if (reasonAt < AT || reasonAt + reasonLength > fieldsAt || fieldsAt + fieldsLength >= AT + used)
    return 'offsets outside'
  if (status >= 200 && status <= 299) return undefined
  if (contentLength < -1 || !Number.isSafeInteger(contentLength)) return `a content of ${contentLength}`
  const { message } = refusedByHttp(bytes, fields)
  if (!isLine(message)) return JSON.stringify(message)
  const authentication = new HttpAuthentication({ username: 'me', password: SECRET }, () => 'cnonce')
  const challenges = parseChallenges(fieldTexts(bytes, fields, 'proxy-authenticate'))
  const answer = authentication.challenged(authentication.first('h:1'), challenges, 'h:1')
  if ('failure' in answer) return isLine(answer.message) ? undefined : JSON.stringify(answer.message)
  encodeConnect(request, 0, 'h:1', answer.authorization)
  return answer.authorization.includes(SECRET) ? answer.authorization : undefined
}

/** What a dialer has room for. */
const request = new Uint8Array(4_080)

function makeDatagram(random: Random): Buffer {
  const bytes = Buffer.alloc(700)
  const payload = random.below(random.once(4) ? 65_536 : 40)
  const port = random.below(65_536)
  const length = random.once(3)
    ? encodeHevNameHeader(bytes, 0, payload, random.bytes(1 + random.below(248)), port)
    : encodeHevHeader(bytes, 0, payload, random.bytes(random.once(2) ? 4 : 16), port)
  return mutateBytes(bytes.subarray(0, length + random.below(60)), random)
}

function checkDatagram(_bytes: Buffer, used: number, fields: ReturnType<typeof hevFields>): string | undefined {
  const { addressAt, addressLength, payloadAt, payloadLength, totalLength } = fields
  const isSound =
    addressAt >= AT + 4 && addressLength > 0 && addressAt + addressLength + 2 === payloadAt && payloadLength >= 0
  if (!isSound || payloadAt + payloadLength !== AT + totalLength) return JSON.stringify(fields)
  return used === totalLength || used === payloadAt - AT ? undefined : `${used} used of ${totalLength}`
}

const datagram = { out: hevFields, make: makeDatagram, check: checkDatagram }

export const CODECS: Readonly<Record<string, Codec>> = {
  'HTTP answer': { parse: parseResponse, out: responseFields, make: makeHead, check: checkHead },
  'SOCKS4 reply': {
    parse: parseReply4,
    out: reply4Fields,
    make: random => mutateBytes(Buffer.concat([Buffer.of(0, 90 + random.below(4)), random.bytes(6)]), random),
    check: (_, used, { addressAt }: ReturnType<typeof reply4Fields>) =>
      used === 8 && addressAt === AT + 4 ? undefined : `${used} used, address at ${addressAt}`,
  },
  'UDP in TCP': { parse: parseHevDatagram, ...datagram },
  'UDP in TCP, header': { parse: parseHevHeader, ...datagram },
}

const POISONS = ['\0', '\n', '\xff', 'a: b\r\n\r\n'] as const

/** What a parser says of the first `length` bytes; behind them stands poison, or nothing at all. */
function told({ parse, out }: Codec, message: Buffer, length: number, poison: string | undefined) {
  const bytes = Buffer.alloc(AT + length + (poison === undefined ? 0 : 40), poison, 'latin1')
  message.copy(bytes, AT, 0, length)
  const found = out()
  const used = (parse as (...args: unknown[]) => number)(bytes, AT, length, found)
  return { bytes, found, used }
}

function isSame(one: object, other: object): boolean {
  return Object.keys(one).every(key => one[key as never] === other[key as never])
}

/** Some lengths of a message, ascending, its own last; one in 200 times all of them. */
function lengthsOf(message: Buffer, random: Random): number[] {
  if (message.length < 1_000 && random.once(200)) return Array.from({ length: message.length + 1 }, (_, index) => index)
  const some = Array.from({ length: 5 }, () => random.below(message.length + 1))
  return [...some, message.length].sort((a, b) => a - b)
}

/** However it comes in pieces, the answer is the same: more is wanted until it is known, and then it stays. */
function checkPieces(codec: Codec, message: Buffer, random: Random): { fault?: string; used: number } {
  let known: ReturnType<typeof told> | undefined
  let used = NEED_MORE
  for (const length of lengthsOf(message, random)) {
    const bare = told(codec, message, length, undefined)
    const other = told(codec, message, length, random.pick(POISONS))
    ;({ used } = bare)
    if (used !== other.used || !isSame(bare.found, other.found))
      return { fault: `what is behind ${length} bytes counts`, used }
    if (used > length || used < MALFORMED) return { fault: `${used} of ${length} used`, used }
    if (known !== undefined && used !== known.used) return { fault: `another answer to ${length} bytes`, used }
    if (used > 0 && known !== undefined && !isSame(bare.found, known.found))
      return { fault: `${length} bytes, and something else found`, used }
    if (used !== NEED_MORE) known = bare
    const wrong = used > 0 ? codec.check(bare.bytes, used, bare.found as never) : undefined
    if (wrong !== undefined) return { fault: wrong, used }
  }
  return { used }
}

/** Counts of taken, refused and incomplete messages. */
export async function fuzzCodec(t: ExecutionContext, name: string, rounds: number, seed: number): Promise<void> {
  const codec = CODECS[name]!
  const random = new Random(seed)
  const counts = { taken: 0, refused: 0, incomplete: 0 }
  for (let round = 0; round < rounds; round++) {
    const message = codec.make(random)
    if (round % BREATH === 0) await setImmediate()
    try {
      const { fault, used } = checkPieces(codec, message, random)
      if (fault !== undefined) return t.fail(`round ${round}: ${fault}: ${message.toString('hex')}`)
      if (used === MALFORMED) alienToHttp(message)
      counts[used > 0 ? 'taken' : used === MALFORMED ? 'refused' : 'incomplete']++
    } catch (error) {
      return t.fail(`round ${round}: ${String(error)}: ${message.toString('hex')}`)
    }
  }
  t.log(`${rounds} messages: ${JSON.stringify(counts)}`)
  // SOCKS4 has nothing to refuse but its first byte, so that is rare.
  for (const count of Object.values(counts)) t.true(count > rounds / 100, JSON.stringify(counts))
}

const URLS = [
  `socks5://user:${SECRET}@proxy.example:1080?udp=tcp`,
  `socks5h+tls://lan-{source}:${SECRET}@[2001:db8::1]:1080?ca=/etc/ca.pem&insecure=false`,
  `https://u%40x:${SECRET}%20@192.0.2.1?cert=/c&key=/k&servername=p.example&udp=off`,
  `http+unix://u:${SECRET}@/run/proxy.sock`,
  'socks4a://fred@h:9',
  'direct://?interface=eth0&mark=0x22b',
  'reject://',
]
const URL_PIECES = [
  ...[
    '://',
    ':',
    '@',
    '/',
    '//',
    '?',
    '&',
    '=',
    '#',
    '%',
    '%00',
    '%0a',
    '%3F',
    '%25',
    '%40',
    '%zz',
    '%F0%9F%98%80',
    '{source}',
    '{',
    '}',
  ],
  ...['[', ']', '[::1]', '..', ' ', '\0', '\n', '\u2028', '\ud800', '+unix', '+tls', 'http', 'insecure=true', 'udp='],
  ...['mark=', 'ca=', '99999', '0', '-1', 'constructor', '__proto__', 'x'.repeat(300), SECRET],
]

/** What was taken can be told, and read again; what was not is told in one line, and nothing of the password. */
function checkUrl(url: string): { fault?: string; isTaken: boolean } {
  let upstream: ReturnType<typeof parseProxyUrl>
  try {
    upstream = parseProxyUrl(url)
  } catch (error) {
    const isSound = error instanceof FormatError && isLine(error.message)
    return isSound ? { isTaken: false } : { fault: String(error), isTaken: false }
  }
  const text = proxyUrlText(upstream)
  const { password, ...rest } = upstream as { password?: string }
  const { password: again, ...same } = parseProxyUrl(text) as { password?: string }
  if (JSON.stringify(rest) !== JSON.stringify(same) || (password === undefined) !== (again === undefined))
    return { fault: `reads differently: ${text}`, isTaken: true }
  if (password?.includes(SECRET) && !JSON.stringify(rest).includes(SECRET) && text.includes(SECRET))
    return { fault: `the password is told: ${text}`, isTaken: true }
  return { isTaken: true }
}

export async function fuzzUrls(t: ExecutionContext, rounds: number, seed: number): Promise<void> {
  const random = new Random(seed)
  let taken = 0
  for (let round = 0; round < rounds; round++) {
    const url = mutateText(random.pick(URLS), URL_PIECES, random)
    if (round % BREATH === 0) await setImmediate()
    try {
      const { fault, isTaken } = checkUrl(url)
      if (fault !== undefined) return t.fail(`round ${round}: ${JSON.stringify(url)}: ${fault}`)
      if (isTaken) taken++
    } catch (error) {
      return t.fail(`round ${round}: ${JSON.stringify(url)}: ${String(error)}`)
    }
  }
  t.log(`${rounds} URLs: ${taken} taken`)
  t.true(taken > rounds / 20 && taken < rounds / 1.5, `${taken} taken`)
}
