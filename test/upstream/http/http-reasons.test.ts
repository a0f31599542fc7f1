import test from 'ava'
import type { DialFailure } from '../../../src/upstream/dialer.ts'
import { parseResponse, responseFields } from '../../../src/upstream/http/http-codec.ts'
import { alienToHttp, refusedByHttp } from '../../../src/upstream/http/http-reasons.ts'

function refusal(status: string, ...lines: string[]) {
  const bytes = Buffer.from(`HTTP/1.1 ${status}\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`, 'latin1')
  const fields = responseFields()
  if (parseResponse(bytes, 0, bytes.length, fields) !== bytes.length) throw new Error('malformed')
  return refusedByHttp(bytes, fields)
}

test('http-reasons: a status alone tells what it can', t => {
  const wanted: [number, DialFailure][] = [
    [403, 'prohibited'],
    [451, 'prohibited'],
    [407, 'authentication'],
    [401, 'authentication'],
    [404, 'host-unreachable'],
    [502, 'host-unreachable'],
    [503, 'host-unreachable'],
    [504, 'host-unreachable'],
    [405, 'unsupported'],
    [501, 'unsupported'],
    [505, 'unsupported'],
    [408, 'timeout'],
    [101, 'general'],
    [302, 'general'],
    [400, 'general'],
    [500, 'general'],
    [999, 'general'],
  ]
  for (const [status, failure] of wanted) {
    const error = refusal(`${status} Reason`)
    t.is(error.failure, failure, String(status))
    t.true(error.message.startsWith(`the proxy answered ${status} `), error.message)
  }
  for (const status of [300, 302, 399]) t.regex(refusal(`${status} Found`).message, /log-in page/)
  t.notRegex(refusal('400 Bad').message, /log-in page/)
  t.regex(refusal('101 Switching').message, /another question/)
})

test('http-reasons: an unknown status is told with its reason, made safe', t => {
  t.is(refusal('500 Unable to connect').message, 'the proxy answered 500 "Unable to connect" (an unknown reason)')
  t.is(refusal('500').message, 'the proxy answered 500 (an unknown reason)')
  t.is(refusal('403 Filtered').message, 'the proxy answered 403 (not allowed by its rules)')
  const long = refusal(`500 user:secret@${'x'.repeat(500)}\x9b31m`).message
  t.true(long.length < 150 && !long.includes('secret') && !long.includes('\x9b'), long)
})

test('http-reasons: Proxy-Status tells more (RFC 9209): the error nearest to the destination', t => {
  const of = (...values: string[]) => refusal('502 Bad', ...values.map(value => `Proxy-Status: ${value}`)).failure
  const wanted: [string, DialFailure][] = [
    ['dns_error', 'host-unreachable'],
    ['dns_timeout', 'host-unreachable'],
    ['destination_not_found', 'host-unreachable'],
    ['destination_unavailable', 'host-unreachable'],
    ['destination_ip_prohibited', 'prohibited'],
    ['destination_ip_unroutable', 'net-unreachable'],
    ['connection_refused', 'refused'],
    ['connection_terminated', 'general'],
    ['connection_timeout', 'timeout'],
    ['connection_limit_reached', 'general'],
    ['http_request_denied', 'prohibited'],
    ['proxy_loop_detected', 'general'],
  ]
  for (const [error, failure] of wanted) {
    t.is(of(`proxy.example; error=${error}`), failure, error)
    t.is(of(`"a;error=connection_refused, \\" b"; details="x, ;error=dns_error"; error=${error};x=1`), failure, error)
  }
  t.is(of('a; error=connection_refused, b; error=http_request_denied'), 'refused')
  t.is(of('a', 'b;error=no_such_error', 'c;error=connection_refused'), 'refused')
  t.is(of('a; x-error=connection_refused'), 'host-unreachable')
  t.is(of('a; error=connection_refused_not'), 'host-unreachable')
  t.is(of('a; error=constructor'), 'host-unreachable')
  t.is(of('a; details="; error=connection_refused'), 'host-unreachable', 'in a text without its end')
  t.is(
    refusal('504 No', 'Proxy-Status: a; error=connection_refused').message,
    'the proxy answered 504 (connection refused)',
  )
})

test('http-reasons: squid tells more', t => {
  const of = (status: number, value: string) => refusal(`${status} No`, `X-Squid-Error: ${value}`).failure
  const wanted: [number, string, DialFailure][] = [
    [503, 'ERR_CONNECT_FAIL 111', 'refused'],
    [503, 'ERR_CONNECT_FAIL 110', 'timeout'],
    [503, 'ERR_CONNECT_FAIL 101', 'net-unreachable'],
    [503, 'ERR_CONNECT_FAIL 113', 'host-unreachable'],
    [503, 'ERR_CONNECT_FAIL 13', 'prohibited'],
    [503, 'ERR_CONNECT_FAIL 1', 'prohibited'],
    [503, 'ERR_CONNECT_FAIL 61', 'refused'],
    [503, 'ERR_CONNECT_FAIL 60', 'timeout'],
    [503, 'ERR_CONNECT_FAIL 51', 'net-unreachable'],
    [503, 'ERR_CONNECT_FAIL 0', 'host-unreachable'],
    [503, 'ERR_CONNECT_FAIL', 'host-unreachable'],
    [503, 'ERR_DNS_FAIL 0', 'host-unreachable'],
    [403, 'ERR_ACCESS_DENIED 0', 'prohibited'],
    [504, 'ERR_READ_TIMEOUT 0', 'timeout'],
    [503, 'ERR_SHUTTING_DOWN 111', 'general'],
    [407, 'ERR_CACHE_ACCESS_DENIED 0', 'authentication'],
    [407, 'ERR_CONNECT_FAIL 111', 'authentication'],
    [503, 'ERR_NEW_ONE 111', 'host-unreachable'],
    [503, 'constructor 111', 'host-unreachable'],
    [403, '403 Access Denied', 'prohibited'],
  ]
  for (const [status, value, failure] of wanted) t.is(of(status, value), failure, `${status} ${value}`)
})

test('http-reasons: an answer of another protocol is named', t => {
  const of = (text: string) => alienToHttp(Buffer.from(text, 'latin1'))
  t.regex(of('\x05\x00'), /begins with 0500\): this is a SOCKS5 proxy\?/)
  t.regex(of('\0'), /SOCKS4/)
  t.regex(of('\0\x5b'), /SOCKS4/)
  t.regex(of('\0\x5c'), /right port/)
  t.regex(of('\x15\x03\x01'), /https:/)
  t.regex(of('SSH-2.0-x'), /begins with 5353482d\): this is an SSH server/)
  t.regex(of('<html>'), /right port/)
})
