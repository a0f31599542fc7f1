import { execFile } from 'node:child_process'
import { createServer } from 'node:net'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { parseChallenges } from '../../../src/upstream/http/http-challenge.ts'
import { answerDigest, type DigestChallenge, readDigest, strengthOf } from '../../../src/upstream/http/http-digest.ts'

const read = (text: string) => readDigest(parseChallenges([text])[0]!)

function parametersOf(answer: string): Record<string, string> {
  const [challenge] = parseChallenges([answer])
  return { scheme: challenge!.scheme, ...Object.fromEntries(challenge!.parameters) }
}

const RFC_FIELDS =
  'realm="http-auth@example.org", qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
const RFC_REQUEST = {
  username: 'Mufasa',
  password: 'Circle of Life',
  method: 'GET',
  uri: '/dir/index.html',
  cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
  count: 1,
}

test('http-digest: the examples of RFC 7616 section 3.9.1', t => {
  for (const [algorithm, response] of [
    ['MD5', '8ca523f5e9506fed4657c9700eebdbec'],
    ['SHA-256', '753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1'],
  ] as const)
    t.deepEqual(parametersOf(answerDigest(read(`Digest ${RFC_FIELDS}, algorithm=${algorithm}`)!, RFC_REQUEST)), {
      scheme: 'digest',
      username: 'Mufasa',
      realm: 'http-auth@example.org',
      uri: '/dir/index.html',
      algorithm,
      nonce: '7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v',
      nc: '00000001',
      cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
      qop: 'auth',
      response,
      opaque: 'FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS',
    })
})

test('http-digest: the example of RFC 7616 section 3.9.2, as erratum 4897 has it', t => {
  const challenge = read(
    'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true',
  )
  const answer = answerDigest(challenge!, {
    username: Buffer.from('J\u00e4s\u00f8n Doe').toString('latin1'),
    password: 'Secret, or not?',
    method: 'GET',
    uri: '/doe.json',
    cnonce: 'NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v',
    count: 1,
  })
  const { username, response, userhash } = parametersOf(answer)
  // The RFC prints those of SHA-512 cut off, which is another function.
  t.is(username, '793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b')
  t.is(response, '3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5')
  t.is(userhash, 'true')
})

test('http-digest: the example of RFC 2617 section 3.5, and its like without qop (RFC 2069)', t => {
  const fields = 'realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
  const request = { ...RFC_REQUEST, password: 'Circle Of Life', cnonce: '0a4f113b' }
  const first = answerDigest(read(`Digest ${fields}, qop="auth,auth-int"`)!, request)
  t.is(parametersOf(first).response, '6629fae49393a05397450978507c4ef1')
  t.false(first.includes('algorithm'), 'what was not said is not said')
  const second = answerDigest(read(`Digest ${fields}`)!, request)
  t.is(parametersOf(second).response, '670fd8c2df070c60b045671b8b24ff02')
  t.false(/qop|nc=|cnonce/.test(second))
})

test('http-digest: the count is told in eight hexadecimal digits', t => {
  const challenge = read(`Digest ${RFC_FIELDS}`)!
  const of = (count: number) => parametersOf(answerDigest(challenge, { ...RFC_REQUEST, count }))
  t.is(of(0xabc).nc, '00000abc')
  t.not(of(2).response, of(1).response)
})

test('http-digest: quotes and backslashes are escaped, and go bare into the hash', t => {
  const challenge = read('Digest realm="a\\"b\\\\c", nonce="n", qop=auth')!
  t.is(challenge.realm, 'a"b\\c')
  const answer = answerDigest(challenge, { ...RFC_REQUEST, username: 'x"y\\' })
  t.true(answer.includes('username="x\\"y\\\\"') && answer.includes('realm="a\\"b\\\\c"'), answer)
  t.like(parametersOf(answer), { username: 'x"y\\', realm: 'a"b\\c' })
})

test('http-digest: a name that is not ASCII goes percent-encoded to who knows UTF-8, else as its bytes', t => {
  const username = Buffer.from("J\u00e4 %'n").toString('latin1')
  const request = { ...RFC_REQUEST, username }
  const fields = 'Digest realm="r", nonce="n", qop=auth'
  t.true(answerDigest(read(`${fields}, charset=utf-8`)!, request).includes("username*=UTF-8''J%C3%A4%20%25%27n,"))
  t.true(answerDigest(read(fields)!, request).includes(`username="${username}",`))
  t.true(answerDigest(read(`${fields}, charset=UTF-8`)!, RFC_REQUEST).includes('username="Mufasa",'))
})

