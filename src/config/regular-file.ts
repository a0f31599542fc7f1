import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { ConfigError } from '../errors.ts'
import { escapeControls } from '../redact.ts'

/** The whole of a regular file. Throws ConfigError; never waits, as on a FIFO. */
export function readRegularFile(file: string, maxBytes: number): Buffer {
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (cause) {
    throw fileError(file, 0, `cannot be read: ${systemReason(cause)}`)
  }
  try {
    const stat = fstatSync(fd)
    if (stat.isDirectory()) throw fileError(file, 0, 'found a folder, allowed a regular file')
    if (!stat.isFile()) throw fileError(file, 0, 'found a device, pipe or socket, allowed a regular file')
    const buffer = Buffer.alloc(maxBytes + 1)
    let length = 0
    for (let count = -1; count !== 0 && length < buffer.length; length += count) {
      count = readSync(fd, buffer, length, buffer.length - length, null)
    }
    if (length > maxBytes) throw fileError(file, 0, `found more than ${maxBytes} bytes, allowed at most ${maxBytes}`)
    return buffer.subarray(0, length)
  } catch (cause) {
    throw cause instanceof ConfigError ? cause : fileError(file, 0, `cannot be read: ${systemReason(cause)}`)
  } finally {
    closeSync(fd)
  }
}

/** `line` 0: the file as a whole. */
export function fileError(file: string, line: number, message: string): ConfigError {
  return new ConfigError('CONFIG_FILE', `${escapeControls(file)}:${line === 0 ? '' : `${line}:`} ${message}`)
}

function systemReason(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
  const words: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    ENOTDIR: 'a part of its path is no folder',
    ELOOP: 'too many symbolic links',
    ENXIO: 'it is a socket, allowed a regular file',
    ENAMETOOLONG: 'the path is too long',
    ERR_INVALID_ARG_VALUE: 'the path holds a NUL',
  }
  return words[code] ?? code
}
