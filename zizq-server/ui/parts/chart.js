// How numbers developed: uPlot on a canvas, in the colours of the theme, or the same as a table.
import { get, seesAll } from '../lib/api.js'
import { html, useData, useEffect, useRef, useState } from '../lib/dom.js'
import { count, duration, onChange, rate, time } from '../lib/format.js'
import { update } from '../lib/route.js'
import { Choice, Section } from './basics.js'

/** @typedef {{name: string, label: string, color: string, per?: boolean}} Line `per`: events, shown per second */

let loading = /** @type {Promise<any> | null} */ (null)

/** Loads uPlot once. It is a classic script, so its address must be trusted. */
function load() {
  return (loading ??= new Promise((resolve, reject) => {
    const at = name => new URL(`../vendor/uPlot-1.6.32.${name}`, import.meta.url).href
    const policy = globalThis.trustedTypes?.createPolicy('uplot', { createScriptURL: () => at('js') })
    const script = document.createElement('script')
    script.src = policy ? policy.createScriptURL('') : at('js')
    script.onload = () => resolve(globalThis.uPlot)
    script.onerror = () => { loading = null; reject(new Error('The charts cannot be loaded.')) }
    document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: at('css') }), script)
  }))
}

/** The most queues of one answer whose last hour the server tells. */
const MAX_HOURS = 100
const MINUTES = 60
const RANGES = [['10m', '10 min'], ['3h', '3 h'], ['24h', '24 h'], ['7d', '7 d'], ['30d', '30 d']]

/** Chooses the range of charts below. */
export const Range = ({ range, queue }) => html`<${Choice} label="Range of the charts" value=${range}
  options=${rangesOf(queue)} onChange=${range => update({ range })} />`

const rangesOf = queue => RANGES.filter(([name]) => !queue || ['3h', '7d'].includes(name))
/** The range in the address, or the shortest. @param {URLSearchParams} query @param {string} [queue] */
export const rangeOf = (query, queue) => (rangesOf(queue).find(([name]) => name === query.get('range')) ?? rangesOf(queue)[0])[0]

/** The history that charts share. An empty queue has none; who sees some queues only has null for all of them. */
export const useHistory = (range, queue, on = true) => useData(
  async signal => (on ? queue || await seesAll() ? get('stats/history', { range, queue }, signal) : null : undefined),
  [range, queue, on], range === '10m' ? 5_000 : 60_000,
)

const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
/** `light-dark()` as the browser resolves it: a canvas knows no such colours. */
function resolved(name, probe) {
  probe.style.color = color(name)
  return getComputedStyle(probe).color
}

const shown = (line, unit, value) => (value === null
  || value === undefined ? '–' : unit === 'ms' ? duration(value) : line.per ? `${rate(value)}/s` : count(value))

/** @param {{title: string, lines: Line[], history: any, unit?: 'ms'}} props */
export function Chart({ title, lines, history, unit }) {
  const [asTable, setTable] = useState(false)
  const data = history && columns(history, lines)
  const last = data && lines.map((line, at) => `${line.label} ${shown(line, unit, data[at + 1].at(-1))}`).join(', ')
  return html`<${Section} title=${title} aside=${html`<button type="button" class="ghost small" aria-pressed=${asTable}
    onClick=${() => setTable(!asTable)}>${asTable ? 'Chart' : 'Table'}</button>`}>
    <div class="panel chart">${data && (asTable ? html`<${Numbers} title=${title} data=${data} lines=${lines} unit=${unit} />`
      : html`<${Canvas} data=${data} lines=${lines} unit=${unit} label=${`${title}: at last ${last}`} />`)}</div><//>`
}

/** A chart shows no more points: single seconds are noise. */
const POINTS = 150

function columns({ from, step_ms: step, series }, lines) {
  const length = Math.max(0, ...lines.map(line => series[line.name]?.length ?? 0))
  const width = Math.ceil(length / POINTS)
  const times = Array.from({ length: Math.ceil(length / width) || 0 }, (_, at) => (from + at * width * step) / 1_000)
  const mean = values => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null)
  const point = (line, at) => {
    const value = mean((series[line.name] ?? []).slice(at * width, (at + 1) * width).filter(one => one !== null))
    return value === null ? null : line.per ? (value * 1_000) / step : value
  }
  return [times, ...lines.map(line => times.map((_, at) => point(line, at)))]
}

const Numbers = ({ title, data, lines, unit }) => html`<div class="chart-table" tabindex="0" role="region" aria-label=${title}><table>
  <caption class="offscreen">${title}</caption>
  <thead><tr><th scope="col">Time</th>${lines.map(line => html`<th scope="col" class="n">${line.label}</th>`)}</tr></thead>
  <tbody>${data[0].map((at, row) => [at, row]).slice(-60).reverse().map(([at, row]) => html`<tr key=${at}>
    <td class="num">${time(at * 1_000)}</td>${lines.map((line, column) => html`<td class="n">${shown(line, unit, data[column + 1][row])}</td>`)}</tr>`)}</tbody></table></div>`

