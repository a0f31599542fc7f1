import { SOURCE } from '../options.ts'

/** The user name for a client, whose address is text. */
export function userFor(
  { username, isPerSource }: { readonly username?: string; readonly isPerSource: boolean },
  source: string,
): string | undefined {
  return isPerSource ? username?.replaceAll(SOURCE, source) : username
}
