import test, { type ExecutionContext } from 'ava'
import { FormatError } from '../../src/config/format-error.ts'
import { parseProxyUrl, proxyUrlText } from '../../src/config/proxy-url.ts'
import type { Upstream } from '../../src/options.ts'
import { userFor } from '../../src/upstream/proxy/user.ts'

const SECRET = 'S3cr3tZq'
const COMMON = { isPerSource: false, udp: 'auto' }
const at = (host: string, port: number) => ({ server: { host, port }, ...COMMON })

const ACCEPTED: readonly [url: string, upstream: object, text: string][] = [
  ['socks5://h', { kind: 'socks5', ...at('h', 1080) }, 'socks5://h:1080'],
  ['SOCKS5H://h:1/', { kind: 'socks5', ...at('h', 1) }, 'socks5://h:1'],
  ['socks5://[2001:DB8::1]', { kind: 'socks5', ...at('2001:DB8::1', 1080) }, 'socks5://[2001:DB8::1]:1080'],
  ['socks5://[::1]:65535', { kind: 'socks5', ...at('::1', 65535) }, 'socks5://[::1]:65535'],
  ['socks5://192.0.2.1:9', { kind: 'socks5', ...at('192.0.2.1', 9) }, 'socks5://192.0.2.1:9'],
  [
    'socks5://my_proxy-1.example.:9',
    { kind: 'socks5', ...at('my_proxy-1.example.', 9) },
    'socks5://my_proxy-1.example.:9',
  ],
  [
    'socks5+tls://h?insecure=true',
    { kind: 'socks5', tls: { insecure: true }, ...at('h', 1080) },
    'socks5+tls://h:1080?insecure=true',
  ],
  ['socks5h+tls://h', { kind: 'socks5', tls: { insecure: false }, ...at('h', 1080) }, 'socks5+tls://h:1080'],
  ['socks4://h', { kind: 'socks4', names: false, ...at('h', 1080) }, 'socks4://h:1080'],
  ['socks4a://fred@h:9', { kind: 'socks4', names: true, username: 'fred', ...at('h', 9) }, 'socks4a://fred@h:9'],
  ['http://h:3128', { kind: 'http', ...at('h', 3128) }, 'http://h:3128'],
  ['https://h', { kind: 'http', tls: { insecure: false }, ...at('h', 443) }, 'https://h:443'],
  [
    'https://h:8443?ca=/etc/a%26b.pem&cert=c&key=/k&servername=p.example&insecure=false',
    {
      kind: 'http',
      tls: { ca: '/etc/a&b.pem', cert: 'c', key: '/k', servername: 'p.example', insecure: false },
      ...at('h', 8443),
    },
    'https://h:8443?ca=/etc/a%26b.pem&cert=c&key=/k&servername=p.example',
  ],
  [
    'socks5+unix:///run/a%20b%3F.sock?udp=off',
    { kind: 'socks5', server: { path: '/run/a b?.sock' }, isPerSource: false, udp: 'off' },
    'socks5+unix:///run/a%20b%3F.sock?udp=off',
  ],
  [
    `socks5h+unix://me:${SECRET}@/p`,
    { kind: 'socks5', server: { path: '/p' }, username: 'me', password: SECRET, ...COMMON },
    'socks5+unix://me:***@/p',
  ],
  ['socks4+unix:///p', { kind: 'socks4', names: false, server: { path: '/p' }, ...COMMON }, 'socks4+unix:///p'],
  ['socks4a+unix:///p', { kind: 'socks4', names: true, server: { path: '/p' }, ...COMMON }, 'socks4a+unix:///p'],
  ['http+unix:///p', { kind: 'http', server: { path: '/p' }, ...COMMON }, 'http+unix:///p'],
  ['direct://', { kind: 'direct', interface: '', mark: 0 }, 'direct://'],
  [
    'direct://?interface=eth0.5&mark=0x22B',
    { kind: 'direct', interface: 'eth0.5', mark: 0x22b },
    'direct://?interface=eth0.5&mark=0x22b',
  ],
  ['direct://?mark=4294967295', { kind: 'direct', interface: '', mark: 0xffff_ffff }, 'direct://?mark=0xffffffff'],
  ['direct://?interface=a&mark=0x1', { kind: 'direct', interface: 'a', mark: 1 }, 'direct://?interface=a&mark=0x1'],
  ['direct://?mark=0', { kind: 'direct', interface: '', mark: 0 }, 'direct://'],
  ['reject://', { kind: 'reject' }, 'reject://'],
  [
    'http://me@h:1?passwordFile=/run/a%20b&udp=off',
    { kind: 'http', username: 'me', passwordFile: '/run/a b', ...at('h', 1), udp: 'off' },
    'http://me@h:1?udp=off&passwordFile=/run/a%20b',
  ],
]

