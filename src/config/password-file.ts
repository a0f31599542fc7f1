import { FormatError } from './format-error.ts'
import { readRegularFile } from './regular-file.ts'

const MAX_FILE_BYTES = 4096
/** RFC 1929 §2; of HTTP, what its request has room for. */
const MAX_BYTES = { socks5: 255, socks4: 0, http: 2_048 } as const

/** The password without the one newline behind it. Throws FormatError for what is in the file, ConfigError for the file itself. */
export function readPassword(file: string, kind: keyof typeof MAX_BYTES): string {
  const bytes = readRegularFile(file, MAX_FILE_BYTES)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new FormatError('bytes that are not UTF-8', 'a password in UTF-8')
  }
  const password = text.replace(/\r?\n$/, '')
  const length = Buffer.byteLength(password)
  if (length < 1 || length > MAX_BYTES[kind])
    throw new FormatError(`a password of ${length} bytes`, `1 to ${MAX_BYTES[kind]} bytes`)
  if (kind === 'http' && /\p{Cc}/u.test(password))
    throw new FormatError('a control character in the password', 'none: HTTP cannot carry it')
  return password
}
