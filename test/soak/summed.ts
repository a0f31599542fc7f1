/** Slices of a load as one: counts are added up; of P50s the median counts, of P99s the greatest. */
export function summed(slices: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = new Set(slices.flatMap(slice => Object.keys(slice)))
  const sums: Record<string, number> = {}
  for (const name of names)
    sums[name] = oneOf(
      name,
      slices.map(slice => slice[name]).filter(value => value !== undefined),
    )
  return sums
}

function oneOf(name: string, values: number[]): number {
  if (name.includes('P50')) return median(values)
  if (name.includes('P99')) return Math.max(...values)
  return values.reduce((all, value) => all + value, 0)
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
