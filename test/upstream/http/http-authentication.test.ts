import { createHash } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import type { DialError } from '../../../src/upstream/dialer.ts'
import { type Attempt, HttpAuthentication } from '../../../src/upstream/http/http-authentication.ts'
import { parseChallenges } from '../../../src/upstream/http/http-challenge.ts'

const USER = { username: 'me', password: 's3cret-w0rd' }
const AUTHORITY = 'example.org:443'
const BASIC = 'Basic realm="r"'
const digestOf = (nonce: string, more = '') => `Digest realm="r", nonce="${nonce}", qop="auth"${more}`

const challenged = (auth: HttpAuthentication, attempt: Attempt, ...fields: string[]) =>
  auth.challenged(attempt, parseChallenges(fields), AUTHORITY)

function next(t: ExecutionContext, auth: HttpAuthentication, attempt: Attempt, ...fields: string[]): Attempt {
  const answer = challenged(auth, attempt, ...fields)
  if ('failure' in answer) throw new Error(answer.message)
  t.false(answer.authorization.includes(USER.password))
  return answer
}

function denial(t: ExecutionContext, answer: Attempt | DialError, message: RegExp): void {
  if (!('failure' in answer)) return t.fail('another attempt')
  t.is(answer.failure, 'authentication')
  t.regex(answer.message, message)
  t.false(answer.message.includes(USER.password))
}

const parameter = (attempt: Attempt, name: string) =>
  new RegExp(`[ ,]${name}="?([^",]*)`).exec(attempt.authorization)?.[1]

test('http-authentication: nothing is shown before the proxy asks, and then Basic with each dial', t => {
  const auth = new HttpAuthentication(USER)
  const first = auth.first(AUTHORITY)
  t.is(first.authorization, '')
  const second = next(t, auth, first, BASIC)
  t.is(second.authorization, `Basic ${Buffer.from('me:s3cret-w0rd').toString('base64')}`)
  auth.passed(second)
  t.is(auth.first(AUTHORITY).authorization, second.authorization)
})

test('http-authentication: Basic carries UTF-8 (RFC 7617 section 2), and no password', t => {
  const of = (username: string, password?: string) => {
    const auth = new HttpAuthentication({ username, password })
    return next(t, auth, auth.first(AUTHORITY), BASIC).authorization
  }
  t.is(of('test', '123\u00a3'), 'Basic dGVzdDoxMjPCow==', 'the example of the RFC')
  t.is(of('Aladdin', 'open sesame'), 'Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==')
  t.is(of('me'), `Basic ${Buffer.from('me:').toString('base64')}`)
})

test('http-authentication: a name with the colons of an IPv6 client is not shown by Basic, which would cut it, but by Digest', t => {
  const auth = new HttpAuthentication({ username: 'u-{source}', password: USER.password })
  const [four, six] = ['u-198.18.0.2', 'u-2001:db8::2']
  for (let dials = 0; dials < 2; dials++) {
    const first = auth.first(AUTHORITY, six)
    t.is(first.authorization, '')
    denial(t, challenged(auth, first, BASIC), /colon.*IPv6/)
    const other = auth.first(AUTHORITY, four)
    t.regex((dials === 0 ? next(t, auth, other, BASIC) : other).authorization, /^Basic /)
  }
  t.is(parameter(next(t, auth, auth.first(AUTHORITY, six), BASIC, digestOf('a')), 'username'), six)
})

test('http-authentication: the strongest challenge is answered, and Basic never behind a Digest that was refused', t => {
  const auth = new HttpAuthentication(USER)
  const md5 = digestOf('a', ', algorithm=MD5')
  const sha = digestOf('b', ', algorithm=SHA-256')
  const second = next(t, auth, auth.first(AUTHORITY), BASIC, md5, sha, 'Negotiate')
  t.is(parameter(second, 'algorithm'), 'SHA-256')
  t.is(parameter(second, 'nonce'), 'b')
  t.is(parameter(second, 'uri'), AUTHORITY)
  denial(t, challenged(auth, second, BASIC, sha), /refused the user name or the password/)
  const unknown = next(t, auth, auth.first(AUTHORITY), digestOf('c', ', algorithm=SHA-1'), BASIC)
  t.true(unknown.authorization.startsWith('Basic '))
})

test('http-authentication: a password that is refused is not shown again by that dial', t => {
  const auth = new HttpAuthentication(USER)
  const basic = next(t, auth, auth.first(AUTHORITY), BASIC)
  denial(t, challenged(auth, basic, BASIC), /refused the user name or the password/)
  denial(t, challenged(auth, auth.first(AUTHORITY), BASIC), /refused/)
  const digest = next(t, auth, auth.first(AUTHORITY), digestOf('a'))
  denial(t, challenged(auth, digest, digestOf('b')), /refused/)
})

