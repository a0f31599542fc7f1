/** A small writer of line charts: markers at the medians, whiskers from the least to the most, text as text. */

export interface ChartPoint {
  readonly x: number
  readonly median: number
  readonly least: number
  readonly most: number
}

export interface Series {
  readonly name: string
  readonly points: readonly ChartPoint[]
  /** x of the points that failed in every round. */
  readonly missing: readonly number[]
}

export interface Chart {
  readonly title: string
  readonly x: string
  readonly y: string
  /** Ticks of the x axis, whose scale is logarithmic, with their labels. */
  readonly ticks: readonly (readonly [number, string])[]
  readonly series: readonly Series[]
}

interface Scale {
  readonly at: (value: number) => number
  readonly ticks: readonly number[]
}

const WIDTH = 720
const HEIGHT = 400
const PLOT = { left: 88, right: 700, top: 84, bottom: 336 }
/** Above this ratio of the highest to the lowest median the y axis is logarithmic. */
const LINEAR_UP_TO = 12
/** Okabe and Ito's colours, which differ for every kind of sight, the yellow left out. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']
const MARKERS = [
  'M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0',
  'M-4,-4h8v8h-8z',
  'M0,-5.2l5,8.8h-10z',
  'M0,-5.6l5.6,5.6l-5.6,5.6l-5.6,-5.6z',
]
/** Room in front of the next entry of the legend, for each letter of this one. */
const LETTER_WIDTH = 7.2

export const escapeText = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')

const round = (value: number): string => String(Math.round(value * 10) / 10)

/** A number as a label: 3 digits that count, no exponent. */
export function label(value: number): string {
  if (value === 0) return '0'
  return value >= 1000 ? value.toLocaleString('en-US') : String(Number(value.toPrecision(3)))
}

/** Ticks from 0 up to the first one at or above `most`, 4 to 8 of them, by 1, 2 or 5 times a power of ten. */
export function linearTicks(most: number): number[] {
  const rough = most / 6
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map(factor => factor * power).find(each => each >= rough)!
  const count = Math.ceil(most / step - 1e-9)
  return Array.from({ length: count + 1 }, (_, at) => Number((at * step).toPrecision(12)))
}

/** 1, 2 and 5 times the powers of ten from below `least` to above `most`; only the powers when those are many. */
export function logTicks(least: number, most: number): number[] {
  const from = Math.floor(Math.log10(least))
  const to = Math.ceil(Math.log10(most))
  const factors = to - from > 3 ? [1] : [1, 2, 5]
  const all: number[] = []
  for (let power = from; power <= to; power++)
    for (const factor of factors) all.push(Number((factor * 10 ** power).toPrecision(12)))
  const first = Math.max(
    0,
    all.findLastIndex(tick => tick <= least),
  )
  const last = all.findIndex(tick => tick >= most)
  return all.slice(first, last + 1)
}

function verticalScale(points: readonly ChartPoint[]): Scale {
  const least = Math.min(...points.map(point => point.median))
  const most = Math.max(...points.map(point => point.most))
  const height = PLOT.bottom - PLOT.top
  if (points.length === 0 || least <= 0 || most / least <= LINEAR_UP_TO) {
    const ticks = linearTicks(points.length === 0 || most <= 0 ? 1 : most)
    return { ticks, at: value => PLOT.bottom - (value / ticks.at(-1)!) * height }
  }
  const ticks = logTicks(Math.min(...points.map(point => Math.max(point.least, least / 2))), most)
  const [low, high] = [Math.log(ticks[0]!), Math.log(ticks.at(-1)!)]
  const at = (value: number) => PLOT.bottom - ((Math.log(Math.max(value, ticks[0]!)) - low) / (high - low)) * height
  return { ticks, at }
}

function horizontalScale(ticks: Chart['ticks']): (value: number) => number {
  const values = ticks.map(([value]) => Math.log(value))
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const inset = 28
  const width = PLOT.right - PLOT.left - 2 * inset
  return value => PLOT.left + inset + (high === low ? 0.5 : (Math.log(value) - low) / (high - low)) * width
}

const line = (x1: number, y1: number, x2: number, y2: number, style: string): string =>
  `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" ${style}/>`

const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${round(x)}" y="${round(y)}"${more}>${escapeText(words)}</text>`

