import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { findJsonError } from '../src/config/json.ts'
import { refusal, temporaryFolder } from './commands/tungate.ts'

const PROXY = 'proxy: socks5://127.0.0.1:1080\n'

/** Content of a file → its line, the key, and what the line must say. */
const FILES: [title: string, content: string | Buffer, expected: RegExp][] = [
  ['12abc', `${PROXY}tun:\n  mtu: 12abc\n`, /:3: tun\.mtu: found "12abc", allowed an integer from 576 to 65535$/],
  ['1e3', `${PROXY}tun:\n  mtu: 1e3\n`, /:3: tun\.mtu: found "1e3", allowed an integer/],
  ['a float', `${PROXY}tun: {mtu: 1500.0}\n`, /:2: tun\.mtu: found "1500\.0"/],
  ['hexadecimal', `${PROXY}bind:\n  mark: 0x10\n`, /:3: bind\.mark: found "0x10"/],
  ['a leading zero', `${PROXY}bind:\n  mark: 010\n`, /:3: bind\.mark: found "010"/],
  ['a sign', `${PROXY}bind:\n  mark: +1\n`, /:3: bind\.mark: found "\+1"/],
  ['negative', `${PROXY}bind:\n  mark: -1\n`, /:3: bind\.mark: found "-1"/],
  ['a mark over 32 bits', `${PROXY}bind:\n  mark: 4294967296\n`, /:3: bind\.mark: found "4294967296".*4294967295/],
  ['an underscore', `${PROXY}limits:\n  flows: 1_000\n`, /:3: limits\.flows: found "1_000"/],
  ['empty text', `${PROXY}tun:\n  mtu: ''\n`, /:3: tun\.mtu: found an empty text/],
  ['no value', `${PROXY}tun:\n  mtu:\n`, /:3: tun\.mtu: found null/],
  ['null', `${PROXY}tun:\n  name: null\n`, /:3: tun\.name: found null, allowed an interface name/],
  ['tilde', `${PROXY}icmp:\n  echo: ~\n`, /:3: icmp\.echo: found null, allowed off or reply/],
  ['a boolean', `${PROXY}tun:\n  offload: true\n`, /:3: tun\.offload: found true, allowed auto or off/],
  ['a list', `${PROXY}tun:\n  mtu: [1500]\n`, /:3: tun\.mtu: found a list/],
  ['a mapping for a value', `${PROXY}tun:\n  mtu: {a: 1}\n`, /:3: tun\.mtu: found a mapping/],
  ['a value for a section', `${PROXY}tun: 5\n`, /:2: tun: found a text, allowed a mapping with the keys name, fd, mtu/],
  ['an empty section', `${PROXY}tun:\n`, /:2: tun: found null, allowed a mapping/],
  ['a list as the file', '- a\n- b\n', /:1: the file: found a list, allowed a mapping/],
  ['null as the file', 'null\n', /:1: the file: found null, allowed a mapping/],
  ['a list as a key', `${PROXY}? [a]\n: 1\n`, /:2: found a list as a key/],
  ['a duplicate key', `${PROXY}tun:\n  mtu: 1500\n  mtu: 1400\n`, /:4: tun\.mtu: found twice \(first on line 3\)/],
  ['a duplicate section', `tun: {mtu: 1500}\n${PROXY}tun: {}\n`, /:3: tun: found twice \(first on line 1\)/],
  ['an unknown key', `${PROXY}tun:\n  mtuu: 1500\n`, /:3: tun\.mtuu: unknown key \(did you mean tun\.mtu\?\)$/],
  ['a key without its section', `${PROXY}mtu: 1500\n`, /:2: mtu: unknown key \(did you mean tun\.mtu\?\)$/],
  [
    'a key in kebab case',
    `${PROXY}tcp:\n  idle-timeout: 5m\n`,
    /:3: tcp\.idle-timeout: unknown key \(did you mean tcp\.idleTimeout\?\)/,
  ],
  [
    'a key like nothing',
    `${PROXY}udp:\n  zzzzqqqq: 1\n`,
    /:3: udp\.zzzzqqqq: unknown key, allowed udp\.idleTimeout, udp\.maxAssociations, udp\.mode, udp\.quic$/,
  ],
  ['__proto__', `${PROXY}__proto__: {mtu: 1}\n`, /:2: __proto__: unknown key/],
  ['a merge key', `${PROXY}tun:\n  <<: {mtu: 1}\n`, /:3: tun\."<<": unknown key/],
  ['a tab', `${PROXY}tun:\n\tmtu: 1500\n`, /:3: found a tab as indentation, allowed spaces$/],
  ['wrong indentation', `${PROXY}tun:\n  mtu: 1500\n name: x\n`, /:4: found wrong indentation/],
  ['an open quote', `tun:\n  name: "x\n`, /:\d: found no end of a quote/],
  ['two documents', `${PROXY}---\n${PROXY}`, /:2: found a second document/],
  ['an alias', `${PROXY}tun: &a {mtu: 1500}\nudp: *a\n`, /:2: found an anchor \(&\), allowed plain values/],
  ['a lone alias', `${PROXY}tun:\n  mtu: *a\n`, /:3: found an alias/],
  ['a tag', `${PROXY}tun:\n  mtu: !!int 1500\n`, /:3: found a tag/],
  ['an unknown tag', `${PROXY}tun:\n  mtu: !foo 1500\n`, /:3: found a tag/],
  ['a directive', `%YAML 1.1\n---\n${PROXY}`, /:1: found a %YAML directive/],
  ['brackets without end', '['.repeat(3000), /:1: found nesting that is too deep/],
  ['nothing', '', /: found nothing in it/],
  ['white space', '  \n\n', /: found nothing in it/],
  ['a BOM', Buffer.from(`\ufeff${PROXY}`), /:1: found a byte order mark \(BOM\)/],
  ['UTF-16', Buffer.from(`\ufeff${PROXY}`, 'utf16le'), /:1: found UTF-16, allowed UTF-8$/],
  ['NUL', `${PROXY}tun:\n  name: a\0b\n`, /:3: found a NUL byte, allowed text$/],
  ['a control character', `${PROXY}# \x1b[31m\n`, /:2: found the control character 0x1b/],
  ['wrong UTF-8', Buffer.from([...Buffer.from(PROXY), 0x23, 0xc3, 0x28, 0x0a]), /:2: found bytes that are not UTF-8/],
  ['10 MB', Buffer.alloc(10_000_000, '# comment\n'), /: found more than 32768 bytes, allowed at most 32768$/],
  ['port 65536', 'proxy: socks5://127.0.0.1:65536\n', /:1: proxy: found port 65536, allowed a port from 1 to 65535$/],
  [
    'IPv6 without brackets',
    'proxy: socks5://::1:1080\n',
    /:1: proxy: found an IPv6 address without brackets.*\[2001:db8::1\]/,
  ],
  ['a proxy that is a number', 'proxy: 1080\n', /:1: proxy: found a text without a scheme/],
  [
    'an IPv4 address without length',
    `${PROXY}tun:\n  address4: 198.18.0.1\n`,
    /:3: tun\.address4: found "198\.18\.0\.1", allowed an IPv4 address with a prefix/,
  ],
  ['a prefix of 33', `${PROXY}tun:\n  address4: 198.18.0.1/33\n`, /:3: tun\.address4: found/],
  ['IPv6 as address4', `${PROXY}tun:\n  address4: fd00::1/64\n`, /:3: tun\.address4: found/],
  ['a loopback address', `${PROXY}tun:\n  address6: ::1/128\n`, /:3: tun\.address6: found "::1\/128"/],
  ['a small MTU with IPv6', `${PROXY}tun:\n  mtu: 1000\n`, /:3: tun\.mtu: found 1000, allowed 1280 to 65535 with IPv6/],
  ['the tun as its own way out', `${PROXY}bind:\n  interface: tungate0\n`, /:3: bind\.interface: found tun\.name/],
  [
    'a time without a unit known',
    `${PROXY}tcp:\n  idleTimeout: 5 min\n`,
    /:3: tcp\.idleTimeout: found "5 min", allowed a duration from 1s to 168h/,
  ],
  [
    'a time of seconds by mistake',
    `${PROXY}tcp:\n  connectTimeout: 10\n`,
    /:3: tcp\.connectTimeout: found "10", allowed a duration from 100ms/,
  ],
  ['a time in fractions', `${PROXY}tcp:\n  connectTimeout: 1.5s\n`, /:3: tcp\.connectTimeout: found "1\.5s"/],
  ['a relative socket', `${PROXY}status:\n  socket: x.sock\n`, /:3: status\.socket: found "x\.sock", allowed auto, ''/],
  [
    'a level misspelt',
    `${PROXY}log:\n  level: inf\n`,
    /:3: log\.level: found "inf" \(did you mean info\?\), allowed error, warn, info or debug$/,
  ],
]

