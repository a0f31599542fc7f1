import test from 'ava'
import { parseChallenges } from '../../../src/upstream/http/http-challenge.ts'

/** `[scheme, { name: value }]` of each. */
function challenges(...fields: string[]): [string, Record<string, string>][] {
  return parseChallenges(fields).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])
}

test('http-challenge: schemes, parameters, and several of both in one field or in several', t => {
  t.deepEqual(challenges('Basic'), [['basic', {}]])
  t.deepEqual(challenges('Basic realm="a, b=c"'), [['basic', { realm: 'a, b=c' }]])
  const both = [
    ['digest', { realm: 'x', nonce: 'y', qop: 'auth,auth-int', stale: 'TRUE' }],
    ['basic', { realm: 'z' }],
  ]
  const digest = 'Digest realm=x, Nonce="y" , qop = "auth,auth-int",stale=TRUE'
  t.deepEqual(challenges(`${digest}, Basic realm="z"`), both as never)
  t.deepEqual(challenges(digest, 'Basic realm="z"'), both as never)
  t.deepEqual(challenges(`,, ${digest} , ,\tBasic realm="z",`), both as never)
  t.deepEqual(
    challenges('Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'),
    [
      ['newauth', { realm: 'apps', type: '1', title: 'Login to "apps"' }],
      ['basic', { realm: 'simple' }],
    ],
    'RFC 9110 section 11.6.1',
  )
})

test('http-challenge: a scheme may come alone or with a token68', t => {
  t.deepEqual(challenges('Negotiate, NTLM'), [
    ['negotiate', {}],
    ['ntlm', {}],
  ])
  t.deepEqual(challenges('Negotiate YII+/_.~-=='), [['negotiate', {}]])
  t.deepEqual(challenges('NTLM TlRMTVNTUAAC , Basic realm=a'), [
    ['ntlm', {}],
    ['basic', { realm: 'a' }],
  ])
})

test('http-challenge: quotes may hold anything, escaped or not', t => {
  t.deepEqual(challenges('A x="\\\\", y="\\"", z="Basic realm=\\"b\\"", empty=""'), [
    ['a', { x: '\\', y: '"', z: 'Basic realm="b"', empty: '' }],
  ])
  t.deepEqual(challenges('A x="\xe4"'), [['a', { x: '\xe4' }]])
})

test('http-challenge: of a repeated parameter the first counts, and names of objects mean nothing', t => {
  t.deepEqual(challenges('A nonce=1, NONCE=2'), [['a', { nonce: '1' }]])
  const [challenge] = parseChallenges(['A __proto__=x, constructor=y'])
  t.is(challenge!.parameters.get('__proto__'), 'x')
  t.is(challenge!.parameters.get('toString'), undefined)
})

test('http-challenge: what is broken ends the reading, and takes with it what is not all there', t => {
  t.deepEqual(challenges('Basic realm="a", Digest realm="b", nonce="c'), [['basic', { realm: 'a' }]])
  t.deepEqual(challenges('Digest realm="b", stale='), [])
  t.deepEqual(challenges('Digest realm="b\\'), [])
  t.deepEqual(challenges('Basic realm="a"; x'), [['basic', { realm: 'a' }]])
  t.deepEqual(challenges('', ' ', ',', '"', '=', '=a', ';'), [])
  t.deepEqual(challenges('Digest realm="b', 'Basic realm="a"'), [['basic', { realm: 'a' }]], 'field by field')
})
