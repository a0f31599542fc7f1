/** What a Linux client sees of each destination through each server: measured by upstreams.test.ts, told in docs/UPSTREAMS.md. */

export const COLUMNS = {
  tcp4: 'TCP, IPv4',
  tcp6: 'TCP, IPv6',
  names: 'names',
  halfClose: 'answer after FIN',
  udp: 'UDP',
  password: 'password',
  wrong: 'wrong password',
  refused: 'port closed',
  noName: 'name that is none',
  noRoute: 'no route',
  unreachable: 'host unreachable',
  silent: 'no answer',
} as const

export type Column = keyof typeof COLUMNS

/** `works`, `none` for what a server does not have, `silence`, `lost`, or what connect() or send() ends with. */
export type Answer = 'works' | 'none' | 'silence' | 'lost' | 'ECONNREFUSED' | 'EHOSTUNREACH' | 'ENETUNREACH'

/** With a remark where the server does not tell what happened. */
export type Cell = Answer | readonly [Answer, string]

export type UpstreamName =
  | 'dante'
  | 'microsocks'
  | 'ssh -D'
  | 'ssh -D, socks4a'
  | 'hev-socks5-server'
  | 'embedded'
  | 'tinyproxy'
  | 'squid, Basic'
  | 'squid, Digest'
  | 'stunnel, squid'
  | 'stunnel, microsocks'

type Row = { readonly [column in Column]: Cell }

/** A server that is all that a proxy can be. */
const TRUTHFUL: Row = {
  tcp4: 'works',
  tcp6: 'works',
  names: 'works',
  halfClose: 'works',
  udp: 'works',
  password: 'works',
  wrong: 'ECONNREFUSED',
  refused: 'ECONNREFUSED',
  noName: 'EHOSTUNREACH',
  noRoute: 'ENETUNREACH',
  unreachable: 'EHOSTUNREACH',
  silent: 'silence',
}

const ENDS_BOTH = 'It ends both directions with the first: what the destination says after that is lost.'
const CLOSES = 'It closes the connection in place of an answer.'
const ONE_REPLY = 'It answers 4, host unreachable, whatever happened.'
const ONE_STATUS = 'It answers 500 whatever happened.'
const NO_NAME = 'It answers 1, general failure.'
const NO_FAMILY = 'It answers 8, address type not supported.'
const NO_IPV6 = 'SOCKS4 has no IPv6 addresses.'

export const TABLE: { readonly [name in UpstreamName]: Row } = {
  dante: TRUTHFUL,
  microsocks: {
    ...TRUTHFUL,
    noName: ['ECONNREFUSED', NO_NAME],
    halfClose: ['lost', ENDS_BOTH],
    udp: 'ECONNREFUSED',
  },
  'ssh -D': {
    ...TRUTHFUL,
    udp: 'ECONNREFUSED',
    password: 'none',
    wrong: 'none',
    noName: ['ECONNREFUSED', CLOSES],
    noRoute: ['ECONNREFUSED', CLOSES],
    unreachable: ['ECONNREFUSED', CLOSES],
  },
  'ssh -D, socks4a': {
    ...TRUTHFUL,
    tcp6: ['ECONNREFUSED', NO_IPV6],
    udp: 'ECONNREFUSED',
    password: 'none',
    wrong: 'none',
    noName: ['ECONNREFUSED', CLOSES],
    noRoute: ['ECONNREFUSED', CLOSES],
    unreachable: ['ECONNREFUSED', CLOSES],
  },
  'hev-socks5-server': {
    ...TRUTHFUL,
    noName: ['ECONNREFUSED', NO_FAMILY],
    refused: ['EHOSTUNREACH', ONE_REPLY],
    noRoute: ['EHOSTUNREACH', ONE_REPLY],
  },
  embedded: TRUTHFUL,
  tinyproxy: {
    ...TRUTHFUL,
    halfClose: ['lost', ENDS_BOTH],
    udp: 'ECONNREFUSED',
    noName: ['ECONNREFUSED', ONE_STATUS],
    noRoute: ['ECONNREFUSED', ONE_STATUS],
    unreachable: ['ECONNREFUSED', ONE_STATUS],
  },
  'squid, Basic': { ...TRUTHFUL, halfClose: ['lost', ENDS_BOTH], udp: 'ECONNREFUSED' },
  'squid, Digest': { ...TRUTHFUL, halfClose: ['lost', ENDS_BOTH], udp: 'ECONNREFUSED' },
  'stunnel, squid': { ...TRUTHFUL, halfClose: ['lost', ENDS_BOTH], udp: 'ECONNREFUSED' },
  'stunnel, microsocks': {
    ...TRUTHFUL,
    noName: ['ECONNREFUSED', NO_NAME],
    halfClose: ['lost', ENDS_BOTH],
    udp: 'ECONNREFUSED',
  },
}