function axes(chart: Chart, across: (value: number) => number, up: Scale): string[] {
  const middle = (PLOT.top + PLOT.bottom) / 2
  return [
    ...up.ticks.flatMap(tick => [
      line(PLOT.left, up.at(tick), PLOT.right, up.at(tick), 'stroke="#e3e6ea"'),
      text(PLOT.left - 8, up.at(tick) + 4, label(tick), ' text-anchor="end"'),
    ]),
    ...chart.ticks.flatMap(([value, words]) => [
      line(across(value), PLOT.bottom, across(value), PLOT.bottom + 5, 'stroke="#57606a"'),
      text(across(value), PLOT.bottom + 20, words, ' text-anchor="middle"'),
    ]),
    line(PLOT.left, PLOT.bottom, PLOT.right, PLOT.bottom, 'stroke="#57606a"'),
    text((PLOT.left + PLOT.right) / 2, HEIGHT - 20, chart.x, ' text-anchor="middle"'),
    text(0, 0, chart.y, ` text-anchor="middle" transform="translate(18,${round(middle)}) rotate(-90)"`),
  ]
}

function drawSeries(series: Series, at: number, shift: number, across: (value: number) => number, up: Scale): string[] {
  const colour = COLOURS[at % COLOURS.length]!
  const marker = MARKERS[at % MARKERS.length]!
  const stroke = `stroke="${colour}" stroke-width="1.5"`
  const xs = [...series.points.map(({ x }) => x), ...series.missing].sort((a, b) => a - b)
  let path = ''
  for (const [index, x] of xs.entries()) {
    const point = series.points.find(each => each.x === x)
    if (point === undefined) continue
    const joins = index > 0 && !series.missing.includes(xs[index - 1]!)
    path += `${joins ? 'L' : 'M'}${round(across(x) + shift)},${round(up.at(point.median))}`
  }
  const parts = [`<path d="${path}" fill="none" stroke="${colour}" stroke-width="2" stroke-linejoin="round"/>`]
  for (const point of series.points) {
    const x = across(point.x) + shift
    const [high, low] = [up.at(point.most), up.at(point.least)]
    if (low - high > 1)
      parts.push(
        line(x, high, x, low, stroke),
        line(x - 4, high, x + 4, high, stroke),
        line(x - 4, low, x + 4, low, stroke),
      )
    parts.push(
      `<path d="${marker}" transform="translate(${round(x)},${round(up.at(point.median))})" fill="${colour}"/>`,
    )
  }
  for (const x of series.missing) {
    const cross = 'M-4.5,-4.5l9,9M-4.5,4.5l9,-9'
    const place = `translate(${round(across(x) + 3 * shift)},${PLOT.top + 8})`
    parts.push(`<path d="${cross}" transform="${place}" fill="none" stroke="${colour}" stroke-width="2.5"/>`)
  }
  return parts
}

function legend(series: readonly Series[]): string[] {
  const parts: string[] = []
  let x = PLOT.left
  let y = 54
  for (const [at, { name }] of series.entries()) {
    const width = 31 + name.length * LETTER_WIDTH
    if (x > PLOT.left && x + width > PLOT.right) {
      x = PLOT.left
      y += 18
    }
    const colour = COLOURS[at % COLOURS.length]!
    parts.push(
      line(x, y, x + 24, y, `stroke="${colour}" stroke-width="2"`),
      `<path d="${MARKERS[at % MARKERS.length]!}" transform="translate(${round(x + 12)},${y})" fill="${colour}"/>`,
      text(x + 31, y + 4, name),
    )
    x += width + 22
  }
  if (series.some(({ missing }) => missing.length > 0))
    parts.push(text(PLOT.right, HEIGHT - 20, '× failed in all rounds', ' text-anchor="end"'))
  return parts
}

/** The chart as a file of its own: on a white card, so that it can be read on a light page and on a dark one. */
export function drawChart(chart: Chart): string {
  const across = horizontalScale(chart.ticks)
  const up = verticalScale(chart.series.flatMap(({ points }) => points))
  const shiftOf = (at: number) => (at - (chart.series.length - 1) / 2) * 3
  const size = `viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}"`
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${escapeText(chart.title).replace(/"/g, '&quot;')}"`,
    '  font-family="system-ui, -apple-system, \'Segoe UI\', \'DejaVu Sans\', sans-serif" font-size="13" fill="#24292f">',
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${HEIGHT - 1}" rx="6" fill="#ffffff" stroke="#d0d7de"/>`,
    text(PLOT.left, 30, chart.title, ' font-size="16" font-weight="600"'),
    ...legend(chart.series),
    ...axes(chart, across, up),
    ...chart.series.flatMap((series, at) => drawSeries(series, at, shiftOf(at), across, up)),
    '</svg>',
  ].join('\n')}\n`
}