for (const [title, content, expected] of FILES) {
  test(`config: a file with ${title} is refused on one line`, t => {
    const file = join(temporaryFolder(t), 'gateway.yaml')
    writeFileSync(file, content)
    const message = refusal(t, ['--config', file])
    t.regex(message, expected)
    t.true(message.startsWith(`${file}:`))
    t.notRegex(message, /[\n\r]/)
  })
}

test('config: what is JSON is decided as JSON.parse does, and the place is the first wrong character', t => {
  const good = [
    '{}',
    ' [ ] ',
    '0',
    '-1.5e+3',
    '"\\u00e4\\n"',
    '{"a":[1,{"b":null}],"c":true}',
    '"\u2028"',
    '"😀"',
    '"\x7f"',
  ]
  const bad: [text: string, at: number][] = [
    ['', 0],
    ['{', 1],
    ['{"a"}', 4],
    ['{"a": }', 6],
    ['{"a": abc}', 6],
    ['{"a":1,}', 7],
    ['[1 2]', 3],
    ['[1,]', 3],
    ['01', 1],
    ['1.', 1],
    ['"a\nb"', 0],
    ['"\\x"', 0],
    ["{'a':1}", 1],
    ['{} {}', 3],
    ['nul', 0],
  ]
  for (const text of good) {
    t.notThrows(() => JSON.parse(text), text)
    t.is(findJsonError(text), undefined, text)
  }
  for (const [text, at] of bad) {
    t.throws(() => JSON.parse(text), undefined, text)
    t.is(findJsonError(text), at, text)
  }
})

