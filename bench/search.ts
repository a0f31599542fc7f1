/** The highest rate that passes. */

/** Steps to a doubling: neighbours differ by 9 %. */
const STEPS = 8
const LOWEST = 100
const HIGHEST_STEP = 7 * STEPS
const TRIES = 3

/**
 * Climbs from 200 Mbit/s by doubling until a rate fails, then halves the distance on a ladder with steps of 9 %, up
 * to 12,800. `attempt` gives the goodput of a run at a rate, undefined when too much was lost. Noise only ever loses datagrams, so
 * that a rate fails when it has failed three times. @returns the goodput at the highest rate that passed, 0 if even 100 failed.
 */
export async function highestRate(attempt: (rate: number) => Promise<number | undefined>): Promise<number> {
  let best = 0
  const passes = async (step: number): Promise<boolean> => {
    const rate = Math.round(LOWEST * 2 ** (step / STEPS))
    for (let tries = 0; tries < TRIES; tries++) {
      const goodput = await attempt(rate)
      if (goodput === undefined) continue
      best = goodput
      return true
    }
    return false
  }
  let low = STEPS
  if (!(await passes(low))) {
    if (!(await passes(0))) return 0
    low = 0
  }
  let high = low === 0 ? STEPS : low + STEPS
  if (low > 0)
    while (high <= HIGHEST_STEP && (await passes(high))) {
      low = high
      high += STEPS
    }
  while (high - low > 1 && low < HIGHEST_STEP) {
    const middle = (low + high) >> 1
    if (await passes(middle)) low = middle
    else high = middle
  }
  return best
}