test('proxy-url: each kind is read, and told in its shortest form, which reads the same', t => {
  for (const [url, upstream, text] of ACCEPTED) {
    const found = parseProxyUrl(url)
    t.deepEqual(found, upstream as Upstream, url)
    t.is(proxyUrlText(found), text)
    t.deepEqual(parseProxyUrl(text.replace('***', SECRET)), found)
  }
})

test('proxy-url: user and password are percent-decoded UTF-8, and the password is never told', t => {
  const url = `socks5://a%40b%3Ac%7Bd:${SECRET}%2F%C3%A4%00@h`
  const found = parseProxyUrl(url)
  t.like(found, { username: 'a@b:c{d', password: `${SECRET}/\u00e4\0`, isPerSource: false })
  t.is(proxyUrlText(found), 'socks5://a%40b%3Ac%7Bd:***@h:1080')
  t.like(parseProxyUrl(`socks5://u:p@${SECRET}@h`), { username: 'u', password: `p@${SECRET}` }, 'the last @ ends it')
  t.false('password' in parseProxyUrl('socks5://user@h'))
  t.like(parseProxyUrl(`http://u:@h:1`), { password: '' }, 'tokens stand in the user name')
  t.like(parseProxyUrl(`http://u:${'x'.repeat(2048)}@h:1`), { username: 'u' })
})

test('proxy-url: {source} in a user name stands for the client', t => {
  const found = parseProxyUrl('socks5://lan-{source}.{source}:x@h') as Extract<Upstream, { kind: 'socks5' }>
  t.like(found, { username: 'lan-{source}.{source}', isPerSource: true })
  t.is(userFor(found, '10.0.0.1'), 'lan-10.0.0.1.10.0.0.1')
  t.is(proxyUrlText(found), 'socks5://lan-{source}.{source}:***@h:1080')
  const literal = parseProxyUrl('socks5://%7Bsource%7D:x@h')
  t.like(literal, { username: '{source}', isPerSource: false })
  t.is(userFor({ username: '{source}', isPerSource: false }, '10.0.0.1'), '{source}')
  t.is(proxyUrlText(literal), 'socks5://%7Bsource%7D:***@h:1080')
})

test('proxy-url: a host name has labels of 1 to 63 characters, 253 in all', t => {
  for (const host of ['a', 'ab', '9.a', 'a'.repeat(63), `${'a.'.repeat(126)}a`])
    t.like(parseProxyUrl(`socks5://${host}`), { server: { host, port: 1080 } })
})

test('proxy-url: a servername has 1 to 253 characters', t => {
  for (const servername of ['a', 'ab', 'a'.repeat(253)])
    t.like(parseProxyUrl(`https://h?servername=${servername}`), { tls: { servername, insecure: false } })
})

test('proxy-url: which ways UDP may take', t => {
  for (const way of ['auto', 'associate', 'tcp', 'off']) t.like(parseProxyUrl(`socks5://h?udp=${way}`), { udp: way })
  for (const way of ['auto', 'off'])
    for (const scheme of ['http', 'https', 'socks4', 'socks4a'])
      t.like(parseProxyUrl(`${scheme}://h:1?udp=${way}`), { udp: way })
})

