import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { loadConfig } from '../src/config.ts'
import { refusal, temporaryFolder } from './commands/tungate.ts'

const SECRET = 'hunter2secret'

/** One variable or flag, tried as both. */
const VALUES: [variable: string, flag: string, raw: string, expected: RegExp][] = [
  ['TUN_MTU', '--mtu', '12abc', /tun\.mtu: found "12abc", allowed an integer from 576 to 65535$/],
  ['TUN_MTU', '--tun-mtu', '1e3', /tun\.mtu: found "1e3"/],
  ['TUN_MTU', '--mtu', '', /tun\.mtu: found an empty text/],
  ['TUN_MTU', '--mtu', 'null', /tun\.mtu: found "null"/],
  ['TUN_MTU', '--mtu', ' 1500', /tun\.mtu: found " 1500"/],
  ['TUN_MTU', '--mtu', '65536', /tun\.mtu: found "65536"/],
  ['TUN_MTU', '--mtu', '٣٤٥٦', /tun\.mtu: found/],
  ['TUN_MTU', '--mtu', '99999999999999999999999', /tun\.mtu: found "99999999999999999999999"/],
  ['TUN_FD', '--tun-fd', '2', /tun\.fd: found "2", allowed none, or an integer from 3/],
  ['WORKERS', '--workers', '0', /workers: found "0", allowed auto, or an integer from 1 to 16/],
  ['WORKERS', '--workers', '17', /workers: found "17", allowed auto, or an integer from 1 to 16/],
  ['WORKERS', '--workers', 'many', /workers: found "many", allowed auto, or an integer from 1 to 16/],
  [
    'TUN_NAME',
    '--tun',
    'sixteen-letters-',
    /tun\.name: found "sixteen-letters-", allowed an interface name of 1 to 15/,
  ],
  ['TUN_NAME', '--tun', 'a/b', /tun\.name: found "a\/b"/],
  ['TUN_NAME', '--tun', 'tun%d', /tun\.name: found "tun%d"/],
  ['TUN_NAME', '--tun', '..', /tun\.name: found "\.\."/],
  ['TUN_NAME', '--tun', 'a\nb', /tun\.name: found "a\\nb"/],
  ['TUN_OFFLOAD', '--offload', 'on', /tun\.offload: found "on".*allowed auto or off$/],
  ['BIND_MARK', '--mark', '0x22b', /bind\.mark: found "0x22b"/],
  ['ICMP_ECHO', '--echo', 'rply', /icmp\.echo: found "rply" \(did you mean reply\?\)/],
  ['LOG_LEVEL', '--log-level', 'DEBUG', /log\.level: found "DEBUG" \(did you mean debug\?\)/],
  ['TCP_KEEP_ALIVE', '--tcp-keep-alive', '1ms', /tcp\.keepAlive: found "1ms".*or 0 \(off\)/],
  ['PROXY', '--proxy', '', /proxy: found nothing, allowed socks5:\/\//],
  ['PROXY', '--proxy', 'socks5://h:0', /proxy: found port 0, allowed a port from 1 to 65535/],
  ['PROXY', '--proxy', 'socks5://h:99999', /proxy: found port 99999/],
  ['PROXY', '--proxy', 'socks5://h:', /proxy: found a colon without a port/],
  ['PROXY', '--proxy', 'socks5://', /proxy: found no host/],
  ['PROXY', '--proxy', 'socks5://[::1', /proxy: found/],
  ['PROXY', '--proxy', 'socks5://[1.2.3.4]:1', /proxy: found brackets around what is no IPv6 address/],
  ['PROXY', '--proxy', 'socks5://[fe80::1%25eth0]:1', /proxy: found brackets around what is no IPv6 address/],
  ['PROXY', '--proxy', 'socks5://256.1.1.1', /proxy: found numbers that are no IPv4 address/],
  ['PROXY', '--proxy', 'socks5://127.1', /proxy: found numbers that are no IPv4 address/],
  ['PROXY', '--proxy', 'socks5://h:1/path', /proxy: found a path, query or fragment/],
  ['PROXY', '--proxy', 'socks5://h:1?x=1', /proxy: found an option that there is not/],
  ['PROXY', '--proxy', 'http://h', /proxy: found no port, and HTTP proxies have no common one/],
  ['PROXY', '--proxy', 'sosck5://h:1', /proxy: found the scheme sosck5:\/\/ \(did you mean socks5\?\)/],
  ['PROXY', '--proxy', 'bad_host!:1', /proxy: found a text without a scheme/],
  ['PROXY', '--proxy', 'socks5://bad host', /proxy: found a host that is no valid name/],
  ['PROXY', '--proxy', `socks5://u:${SECRET}%zz@h:1`, /proxy: found a wrong percent sequence in the password/],
  ['PROXY', '--proxy', `socks5://u:${SECRET}%ff@h:1`, /proxy: found a wrong percent sequence in the password/],
  ['PROXY', '--proxy', `socks5://u:${SECRET}/x@h:1`, /proxy: found a bare \/, \? or #/],
  ['PROXY', '--proxy', `socks5://:${SECRET}@h:1`, /proxy: found a user name of 0 bytes/],
  ['PROXY', '--proxy', 'socks5://u:@h:1', /proxy: found a password of 0 bytes/],
  ['PROXY', '--proxy', `socks5://u:${SECRET.repeat(20)}@h:1`, /proxy: found a password of 260 bytes, allowed 1 to 255/],
  ['PROXY', '--proxy', `socks5://${'%C3%A4'.repeat(128)}:x@h:1`, /proxy: found a user name of 256 bytes/],
  ['PROXY', '--proxy', `socks5://u:${SECRET}@h:65536`, /proxy: found port 65536/],
  ['PROXY', '--proxy', `u:${SECRET}@h:65536`, /proxy: found a text without a scheme/],
  ['PROXY', '--proxy', `socks5://u:${SECRET}`, /proxy: found a port that is no decimal number/],
  ['PROXY', '--proxy', `ftp://u:${SECRET}@h`, /proxy: found the scheme ftp:/],
  ['PROXY', '--proxy', 'socks5://user@h:1', /proxy: found a user name without a password/],
]

for (const [name, flag, raw, expected] of VALUES) {
  test(`config: TUNGATE_${name} and ${flag} refuse ${JSON.stringify(raw.slice(0, 40))}`, t => {
    const variable = `TUNGATE_${name}`
    const proxy = { TUNGATE_PROXY: 'socks5://127.0.0.1' }
    const byVariable = refusal(t, [], { ...proxy, [variable]: raw })
    const byFlag = refusal(t, [`${flag}=${raw}`], proxy)
    for (const [source, message] of [
      [variable, byVariable],
      [flag, byFlag],
    ] as const) {
      t.true(message.startsWith(`${source}: `), message)
      t.regex(message, expected)
      t.notRegex(message, /[\n\r]/)
      t.false(message.includes(SECRET), message)
    }
  })
}

test('config: unknown variables are refused, those of container platforms are not ours', t => {
  const proxy = { TUNGATE_PROXY: 'socks5://127.0.0.1' }
  t.regex(
    refusal(t, [], { ...proxy, TUNGATE_TUN_MTUU: '1' }),
    /^TUNGATE_TUN_MTUU: unknown variable \(did you mean TUNGATE_TUN_MTU\?\)$/,
  )
  t.regex(refusal(t, [], { ...proxy, TUNGATE_XQZ: SECRET }), /^TUNGATE_XQZ: unknown variable, allowed those of/)
  const platform = {
    TUNGATE_SERVICE_HOST: '10.0.0.1',
    TUNGATE_SERVICE_PORT: '1080',
    TUNGATE_SERVICE_PORT_SOCKS: '1080',
    TUNGATE_PORT: 'tcp://10.0.0.1:1080',
    TUNGATE_PORT_1080_TCP: 'tcp://10.0.0.1:1080',
    TUNGATE_PORT_1080_TCP_ADDR: '10.0.0.1',
  }
  t.notThrows(() => loadConfig({ environment: { ...proxy, ...platform }, flags: [], uid: 0, requireProxy: true }))
})

test('config: a wrong value is refused also when a later source covers it', t => {
  const proxy = { TUNGATE_PROXY: 'socks5://127.0.0.1', TUNGATE_TUN_MTU: 'x' }
  t.regex(refusal(t, ['--mtu', '1500'], proxy), /^TUNGATE_TUN_MTU: tun\.mtu: found "x"/)
})

test('config: two workers on a descriptor are refused, one is not', t => {
  const environment = { TUNGATE_PROXY: 'socks5://h', TUNGATE_TUN_FD: '5' }
  t.is(
    refusal(t, [], { ...environment, TUNGATE_WORKERS: '2' }),
    'TUNGATE_WORKERS: workers: found 2, with tun.fd, allowed 1, because a descriptor is one queue',
  )
  t.notThrows(() => loadConfig({ environment, flags: [], uid: 0, requireProxy: true }))
})

const PASSWORD_FILES: [title: string, url: string, content: string | Buffer, expected: RegExp][] = [
  ['empty', 'socks5://u@h', '', /found a password of 0 bytes, allowed 1 to 255 bytes/],
  ['a newline only', 'socks5://u@h', '\n', /found a password of 0 bytes/],
  ['too long', 'socks5://u@h', SECRET.repeat(20), /found a password of 260 bytes/],
  ['more than 4 KiB', 'socks5://u@h', SECRET.repeat(1000), /found more than 4096 bytes/],
  ['not UTF-8', 'socks5://u@h', Buffer.from([0xff, 0xfe]), /found bytes that are not UTF-8/],
  ['beside a password', `socks5://u:${SECRET}@h`, SECRET, /found a password in proxy too, allowed one of the two/],
  ['without a user name', 'socks5://h', SECRET, /found no user name in proxy/],
]

for (const [title, url, content, expected] of PASSWORD_FILES) {
  test(`config: a password file that is ${title} is refused without its content`, t => {
    const file = join(temporaryFolder(t), 'password')
    writeFileSync(file, content)
    const message = refusal(t, ['--proxy', url], { TUNGATE_PROXY_PASSWORD_FILE: file })
    t.true(message.startsWith('TUNGATE_PROXY_PASSWORD_FILE: proxyPasswordFile: '), message)
    t.regex(message, expected)
    t.false(message.includes(SECRET))
  })
}
