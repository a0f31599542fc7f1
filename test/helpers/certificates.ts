/** X.509 certificates for tests (RFC 5280), with P-256 keys, made on the spot. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { parseAddress } from '../../src/endpoint.ts'

export interface Certificate {
  /** PEM */
  readonly cert: string
  /** PEM, PKCS #8 */
  readonly key: string
  readonly name: string
  readonly privateKey: KeyObject
}

export interface CertificateOptions {
  readonly name: string
  /** Host names and addresses that it is for. */
  readonly hosts?: readonly string[]
  /** undefined: it signs itself, and may sign others. */
  readonly issuer?: Certificate
  /** UTCTime (RFC 5280 §4.1.2.5.1) of its first and last second. */
  readonly from?: string
  readonly until?: string
}

const SEQUENCE = 0x30
const SET = 0x31
const INTEGER = 2
const OCTETS = 4
const NAME = 12
const UTC_TIME = 23

function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  // as short as can be (X.690 §10.1): browsers believe no other
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Uint8Array.of(tag, ...head), content])
}

const sequence = (...parts: readonly Uint8Array[]) => tlv(SEQUENCE, ...parts)
const oid = (hex: string) => tlv(6, Buffer.from(hex, 'hex'))
const nameOf = (text: string) => sequence(tlv(SET, sequence(oid('550403'), tlv(NAME, Buffer.from(text)))))
const TRUE = Uint8Array.of(1, 1, 0xff)
const ECDSA_SHA256 = sequence(oid('2a8648ce3d040302'))

function extensions(isIssuer: boolean, hosts: readonly string[]): Buffer {
  const constraints = sequence(oid('551d13'), TRUE, tlv(OCTETS, sequence(...(isIssuer ? [TRUE] : []))))
  const names = hosts.map(host => {
    const address = parseAddress(host)
    return address === undefined ? tlv(0x82, Buffer.from(host)) : tlv(0x87, address)
  })
  const alternatives = names.length === 0 ? [] : [sequence(oid('551d11'), tlv(OCTETS, sequence(...names)))]
  return tlv(0xa3, sequence(constraints, ...alternatives))
}

let serial = 0

export function makeCertificate({
  name,
  hosts = [],
  issuer,
  from = '200101000000Z',
  until = '491231235959Z',
}: CertificateOptions): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const content = sequence(
    tlv(0xa0, tlv(INTEGER, Uint8Array.of(2))),
    tlv(INTEGER, Uint8Array.of(1, serial >> 8, serial++ & 255)),
    ECDSA_SHA256,
    nameOf(issuer?.name ?? name),
    sequence(tlv(UTC_TIME, Buffer.from(from)), tlv(UTC_TIME, Buffer.from(until))),
    nameOf(name),
    publicKey.export({ type: 'spki', format: 'der' }),
    extensions(issuer === undefined, hosts),
  )
  const signature = sign('sha256', content, issuer?.privateKey ?? privateKey)
  const der = sequence(content, ECDSA_SHA256, tlv(3, Uint8Array.of(0), signature))
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    name,
    privateKey,
  }
}