const REFUSED: readonly [url: string, message: RegExp][] = [
  ['', /^found a text without a scheme/],
  ['h:1', /found a text without a scheme/],
  [`u:${SECRET}@h:65536`, /found a text without a scheme/],
  ['://h', /found a scheme that is none/],
  ['ftp://h', /found the scheme ftp:\/\/( \(did you mean http\?\))?, allowed socks5:\/\/, socks4:\/\//],
  [`SECRET ${SECRET}://h`, /found a scheme that is none/],
  ['constructor://h', /found the scheme constructor:/],
  ['socks5://h\n', /found a control character/],
  ['socks5://\ud800@h', /found half of a character/],
  ['socks5://', /found no host/],
  ['socks5://:1', /found no host/],
  ['socks5://h:', /found a colon without a port/],
  ['socks5://h:0', /found port 0, allowed a port from 1 to 65535/],
  ['socks5://h:01', /found port 01/],
  ['socks5://h:65536', /found port 65536/],
  ['socks5://h:1e3', /found a port that is no decimal number/],
  [`socks5://u:${SECRET}`, /found a port that is no decimal number/],
  ['http://h', /found no port, and HTTP proxies have no common one, allowed :3128 \(squid\)/],
  ['http://[::1]', /found no port/],
  ['socks5://[::1', /found an IPv6 address without brackets/],
  ['socks5://2001:db8::1', /found an IPv6 address without brackets/],
  ['socks5://[1.2.3.4]', /found brackets around what is no IPv6 address, allowed socks5:\/\/\[2001:db8::1\]:1080/],
  ['http://[fe80::1%25eth0]:1', /found brackets around what is no IPv6 address, allowed http:\/\/\[2001:db8::1\]:3128/],
  ['socks5://[::1]x', /found a text behind the brackets/],
  ['socks5://256.1.1.1', /found numbers that are no IPv4 address/],
  ['socks5://a.10', /found numbers that are no IPv4 address/],
  [`socks5://${'a.'.repeat(127)}`, /found a host that is no valid name/],
  ['socks5://127.1', /found numbers that are no IPv4 address/],
  ['socks5://bad host', /found a host that is no valid name/],
  [`socks5://${'a'.repeat(64)}`, /found a host that is no valid name/],
  ['x://h', /found the scheme x:\/\//],
  ['socks5://#h', /found a # behind the host/],
  ['socks5://u#@h', /found a bare \/, \? or # before the @/],
  ['socks5://@h', /found a user name of 0 bytes/],
  ['reject://@', /found a host, path or user/],
  [`https://h?servername=${'a'.repeat(254)}`, /found a servername that is no host name/],
  ['socks5://h:1/path', /found a path, query or fragment/],
  ['socks5://h:1#x', /found a # behind the host/],
  ['socks5://h?udp=off#x', /found a # behind the host/],
  ['socks5://h?udp=off?', /found a second \?/],
  [`socks5://u:${SECRET}%zz@h`, /found a wrong percent sequence in the password/],
  [`socks5://u%ff:${SECRET}@h`, /found a wrong percent sequence in the user name/],
  [`socks5://u:${SECRET}/x@h`, /found a bare \/, \? or # before the @/],
  [`socks5://u:${SECRET}?x=@h`, /found a bare \/, \? or # before the @/],
  [`socks5://:${SECRET}@h`, /found a user name of 0 bytes, allowed 1 to 255 bytes/],
  ['socks5://u:@h', /found a password of 0 bytes/],
  [`socks5://u:${SECRET.repeat(32)}@h`, /found a password of 256 bytes, allowed 1 to 255 bytes/],
  [`http://u:${SECRET.repeat(257)}@h:1`, /found a password of 2056 bytes, allowed 0 to 2048 bytes/],
  [`socks5://${'%C3%A4'.repeat(128)}:x@h`, /found a user name of 256 bytes/],
  [`socks5://${'x'.repeat(217)}{source}:x@h`, /found a user name of 256 bytes/],
  ['socks5://{client}:x@h', /found a bare \{ or \}, allowed \{source\}, or %7B and %7D/],
  ['socks5://{source:x@h', /found a bare \{ or \}/],
  [`socks4://u:${SECRET}@h`, /found a password, allowed a user name alone: SOCKS4 has no passwords/],
  ['socks4://u%00@h', /found a NUL in the user name/],
  [`http://u%3A:${SECRET}@h:1`, /found a colon in the user name/],
  [`http://u%0A:${SECRET}@h:1`, /found a control character in the user name/],
  [`http://u:${SECRET}%0D@h:1`, /found a control character in the password/],
  [
    `socks5://u:${SECRET}@h?${SECRET}=1`,
    /found an option that there is not, allowed udp, passwordFile with socks5:\/\//,
  ],
  [
    'https://h?',
    /found an option that there is not, allowed ca, cert, key, servername, insecure, udp, passwordFile with https:\/\//,
  ],
  ['http://h:1?ca=/x', /found the option ca without TLS, allowed udp, passwordFile with http:\/\//],
  ['https://h?insecure', /found the option insecure without a value/],
  ['https://h?insecure=yes', /found another word for insecure, allowed insecure=true or false/],
  ['https://h?insecure=true&insecure=true', /found the option insecure twice/],
  ['https://h?insecure=true&ca=/x', /found ca beside insecure=true/],
  ['https://h?ca=', /found no path in ca/],
  ['https://h?ca=%00', /found no path in ca/],
  ['https://h?ca=%zz', /found a wrong percent sequence in the option ca/],
  ['https://h?key=/x', /found key without cert/],
  ['https://h?servername=1.2.3.4', /found a servername that is no host name/],
  ['https://h?servername=a%20b', /found a servername that is no host name/],
  ['socks5://h?udp=maybe', /found another way for udp, allowed udp=auto, associate, tcp or off/],
  ['http://h:1?udp=associate', /found udp=associate, allowed udp=auto or off: this kind of proxy has no UDP/],
  ['socks4://h?udp=tcp', /found udp=tcp, allowed udp=auto or off/],
  ['socks5+unix://h', /found no absolute path/],
  ['socks5+unix://h/p', /found no absolute path/],
  ['socks5+unix:///', /found a path that ends with \//],
  ['socks5+unix:///a%00', /found a NUL in the path/],
  [`socks5+unix:///${'x'.repeat(107)}`, /found a path of 108 bytes/],
  ['socks5+unix:///p?ca=/x', /found the option ca without TLS/],
  ['socks5://u@h?passwordFile=', /found no path in passwordFile/],
  ['socks5://h?passwordFile=/p', /found passwordFile without a user name/],
  [`socks5://u:${SECRET}@h?passwordFile=/p`, /found a password and passwordFile, allowed one of the two/],
  ['socks4://u@h?passwordFile=/p', /found an option that there is not, allowed udp with socks4:/],
  ['direct://h', /found a host, path or user, allowed direct:\/\/ with nothing between/],
  ['reject://u@', /found a host, path or user/],
  ['reject://?udp=off', /found an option that there is not, allowed none with reject:\/\//],
  ['direct://?interface=', /found no interface name/],
  ['direct://?interface=a%2Fb', /found no interface name/],
  ['direct://?interface=1234567890123456', /found no interface name/],
  ['direct://?mark=4294967296', /found no mark/],
  ['direct://?mark=-1', /found no mark/],
  ['direct://?mark=0x', /found no mark/],
]

function refusal(t: ExecutionContext, url: string): FormatError {
  const error = t.throws(() => parseProxyUrl(url), { instanceOf: FormatError }, url)
  t.is(error.message, `found ${error.found}, allowed ${error.allowed}`)
  t.false(error.message.includes(SECRET.slice(0, 4)), error.message)
  return error
}

test('proxy-url: an error says what is wrong, and holds nothing of the password', t => {
  for (const [url, message] of REFUSED) t.regex(refusal(t, url).message, message, url)
})

test('proxy-url: an unknown scheme that is near a known one is answered with that', t => {
  const error = t.throws(() => parseProxyUrl('Sock5://h'), { instanceOf: FormatError })
  t.is(error.found, 'the scheme sock5:// (did you mean socks5?)')
})
