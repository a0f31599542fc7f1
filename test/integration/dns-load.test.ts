/** The quick form of test/long/dns-load.test.ts, with rates that are reached beside other work. */
import { testRates } from './dns-load.ts'

testRates({ auto: 4_000, map: 1_000 }, 1)
