/** --require: a wall clock that jumps by years with each look, back and forth. */
const RealDate = Date
const YEAR_MS = 365 * 86_400_000
let sign = 1

function wild(): number {
  sign = -sign
  return RealDate.now() + sign * YEAR_MS
}

globalThis.Date = new Proxy(RealDate, {
  get: (target, name) => (name === 'now' ? wild : Reflect.get(target, name)),
  construct: (target, args) => Reflect.construct(target, args.length === 0 ? [wild()] : args),
})
