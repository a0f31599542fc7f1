/**
 * How fast something grows, and how sure that is. Ordinary least squares; the residuals of samples in time resemble their neighbours, so
 * the variance of the slope is multiplied by (1 + r) / (1 - r) with r their correlation at lag 1, as for a first-order
 * autoregressive process, and the degrees of freedom are divided by it.
 */

export interface Slope {
  /** Of the unit of y for one of x. */
  readonly slope: number
  /** One-sided 95 % bounds. */
  readonly lower: number
  readonly upper: number
  /** Correlation of neighbouring residuals, at least 0. */
  readonly correlation: number
}

/** Throws RangeError for fewer than four points. */
export function slopeOf(x: readonly number[], y: readonly number[]): Slope {
  const count = x.length
  if (count < 4) throw new RangeError(`${count} samples tell nothing`)
  const [meanX, meanY] = [mean(x), mean(y)]
  const spread = sum(x.map(at => (at - meanX) ** 2))
  const slope = sum(x.map((at, index) => (at - meanX) * (y[index]! - meanY))) / spread
  const residuals = y.map((value, index) => value - meanY - slope * (x[index]! - meanX))
  const squares = sum(residuals.map(residual => residual ** 2))
  const neighbours = sum(residuals.slice(1).map((residual, index) => residual * residuals[index]!))
  const correlation = squares === 0 ? 0 : Math.min(0.95, Math.max(0, neighbours / squares))
  const inflation = (1 + correlation) / (1 - correlation)
  const freedom = Math.max(1, count / inflation - 2)
  const error = Math.sqrt(((squares / (count - 2)) * inflation) / spread)
  const margin = student95(freedom) * error
  return { slope, lower: slope - margin, upper: slope + margin, correlation }
}

/** The 0.95 quantile of Student's distribution, by its expansion around the normal one (Abramowitz and Stegun 26.7.5). */
export function student95(freedom: number): number {
  const z = 1.6448536
  const first = (z ** 3 + z) / 4
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96
  const third = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384
  return z + first / freedom + second / freedom ** 2 + third / freedom ** 3
}

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0)
const mean = (values: readonly number[]) => sum(values) / values.length
