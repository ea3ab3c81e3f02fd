// Numbers, times and sizes for people, as the reader prefers them. All are short, and of even width where they tick.

/** Preferences stay in this browser. */
const KEY = 'zizq'
const saved = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? {} } catch { return {} } }

/** @type {{theme: 'system' | 'light' | 'dark', utc: boolean, keys: boolean, wrap: boolean}} */
export const settings = { theme: 'system', utc: false, keys: true, wrap: false, ...saved() }

const heard = new Set()

/** Calls back after each change. Returns how to end that. */
export function onChange(tell) {
  heard.add(tell)
  return () => heard.delete(tell)
}

export function change(changes) {
  Object.assign(settings, changes)
  try { localStorage.setItem(KEY, JSON.stringify(settings)) } catch { /* private windows */ }
  apply()
  for (const tell of heard) tell()
}

export function apply() {
  document.documentElement.dataset.theme = settings.theme
}

export const nextTheme = () => change({ theme: { system: 'light', light: 'dark', dark: 'system' }[settings.theme] })

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })
const some = new Intl.NumberFormat('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 })

/** 1234567 -> "1,234,567" */
export const count = n => (n === undefined || n === null ? '–' : whole.format(n))

/** A number of things: "1 job", "2 jobs". */
export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

/** Events per second. */
export function rate(n) {
  if (n === undefined || n === null) return '–'
  if (n === 0) return '0'
  if (n < 0.05) return '<0.1'
  return n < 100 ? some.format(n) : whole.format(n)
}

/** Milliseconds -> "350 ms", "1.2 s", "4 min 5 s", "2 h 10 min", "3 d 4 h" */
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return '–'
  if (ms < 0) return '-' + duration(-ms)
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 9_950) return `${some.format(ms / 1_000)} s`
  const s = Math.round(ms / 1_000)
  const two = (n, unit, rest, small) => (rest ? `${whole.format(n)} ${unit} ${rest} ${small}` : `${whole.format(n)} ${unit}`)
  if (s < 60) return `${s} s`
  if (s < 3_600) return two(Math.floor(s / 60), 'min', s % 60, 's')
  if (s < 86_400) return two(Math.floor(s / 3_600), 'h', Math.floor((s % 3_600) / 60), 'min')
  return two(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3_600), 'h')
}

/** As {@link duration}, with one unit: for columns that tick. */
export function age(ms) {
  if (ms === undefined || ms === null) return '–'
  const s = Math.max(0, Math.floor(ms / 1_000))
  if (s < 60) return `${s} s`
  if (s < 3_600) return `${Math.floor(s / 60)} min`
  if (s < 172_800) return `${Math.floor(s / 3_600)} h`
  return `${whole.format(Math.floor(s / 86_400))} d`
}

const pad = (n, width = 2) => String(n).padStart(width, '0')

/** Milliseconds since 1970 -> "2026-11-29 12:03:07", as the reader has chosen: in UTC, or by the clock on the wall. */
export function time(at, precise = false) {
  if (at === undefined || at === null) return '–'
  const date = new Date(Number(at))
  if (Number.isNaN(date.getTime())) return String(at)
  const utc = settings.utc
  const of = name => date[`get${utc ? 'UTC' : ''}${name}`]()
  const day = `${of('FullYear')}-${pad(of('Month') + 1)}-${pad(of('Date'))}`
  const clock = `${pad(of('Hours'))}:${pad(of('Minutes'))}:${pad(of('Seconds'))}`
  return `${day} ${clock}${precise ? '.' + pad(of('Milliseconds'), 3) : ''}${utc ? ' UTC' : ''}`
}

/** Only the clock. */
export const clock = at => time(at).slice(11)

/** Only the clock where the day is that of `now`. */
export const shortTime = (at, now) => (time(at).slice(0, 10) === time(now).slice(0, 10) ? clock(at) : time(at))

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** 1234567 -> "1.2 MB" */
export function bytes(n) {
  if (n === undefined || n === null) return '–'
  let unit = 0
  while (n >= 1_000 && unit < UNITS.length - 1) [n, unit] = [n / 1_000, unit + 1]
  return `${unit && n < 100 ? some.format(n) : whole.format(n)} ${UNITS[unit]}`
}

/** "90", "1h30m", "2d" -> milliseconds; undefined for anything else. */
export function readDuration(text) {
  const units = { ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }
  const trimmed = text.trim()
  if (!/^(\d+(\.\d+)?\s*(ms|s|min|m|h|d|w)\s*)+$/.test(trimmed)) return undefined
  let sum = 0
  for (const [, n, , unit] of trimmed.matchAll(/(\d+(\.\d+)?)\s*(ms|s|min|m|h|d|w)/g)) sum += Number(n) * units[unit]
  return Math.round(sum)
}

export const STATUSES = ['scheduled', 'ready', 'in_flight', 'completed', 'dead']
export const statusName = status => (status === 'in_flight' ? 'in flight' : status)

/** Control codes of terminals; the first two groups are the arguments and the end of a CSI sequence. */
export const CODES = /\x1b(?:\[([0-9;:?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g

/** Without them, for where there is one line. @param {string | undefined} text */
export const plain = text => text?.replace(CODES, '')
