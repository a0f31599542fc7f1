/**
 * Where a text stops being JSON (RFC 8259). JSON.parse knows it too, but says it only in some of its messages, and
 * repeats pieces of the text in others.
 */

const STRING = /"(?:[^"\\\p{Cc}]|[\u007f-\u009f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy
const LITERAL = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y
const SPACE = /[ \t\n\r]*/y

/** Offset of the first character that cannot stand there; undefined for JSON. Recurses once for each level of nesting. */
export function findJsonError(text: string): number | undefined {
  let at = 0
  const take = (pattern: RegExp) => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match !== null) at += match[0].length
    return match !== null
  }
  const sign = (char: string) => {
    take(SPACE)
    if (text[at] !== char) return false
    at++
    return true
  }
  const list = (close: string, item: () => boolean) => {
    if (sign(close)) return true
    do if (!item()) return false
    while (sign(','))
    return sign(close)
  }
  const value = (): boolean => {
    if (sign('{')) return list('}', member)
    if (sign('[')) return list(']', value)
    return take(STRING) || take(LITERAL)
  }
  const member = () => {
    take(SPACE)
    return take(STRING) && sign(':') && value()
  }
  const whole = value()
  take(SPACE)
  return whole && at === text.length ? undefined : at
}