test('http-authentication: without a password, or for a scheme of others, it says what is wanted', t => {
  const none = new HttpAuthentication({})
  denial(t, challenged(none, none.first(AUTHORITY), BASIC), /none is configured/)
  const auth = new HttpAuthentication(USER)
  denial(t, challenged(auth, auth.first(AUTHORITY), 'Negotiate', 'NTLM'), /wants negotiate, ntlm: Basic, and Digest/)
  denial(t, challenged(auth, auth.first(AUTHORITY)), /wants a password, and not how/)
  denial(t, challenged(auth, auth.first(AUTHORITY), digestOf('a', ', algorithm=X')), /wants digest:/)
})

test('http-authentication: a nonce counts on from dial to dial, and serves one at a time', t => {
  const auth = new HttpAuthentication(USER)
  const one = next(t, auth, auth.first(AUTHORITY), digestOf('a'))
  t.is(parameter(one, 'nc'), '00000001')
  t.is(auth.first(AUTHORITY).authorization, '', 'the only nonce is in use')
  auth.passed(one)
  auth.passed(one)
  const two = auth.first(AUTHORITY)
  t.is(parameter(two, 'nonce'), 'a')
  t.is(parameter(two, 'nc'), '00000002')
  t.is(parameter(two, 'cnonce'), parameter(one, 'cnonce'))
  t.not(parameter(two, 'response'), parameter(one, 'response'))
  t.is(auth.first(AUTHORITY).authorization, '', 'told twice, it is one')
})

test('http-authentication: a nonce that has gone stale, said or unsaid, takes one more request', t => {
  for (const more of [', stale=true', '']) {
    const auth = new HttpAuthentication(USER)
    auth.passed(next(t, auth, auth.first(AUTHORITY), digestOf('a')))
    const old = auth.first(AUTHORITY)
    t.is(parameter(old, 'nonce'), 'a')
    const fresh = next(t, auth, old, digestOf('b', more))
    t.is(parameter(fresh, 'nonce'), 'b')
    t.is(parameter(fresh, 'nc'), '00000001')
    auth.passed(fresh)
    t.is(parameter(auth.first(AUTHORITY), 'nonce'), 'b')
    t.is(auth.first(AUTHORITY).authorization, '', 'the old one is gone')
  }
})

test('http-authentication: a proxy that calls each nonce stale is given up', t => {
  const auth = new HttpAuthentication(USER)
  let attempt = auth.first(AUTHORITY)
  for (const nonce of ['a', 'b', 'c', 'd']) attempt = next(t, auth, attempt, digestOf(nonce, ', stale=true'))
  denial(t, challenged(auth, attempt, digestOf('e', ', stale=true')), /again and again/)
})

test('http-authentication: for a stale nonce another one is told that is in use: who asks with none gets his own', t => {
  const auth = new HttpAuthentication(USER)
  const inUse = next(t, auth, auth.first(AUTHORITY), digestOf('a'))
  auth.passed(next(t, auth, auth.first(AUTHORITY), digestOf('b')))
  const bare = next(t, auth, auth.first(AUTHORITY), digestOf('a', ', stale=true'))
  t.is(bare.authorization, '')
  t.is(parameter(next(t, auth, bare, digestOf('c')), 'nonce'), 'c')
  auth.passed(inUse)
  t.is(parameter(auth.first(AUTHORITY), 'nonce'), 'a')
})

test('http-authentication: one nonce for all counts on', t => {
  const auth = new HttpAuthentication(USER)
  const bare = [1, 2, 3].map(() => auth.first(AUTHORITY))
  for (const [index, attempt] of bare.entries()) {
    const answer = next(t, auth, attempt, digestOf('a'))
    t.is(parameter(answer, 'nc'), `0000000${index + 1}`)
    auth.passed(answer)
  }
  t.is(parameter(next(t, auth, { ...auth.first(AUTHORITY), authorization: '' }, digestOf('a')), 'nc'), '00000005')
  t.is(auth.first(AUTHORITY).authorization, '', 'once in the list of idle ones')
})

test("http-authentication: a nonce that waits for a dial, and is told to another one, is that one's alone", t => {
  const auth = new HttpAuthentication(USER)
  const [one, two] = [auth.first(AUTHORITY), auth.first(AUTHORITY)]
  auth.passed(next(t, auth, one, digestOf('a')))
  t.is(parameter(next(t, auth, two, digestOf('a')), 'nc'), '00000002')
  t.is(auth.first(AUTHORITY).authorization, '')
})