export const answerOf = (cell: Cell): Answer => (typeof cell === 'string' ? cell : cell[0])

const remarkOf = (cell: Cell): string => (typeof cell === 'string' ? '' : cell[1])

const TEXTS: { readonly [answer in Answer]?: string } = { works: 'yes', none: '–', silence: 'silence', lost: 'lost' }

/** What takes longer to find out: test/long/upstreams.test.ts. */
export const LONG_COLUMNS = {
  bulk: '20 MB to an echo',
  many: '500 connections at once',
  largest: 'largest datagram, bytes',
  stranger: 'datagrams of a peer that was not asked',
} as const

interface LongRow {
  readonly bulk: 'exact' | 'stands still at times'
  readonly many: 500
  /** Of payload, over IPv4; 0 for no UDP. */
  readonly largest: number
  readonly stranger: 'yes' | 'no' | 'none'
}

/** 65,535 bytes of IP, without the headers of IP and UDP, and of SOCKS. */
const LARGEST = 65_535 - 20 - 8 - 10
const SOUND = { bulk: 'exact', many: 500 } as const
const ALL: LongRow = { ...SOUND, largest: LARGEST, stranger: 'yes' }
const NO_UDP: LongRow = { ...SOUND, largest: 0, stranger: 'none' }

export const LONG_TABLE: { readonly [name in UpstreamName]: LongRow } = {
  dante: { ...ALL, stranger: 'no' },
  microsocks: { ...NO_UDP, bulk: 'stands still at times' },
  'ssh -D': NO_UDP,
  'ssh -D, socks4a': NO_UDP,
  'hev-socks5-server': { ...ALL, largest: 1_490 },
  embedded: ALL,
  tinyproxy: NO_UDP,
  'squid, Basic': NO_UDP,
  'squid, Digest': NO_UDP,
  'stunnel, squid': NO_UDP,
  'stunnel, microsocks': { ...NO_UDP, bulk: 'stands still at times' },
}

/** The second table of docs/UPSTREAMS.md. */
export function longMarkdown(): string[] {
  const columns = Object.keys(LONG_COLUMNS) as (keyof LongRow)[]
  const text = (value: string | number) =>
    value === 'none' || value === 0 ? '–' : typeof value === 'number' ? value.toLocaleString('en') : value
  return [
    `| Server | ${Object.values(LONG_COLUMNS).join(' | ')} |`,
    `|${'---|'.repeat(columns.length + 1)}`,
    ...Object.entries(LONG_TABLE).map(
      ([name, row]) => `| ${name} | ${columns.map(column => text(row[column])).join(' | ')} |`,
    ),
    '',
  ]
}

/** The table of docs/UPSTREAMS.md, and the remarks below it. */
export function markdown(): string[] {
  const columns = Object.keys(COLUMNS) as Column[]
  const remarks = [...new Set(Object.values(TABLE).flatMap(row => columns.map(column => remarkOf(row[column]))))]
  const told = remarks.filter(remark => remark !== '')
  const text = (cell: Cell) => {
    const answer = TEXTS[answerOf(cell)] ?? `\`${answerOf(cell)}\``
    return remarkOf(cell) === '' ? answer : `${answer} (${told.indexOf(remarkOf(cell)) + 1})`
  }
  return [
    `| Server | ${Object.values(COLUMNS).join(' | ')} |`,
    `|${'---|'.repeat(columns.length + 1)}`,
    ...Object.entries(TABLE).map(
      ([name, row]) => `| ${name} | ${columns.map(column => text(row[column])).join(' | ')} |`,
    ),
    '',
    ...told.map((remark, at) => `${at + 1}. ${remark}`),
    '',
  ]
}