test('http-digest: what cannot be answered is no challenge', t => {
  t.truthy(read('Digest realm="r", nonce="n", qop="auth"'))
  t.truthy(read('Digest realm="", nonce="", algorithm=md5-SESS, qop="auth-int, AUTH"')?.isSession)
  for (const text of [
    'Basic realm="r", nonce="n"',
    'Digest nonce="n", qop="auth"',
    'Digest realm="r", qop="auth"',
    'Digest realm="r", nonce="n", qop="auth-int"',
    'Digest realm="r", nonce="n", algorithm=SHA-1',
    'Digest realm="r", nonce="n", algorithm=MD5-sess-sess',
    'Digest realm="r\t", nonce="n"',
    `Digest realm="r", nonce="${'n'.repeat(1024)}"`,
    `Digest realm="r", nonce="n", opaque="${'n'.repeat(1023)}"`,
  ])
    t.is(read(text), undefined, text.slice(0, 80))
  t.truthy(read(`Digest realm="r", nonce="n", opaque="${'n'.repeat(1022)}"`))
})

test('http-digest: SHA-512-256 is stronger than SHA-256, and that than MD5', t => {
  const of = (algorithm: string) => strengthOf(read(`Digest realm="r", nonce="n", algorithm=${algorithm}`)!)
  t.true(of('SHA-512-256') > of('SHA-256') && of('sha-256-SESS') > of('MD5') && of('MD5') === of('MD5-sess'))
})

/** A proxy that answers 407 and gives back what curl then sends as its authorization. */
async function curlAnswer(t: ExecutionContext, challenge: string, user: string): Promise<string> {
  const sent: string[] = []
  const server = createServer(socket => {
    let text = ''
    socket.on('error', () => undefined)
    socket.on('data', chunk => {
      text += chunk.toString('latin1')
      if (!text.includes('\r\n\r\n')) return
      const authorization = /^Proxy-Authorization: (.*)\r$/m.exec(text)?.[1]
      if (authorization !== undefined) sent.push(authorization)
      text = ''
      socket.write(
        authorization === undefined
          ? `HTTP/1.1 407 No\r\nProxy-Authenticate: ${challenge}\r\nContent-Length: 0\r\n\r\n`
          : 'HTTP/1.1 403 Enough\r\nContent-Length: 0\r\n\r\n',
      )
    })
  })
  t.teardown(() => server.close())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const args = ['-q', '-s', '-m', '10', '--proxytunnel', '--proxy-digest', '-U', user, '-x', `http://127.0.0.1:${port}`]
  const { error } = await promisify(execFile)('curl', [...args, 'http://192.0.2.1:443/'], {
    env: { PATH: process.env.PATH },
  })
    .then(() => ({ error: undefined }))
    .catch((reason: Error) => ({ error: reason }))
  t.is(sent.length, 1, `${String(error)}: curl answered the challenge`)
  return sent[0]!
}

// Not SHA-512-256, for which curl took SHA-256 until 8.8.
for (const algorithm of ['MD5', 'MD5-sess', 'SHA-256', 'SHA-256-sess'])
  for (const more of ['', ', userhash=true', ', opaque="o p"'])
    test(`http-digest: curl answers the same to ${algorithm}${more}`, async t => {
      const text = `Digest realm="a \\"b\\"", nonce="Zm9v+/=", qop="auth,auth-int", algorithm=${algorithm}${more}`
      const theirs = parametersOf(await curlAnswer(t, text, 'm"e:s3cret w\u00f6rd'))
      const challenge: DigestChallenge = read(text)!
      const ours = answerDigest(challenge, {
        username: 'm"e',
        password: Buffer.from('s3cret w\u00f6rd').toString('latin1'),
        method: 'CONNECT',
        uri: '192.0.2.1:443',
        cnonce: theirs.cnonce!,
        count: 1,
      })
      t.deepEqual(parametersOf(ours), theirs)
    })