test('http-authentication: bounded, however many nonces a proxy tells', t => {
  const auth = new HttpAuthentication(USER)
  const made = Array.from({ length: 3_000 }, (_, index) => next(t, auth, auth.first(AUTHORITY), digestOf(`n${index}`)))
  const again = (nonce: string) => next(t, auth, auth.first(AUTHORITY), digestOf(nonce))
  t.is(parameter(again('n2999'), 'nc'), '00000002')
  t.is(parameter(again('n0'), 'nc'), '00000001', 'the count is forgotten')
  for (const attempt of made) auth.passed(attempt)
  const used = Array.from({ length: 100 }, () => auth.first(AUTHORITY))
  t.is(used.filter(({ authorization }) => authorization !== '').length, 64)
})

test('http-authentication: each user name has its own nonces, and the proxy is known to all', t => {
  const auth = new HttpAuthentication(USER)
  const of = (attempt: Attempt) => parameter(attempt, 'username')
  const a = next(t, auth, auth.first(AUTHORITY, '10.0.0.1'), digestOf('a'))
  t.is(of(a), '10.0.0.1')
  auth.passed(a)
  t.is(auth.first(AUTHORITY, '10.0.0.2').authorization, '')
  const b = next(t, auth, auth.first(AUTHORITY, '10.0.0.2'), digestOf('a'))
  t.is(of(b), '10.0.0.2')
  auth.passed(b)
  t.is(of(auth.first(AUTHORITY, '10.0.0.1')), '10.0.0.1')
  const basic = next(t, auth, auth.first(AUTHORITY, 'x'), BASIC)
  t.is(basic.authorization, `Basic ${Buffer.from('x:s3cret-w0rd').toString('base64')}`)
})

/**
 * As strict as a proxy may be: each nonce counts in order and `uses` times; one that does not is spoilt for all. For a
 * stale one it tells a new one, or, as squid does, the latest that was used.
 */
class StrictProxy {
  readonly #counts = new Map<string, number>()
  readonly #uses: number
  readonly #tellsLatest: boolean
  #latest: string | undefined
  #made = 0
  asked = 0

  constructor(uses: number, tellsLatest: boolean) {
    this.#uses = uses
    this.#tellsLatest = tellsLatest
  }

  /** undefined: it is content. */
  answer(attempt: Attempt): string | undefined {
    this.asked++
    if (attempt.authorization === '') return this.#challenge(undefined)
    const nonce = parameter(attempt, 'nonce')!
    const nc = parameter(attempt, 'nc')!
    const hash = (text: string) => createHash('sha256').update(text).digest('hex')
    const right = hash(
      `${hash('me:r:s3cret-w0rd')}:${nonce}:${nc}:${parameter(attempt, 'cnonce')}:auth:${hash(`CONNECT:${AUTHORITY}`)}`,
    )
    if (parameter(attempt, 'response') !== right) throw new Error('a wrong response')
    const count = Number.parseInt(nc, 16)
    if (this.#counts.get(nonce) !== count - 1 || count > this.#uses) {
      this.#counts.delete(nonce)
      if (this.#latest === nonce) this.#latest = undefined
      return this.#challenge(this.#tellsLatest ? this.#latest : undefined, ', stale=true')
    }
    if (count === 1) this.#latest = nonce
    this.#counts.set(nonce, count)
    return undefined
  }

  #challenge(told: string | undefined, more = ''): string {
    const nonce = told ?? `n${this.#made++}`
    if (told === undefined) this.#counts.set(nonce, 0)
    return digestOf(nonce, `, algorithm=SHA-256${more}`)
  }
}

for (const tellsLatest of [false, true])
  test(`http-authentication: dials side by side all pass a proxy that counts strictly${tellsLatest ? ', as squid does' : ''}`, t => {
    const auth = new HttpAuthentication(USER)
    const proxy = new StrictProxy(50, tellsLatest)
    let dials = 0
    for (let wave = 0; wave < 200; wave++) {
      let open = Array.from({ length: 40 }, () => auth.first(AUTHORITY))
      dials += open.length
      while (open.length > 0) {
        // The last comes first: what is sent side by side arrives in any order.
        open = open.reverse().flatMap(attempt => {
          const challenge = proxy.answer(attempt)
          if (challenge !== undefined) return [next(t, auth, attempt, challenge)]
          auth.passed(attempt)
          return []
        })
      }
    }
    t.log(`${proxy.asked} requests for ${dials} dials`)
    t.true(proxy.asked < dials * 1.1)
  })
