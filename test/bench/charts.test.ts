import test from 'ava'
import { chartOf, planCharts } from '../../bench/charts.ts'
import { listMeasures } from '../../bench/measures.ts'
import type { Report } from '../../bench/report.ts'
import { type Chart, drawChart, label, linearTicks, logTicks } from '../../bench/svg.ts'

const point = (x: number, median: number) => ({ x, median, least: median * 0.9, most: median * 1.1 })
const ticks = [10, 100, 1000].map(x => [x, String(x)] as const)
const chart: Chart = {
  title: 'Cost & <size>',
  x: 'flows',
  y: 'µs',
  ticks,
  series: [
    { name: 'ours', points: [point(10, 4), point(100, 5), point(1000, 6)], missing: [] },
    { name: 'rival', points: [point(10, 8), point(1000, 9)], missing: [100] },
  ],
}

const count = (text: string, part: string): number => text.split(part).length - 1

test('charts: every point of every chart is a row that a whole run takes', t => {
  const rows = listMeasures({ only: [], quick: false, crowd: 10_000 }).flatMap(measure =>
    measure.rows.map(({ id }) => id),
  )
  for (const { file, points } of planCharts(10_000)) {
    t.deepEqual(
      points.filter(([, id]) => !rows.includes(id)),
      [],
      file,
    )
    t.deepEqual(
      points.map(([x]) => x),
      points.map(([x]) => x).toSorted((a, b) => a - b),
      file,
    )
  }
})

test('charts: a point has the median and the spread of its rounds; one that failed in all of them is missing', t => {
  const report: Report = {
    conditions: {},
    contenders: ['ours', 'bound'].map(name => ({ name, label: name, isRival: false })),
    rows: [],
    values: { a: { ours: [3, 1, 2] }, b: { ours: [null, 5, null] }, c: { ours: [null] }, d: {} },
    failures: [
      { round: 1, row: 'b', contender: 'ours', message: '' },
      { round: 1, row: 'c', contender: 'ours', message: '' },
    ],
  }
  const points = [[1, 'a'] as const, [2, 'b'] as const, [3, 'c'] as const, [4, 'd'] as const]
  const { series } = chartOf({ file: '', title: '', x: '', y: '', points, tick: String }, report)
  t.deepEqual(series, [
    {
      name: 'ours',
      points: [
        { x: 1, median: 2, least: 1, most: 3 },
        { x: 2, median: 5, least: 5, most: 5 },
      ],
      missing: [3],
    },
  ])
})

test('svg: text is escaped, each point has a marker and a whisker, and the line breaks at what is missing', t => {
  const svg = drawChart(chart)
  t.true(svg.includes('Cost &amp; &lt;size&gt;</text>'))
  t.false(/NaN|undefined|Infinity/.test(svg))
  const lines = [...svg.matchAll(/<path d="([^"]+)" fill="none" stroke="#\w+" stroke-width="2"/g)].map(
    match => match[1]!,
  )
  t.is(lines.length, 2)
  t.deepEqual(
    lines.map(path => [count(path, 'M'), count(path, 'L')]),
    [
      [1, 2],
      [2, 0],
    ],
  )
  t.true(svg.includes('× failed'))
  t.false(drawChart({ ...chart, series: chart.series.slice(0, 1) }).includes('× failed'))
})

test('svg: a larger value stands higher, within the card', t => {
  const heights = (values: number[]) => {
    const series = [{ name: 'ours', points: values.map((value, at) => point(ticks[at]![0], value)), missing: [] }]
    const svg = drawChart({ ...chart, series })
    const path = /<path d="(M[^"]+)" fill="none"/.exec(svg)![1]!
    return path
      .split(/[ML]/)
      .slice(1)
      .map(place => Number(place.split(',')[1]))
  }
  for (const values of [
    [4, 5, 6],
    [0.02, 3, 900],
  ]) {
    const [low, middle, high] = heights(values)
    t.true(low! > middle! && middle! > high! && high! > 60 && low! < 360, `${values}`)
  }
})

test('svg: a chart of nobody, and of zeros, is still a chart', t => {
  for (const points of [[], [{ x: 10, median: 0, least: 0, most: 0 }]])
    t.false(/NaN|undefined|Infinity/.test(drawChart({ ...chart, series: [{ name: 'a', points, missing: [100] }] })))
})

test('svg: ticks cover the values, few and round', t => {
  t.deepEqual(linearTicks(6.6), [0, 2, 4, 6, 8])
  t.deepEqual(linearTicks(0.53), [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
  t.deepEqual(logTicks(0.3, 30), [0.2, 0.5, 1, 2, 5, 10, 20, 50])
  t.deepEqual(logTicks(0.02, 990), [0.01, 0.1, 1, 10, 100, 1000])
  t.deepEqual([0, 0.125, 20, 1500].map(label), ['0', '0.125', '20', '1,500'])
})