const JSON_FILES: [title: string, content: string, expected: RegExp][] = [
  ['a bare word', '{\n  "tun": {\n    "mtu": abc\n  }\n}\n', /:3: found what is not JSON/],
  ['deep nesting', '['.repeat(30_000), /:1: found nesting that is too deep/],
  ['a comment', '{\n  // no\n}\n', /:2: found what is not JSON/],
  ['a last comma', '{\n  "tun": {"mtu": 1500},\n}\n', /:3: found what is not JSON/],
  ['no end', '{\n  "tun": {\n', /found what is not JSON/],
  ['YAML in it', 'tun: {mtu: 1500}\n', /:1: found what is not JSON/],
  ['1e3', '{\n\t"tun": {\n\t\t"mtu": 1e3\n\t}\n}\n', /:3: tun\.mtu: found "1e3"/],
  ['null', '{"tun": {"mtu": null}}', /:1: tun\.mtu: found null/],
  ['null alone', 'null', /:1: the file: found null/],
  ['a duplicate key', '{"tun": {"mtu": 1500,\n"mtu": 1500}}', /:2: tun\.mtu: found twice/],
]

for (const [title, content, expected] of JSON_FILES) {
  test(`config: a JSON file with ${title} is refused on one line`, t => {
    const file = join(temporaryFolder(t), 'gateway.json')
    writeFileSync(file, content)
    const message = refusal(t, ['--config', file])
    t.regex(message, expected)
    t.notRegex(message, /[\n\r]/)
  })
}

const ODD_FILES: [title: string, make: (folder: string) => string, expected: RegExp][] = [
  [
    'a file that is not there',
    folder => join(folder, 'none.yaml'),
    /none\.yaml: cannot be read: there is no such file$/,
  ],
  ['a folder', folder => folder, /: found a folder, allowed a regular file$/],
  ['a device', () => '/dev/null', /^\/dev\/null: found a device, pipe or socket/],
  ['a device without end', () => '/dev/zero', /^\/dev\/zero: found a device, pipe or socket/],
  [
    'a file below a file',
    folder => {
      writeFileSync(join(folder, 'f'), 'x')
      return join(folder, 'f/g')
    },
    /: cannot be read: a part of its path/,
  ],
  [
    'a link to itself',
    folder => {
      symlinkSync('loop', join(folder, 'loop'))
      return join(folder, 'loop')
    },
    /: cannot be read: too many symbolic links$/,
  ],
  [
    'a FIFO',
    folder => {
      execFileSync('mkfifo', [join(folder, 'fifo')])
      return join(folder, 'fifo')
    },
    /: found a device, pipe or socket/,
  ],
  ['a file that gives an error', () => '/proc/self/mem', /^\/proc\/self\/mem: cannot be read: EIO$/],
  ['no name', () => '', /^--config: found an empty text, allowed the path of a file$/],
]

for (const [title, make, expected] of ODD_FILES) {
  test(`config: ${title} as --config is refused`, t => {
    t.regex(refusal(t, [`--config=${make(temporaryFolder(t))}`]), expected)
  })
}

test('config: a line break in the name of a file does not break the line', t => {
  const folder = join(temporaryFolder(t), 'a\nb')
  mkdirSync(folder)
  writeFileSync(join(folder, 'c.yaml'), 'tun: {mtu: x}\n')
  const message = refusal(t, ['--config', join(folder, 'c.yaml')])
  t.notRegex(message, /\n/)
  t.regex(message, /a\\u\{a\}b\/c\.yaml:1: tun\.mtu: found "x"/)
})