function Canvas({ data, lines, unit, label }) {
  const frame = useRef(null)
  const plot = useRef(null)
  const newest = useRef(data)
  newest.current = data
  const [failed, fail] = useState('')
  /** The step under the pointer; without one, the last. */
  const [at, setAt] = useState(/** @type {number | null} */ (null))
  useEffect(() => {
    let [gone, made] = [false, () => {}]
    load().then(uPlot => {
      if (gone) return
      made = () => {
        plot.current?.destroy()
        plot.current = new uPlot(options(frame.current, lines, unit, setAt), newest.current, frame.current)
        // For the table there is a switch.
        frame.current.querySelector('canvas').setAttribute('aria-hidden', 'true')
      }
      made()
    }, error => fail(error.message))
    const resize = new ResizeObserver(() => plot.current?.setSize({ width: frame.current.clientWidth, height: 140 }))
    resize.observe(frame.current)
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    const redraw = () => made()
    scheme.addEventListener('change', redraw)
    const forget = onChange(redraw)
    return () => { gone = true; forget(); scheme.removeEventListener('change', redraw); resize.disconnect(); plot.current?.destroy(); plot.current = null }
  }, [JSON.stringify(lines)])
  useEffect(() => plot.current?.setData(data), [data])
  const step = at ?? data[0].length - 1
  return html`<ul class="legend" aria-hidden="true">${lines.map((line, column) => html`<li key=${line.name}>
    <span class="line ${line.color}"></span>${line.label}<b>${shown(line, unit, data[column + 1][step])}</b></li>`)}
    ${at !== null && html`<li>${time(data[0][at] * 1_000)}</li>`}</ul><div ref=${frame} role="img" aria-label=${label}>
      </div>${failed && html`<p class="muted">${failed}</p>`}`
}

/** Days where there are days between the marks, else the clock. */
const clocks = (_, ticks) => ticks.map(tick => {
  const text = time(tick * 1_000)
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 60
  return step >= 86_400 ? text.slice(5, 10) : step >= 60 ? text.slice(11, 16) : text.slice(11, 19)
})

/** At least a minute: a server that has just started has few points, or none. */
function atLeastAMinute({ data: [times] }) {
  const end = times.at(-1) ?? Date.now() / 1_000
  return [Math.min(times[0] ?? end, end - 60), end]
}

function options(frame, lines, unit, setAt) {
  const probe = frame.appendChild(document.createElement('span'))
  const get = name => resolved(name, probe)
  const axis = { stroke: get('--muted'), grid: { stroke: get('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' }
  const values = (_, ticks) => ticks.map(tick => (unit === 'ms' ? duration(tick) : tick >= 10_000 ? `${count(tick / 1_000)}k` : String(tick)))
  const made = {
    width: frame.clientWidth, height: 140, padding: [8, 8, 0, 0], cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: false }, hooks: { setCursor: [plot => setAt(plot.cursor.idx ?? null)] },
    scales: { x: { range: atLeastAMinute }, y: { range: (_, __, most) => [0, Math.max(unit === 'ms' ? 10 : 1, most * 1.08)] } },
    axes: [{ ...axis, size: 24, space: 70, values: clocks }, { ...axis, size: 52, values }],
    series: [{}, ...lines.map(line => ({ stroke: get(`--${line.color}`), width: 1.5, points: { show: false } }))],
  }
  probe.remove()
  return made
}

/**
 * The last hour of the queues of a list, in one call a minute, and soon after others come into it.
 * @param {import('../lib/api.js').Query} query the list @param {string} series @param {string[] | null} shown the names of the queues
 * @returns {Map<string, (number | null)[] | undefined>}
 */
export function useHours(query, series, shown) {
  const wanted = { details: true, ...query, limit: Math.min(query.limit, MAX_HOURS), series }
  const { data, again } = useData(signal => get('queues', wanted, signal), [wanted], 60_000)
  const hours = new Map((data?.queues ?? []).map(row => [row.name, row.last_hour?.[series]]))
  const missing = Boolean(data && shown?.slice(0, MAX_HOURS).some(name => !hours.has(name)))
  useEffect(() => {
    if (!missing) return
    const timer = setTimeout(() => document.hidden || again(), 10_000)
    return () => clearTimeout(timer)
  }, [missing, data])
  return hours
}

/** The column that shows it. @param {string} title @param {string} says what each minute counts */
export const hourColumn = (title, says, hours) => ({ id: 'hour', title, hint: `${says} in each minute of the last hour`,
  cell: row => (hours.get(row.name) ? html`<${Spark} values=${hours.get(row.name)} label=${says} />` : html`<span class="zero">–</span>`) })

/** A line as small as a word. @param {{values: (number | null)[], label: string}} props */
export function Spark({ values, label }) {
  // What is not known, before the server started, is nothing.
  const known = [...Array(MINUTES).fill(0), ...values].slice(-MINUTES).map(value => value ?? 0)
  const most = Math.max(1, ...known)
  const x = index => (index / Math.max(1, known.length - 1)) * 100
  const points = known.map((value, index) => `${x(index).toFixed(1)},${(19 - (value / most) * 18).toFixed(1)}`).join(' ')
  const text = `${label}: ${count(known.at(-1))} in the last minute, ${count(Math.max(...known))} at most in the last hour`
  return html`<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label=${text}><title>${text}</title>
    <polygon points="0,20 ${points} 100,20" /><polyline points=${points} /></svg>`
}
