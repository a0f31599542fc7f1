/**
 * The errors of the project. Each carries a stable `code` (listed in docs/errors.md) and, where another error caused
 * it, `cause`. Sub-classes say who must act. No message and no property ever carries a secret.
 */
export class GatewayError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

/** The user must change a flag, a variable or the configuration file. Exit code 2. */
export class ConfigError extends GatewayError {}

/** The machine refused: a device, a right or a kernel feature is missing. */
export class SystemError extends GatewayError {
  /** The system call that failed, e.g. `ioctl(TUNSETIFF)`. */
  readonly syscall: string
  /** Positive errno, 0 when there is none. */
  readonly errno: number

  constructor(code: string, message: string, syscall: string, errno: number) {
    super(code, message)
    this.syscall = syscall
    this.errno = errno
  }
}
