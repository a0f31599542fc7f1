/** Slow: rounds of five seconds each. */
import { testRates } from '../integration/dns-load.ts'

testRates({ auto: 20_000, map: 5_000 }, 5)
