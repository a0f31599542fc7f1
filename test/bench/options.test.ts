import test from 'ava'
import { listContenders } from '../../bench/contenders.ts'
import { listMeasures } from '../../bench/measures.ts'
import { parseOptions } from '../../bench/options.ts'

const parse = (argv: string[], environment: NodeJS.ProcessEnv = {}) => parseOptions(argv, environment)
const namesOf = (argv: string[], environment: NodeJS.ProcessEnv = {}) =>
  listContenders(parse(argv, environment), 'cli.js').map(({ name }) => name)

test('bench options: rivals come from BENCH_RIVAL and from --rival, with the MTU as part of the name', t => {
  const { rivals } = parse(['--rival', 'three@9000=run {mtu}'], { BENCH_RIVAL: 'one@8500=a b; two=c' })
  t.deepEqual(rivals, [
    { name: 'one@8500', label: 'one, MTU 8500', mtu: 8500, command: 'a b' },
    { name: 'two', label: 'two, MTU 1500', mtu: 1500, command: 'c' },
    { name: 'three@9000', label: 'three, MTU 9000', mtu: 9000, command: 'run {mtu}' },
  ])
})

test('bench options: a rival without a command, a number that is none and an unknown flag are errors', t => {
  t.throws(() => parse([], { BENCH_RIVAL: 'one' }), { message: /NAME=COMMAND/ })
  t.throws(() => parse(['--rounds', '0']), { message: '--rounds: a number above 0 is wanted' })
  t.throws(() => parse(['--peer', 'a=b']))
})

test('bench options: --quick is one round of shorter runs', t => {
  const [whole, quick] = [parse([]), parse(['--quick'])]
  t.deepEqual([whole.rounds, quick.rounds], [3, 1])
  t.true(quick.seconds < whole.seconds)
})

test('bench contenders: tungate is first, then the bound and the rivals; --also adds, --contenders chooses', t => {
  const rivals = { BENCH_RIVAL: 'one@8500=a;one@1500=a' }
  t.deepEqual(namesOf([], rivals), ['tungate', 'bound', 'one@8500', 'one@1500'])
  t.deepEqual(namesOf(['--also', 'redsocks']), ['tungate', 'bound', 'redsocks'])
  t.deepEqual(namesOf(['--contenders', 'bound,one@1500'], rivals), ['bound', 'one@1500'])
})

test('bench contenders: a name that is twice there or not at all is an error', t => {
  t.throws(() => namesOf([], { BENCH_RIVAL: 'one=a;one=b' }), { message: 'one: two contenders have this name' })
  t.throws(() => namesOf(['--contenders', 'nobody']), { message: /^nobody is none of tungate, bound/ })
})

test('bench contenders: placeholders are filled with the tun and the MTU of the one that is started', t => {
  const contenders = listContenders(parse(['--rival', 'one@8500=run {tun} {mtu} "{proxyHost} {proxyPort}"']), 'cli.js')
  const rival = contenders.find(({ name }) => name === 'one@8500')!
  t.deepEqual(rival.command('/nowhere'), ['run', 'bench3', '8500', '10.77.0.2 1080'])
  t.true(contenders[0]!.command('/nowhere').includes('bench1'))
})

test('bench measures: each row has an id of its own, and the crowd comes last', t => {
  const measures = listMeasures({ only: [], quick: false, crowd: 10_000 })
  const ids = measures.flatMap(({ rows }) => rows.map(({ id }) => id))
  t.deepEqual(
    ids.filter((id, at) => ids.indexOf(id) !== at),
    [],
  )
  t.is(measures.at(-1)!.id, 'crowd')
})

test('bench measures: --quick takes no point but those of the crowd, --only takes all whose name begins so', t => {
  const quick = listMeasures({ only: [], quick: true, crowd: 10_000 }).filter(({ id }) => id !== 'crowd')
  t.false(quick.some(({ rows }) => rows.some(({ isPoint }) => isPoint)))
  const only = listMeasures({ only: ['upload', 'iperf-download-1'], quick: false, crowd: 10_000 })
  t.deepEqual(
    only.map(({ id }) => id),
    ['upload-1', 'upload-8', 'iperf-download-1'],
  )
  t.throws(() => listMeasures({ only: ['nothing'], quick: false, crowd: 1 }), { message: /--only: nothing is none of/ })
})
