/** Tokens of a range of JavaScript source, comments left out: what is weighed when it is executed. */
export type TokenCounter = (from: number, to: number) => number

/** Near enough: a template is one token whatever stands in it, and so is the piece of a regular expression. */
const TOKEN =
  /(\/\/.*|\/\*[\s\S]*?\*\/)|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|[\w$#]+|=>|\+\+|--|[=!]==|[&|?]{2}|[^\s\w$#]/g

export function countTokens(source: string): TokenCounter {
  const starts: number[] = []
  for (const match of source.matchAll(TOKEN)) if (match[1] === undefined) starts.push(match.index)
  return (from, to) => countBelow(starts, to) - countBelow(starts, from)
}

/** How many of the ascending numbers are below `limit`. */
function countBelow(ascending: readonly number[], limit: number): number {
  let low = 0
  let high = ascending.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (ascending[middle]! < limit) low = middle + 1
    else high = middle
  }
  return low
}
