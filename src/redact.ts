/**
 * Text of a stranger, made safe to print: on one line, without control or invisible characters, bounded, and without
 * what may be the user name and password of a URL.
 */

/** Replaces the userinfo of every URL in `text` by `***`. The last `@` ends it: passwords are often not percent-encoded. */
export function redactUrls(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/)\S*@/gi, '$1***@')
}

/**
 * `"text"` for an error message: quoted, escaped, at most 60 characters of it. Whatever stands before the last `@` is
 * taken for a secret, scheme or not.
 */
export function quote(text: string): string {
  const at = text.lastIndexOf('@')
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0] ?? ''
  const safe = at < 0 ? text : `${scheme}***${text.slice(at)}`
  const short = safe.length > 60 ? `${safe.slice(0, 60)}…` : safe
  return escapeControls(JSON.stringify(short))
}

/** Escapes what would break a line or hide text in a terminal: Unicode categories C (controls, formats) and Zl, Zp. */
export function escapeControls(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, char => `\\u{${char.codePointAt(0)!.toString(16)}}`)
}
