import { SOURCE } from '../../options.ts'

/** As whom a proxy is spoken to. */
export interface User {
  readonly username?: string
  readonly password?: string
  /** The user name carries the client. */
  readonly isPerSource: boolean
}

/** The user name for a client, whose address is text. */
export function userFor({ username, isPerSource }: User, source: string): string | undefined {
  return isPerSource ? username?.replaceAll(SOURCE, source) : username
}
