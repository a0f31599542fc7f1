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

/** Whatever was caught, as an error of the project: of a system call, told by Node or by the addon, or one that should not be. */
export function asGatewayError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error
  if (!(error instanceof Error)) return new GatewayError('INTERNAL', String(error), { cause: error })
  const { code, errno, syscall, message } = error as NodeJS.ErrnoException
  if (code !== undefined && /^E[A-Z0-9]+$/.test(code)) {
    return new SystemError(code, message, syscall ?? '', Math.abs(errno ?? 0))
  }
  return new GatewayError('INTERNAL', String(error), { cause: error })
}
