/** Damerau-Levenshtein distance (adjacent swaps count one), in its restricted form. */
export function editDistance(a: string, b: string): number {
  let before: number[] = []
  let above = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const line = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      let cost = Math.min(above[column]! + 1, line[column - 1]! + 1, above[column - 1]! + (same ? 0 : 1))
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        cost = Math.min(cost, before[column - 2]! + 1)
      }
      line.push(cost)
    }
    before = above
    above = line
  }
  return above[b.length]!
}

/** ` (did you mean X?)`, or '' when nothing is near. Case and separators do not count; a last part alone (`mtu`) is enough. */
export function suggestion(word: string, candidates: readonly string[]): string {
  const plain = (text: string) => text.toLowerCase().replace(/[-_. ]/g, '')
  const tail = (text: string) => plain(text.split('.').at(-1)!)
  const wanted = plain(word.slice(0, 80))
  if (wanted === '') return ''
  const limit = Math.max(1, Math.floor(wanted.length / 3))
  let best: { text: string; distance: number } | undefined
  for (const text of candidates) {
    const distance = Math.min(editDistance(wanted, plain(text)), tail(text) === wanted ? 0.5 : 99)
    if (distance <= limit && (best === undefined || distance < best.distance)) best = { text, distance }
  }
  return best === undefined ? '' : ` (did you mean ${best.text}?)`
}
