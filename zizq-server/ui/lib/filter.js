// The grammar of the filter bar: `status:dead queue:mails attempts:3.. age:>1h .user_id == 42`
// Words with a key become parameters of the API; all the rest is one jq expression.
import { readDuration } from './format.js'

/** The keys, and what they mean. @type {Record<string, string>} */
export const KEYS = {
  status: 'scheduled, ready, in_flight, completed, dead', queue: 'a queue, or several with commas', type: 'a type of job, or several', id: 'ids',
  attempts: 'failed attempts: 3, 3.., 1..5', priority: '0..100; lower runs first', age: 'how long ready: >1h, <5m, 1h..2d',
  ready_at: 'milliseconds since 1970: A..B', budget: 'the key of a budget',
}

const PARAMS = { ...Object.fromEntries(Object.keys(KEYS).map(key => [key, key])), budget: 'budgets.key', 'budgets.key': 'budgets.key' }
/** Parameters that are filters, in the order of the chips. */
export const FILTERS = ['status', 'queue', 'type', 'id', 'attempts', 'priority', 'ready_at', 'budgets.key', 'until', 'filter']

/** Splits at spaces outside of quotes. */
const words = text => [...text.matchAll(/(?:[^\s"]|"(?:[^"\\]|\\.)*"?)+/g)].map(match => ({ text: match[0], at: match.index }))

const unquoted = text => (/^".*"$/s.test(text) ? text.slice(1, -1).replace(/\\(.)/g, '$1') : text)
const quoted = text => (/[\s"]/.test(text) ? `"${text.replace(/[\\"]/g, '\\$&')}"` : text)

/** "age:>1h" -> ready_at "..T" @param {string} text @param {number} now */
function byAge(text, now) {
  const [, sign, first, second] = text.match(/^([<>]?)([^.]*(?:\.\d[^.]*)?)(?:\.\.(.*))?$/) ?? []
  const at = part => (part ? readDuration(part) : undefined)
  const [a, b] = [at(first), at(second)]
  if (sign === '>' && a !== undefined) return `..${now - a}`
  if (sign === '<' && a !== undefined) return `${now - a}..`
  if (second !== undefined && (a !== undefined
    || b !== undefined)) return `${b === undefined ? '' : now - b}..${a === undefined ? '' : now - a}`
  return a === undefined ? undefined : `..${now - a}`
}

/**
 * @param {string} text @param {number} [now]
 * @returns {{params: Record<string, string>, job?: string, problem?: string}} `job` is an id that stands alone
 */
export function parse(text, now = Date.now()) {
  const trimmed = text.trim()
  if (/^[0-9a-z]{25}$/.test(trimmed)) return { params: {}, job: trimmed }
  const params = {}
  const rest = []
  for (const word of words(text)) {
    const [, key, value] = word.text.match(/^([a-z_.]+):(.+)$/s) ?? []
    const name = key && Object.hasOwn(PARAMS, key) ? PARAMS[key] : undefined
    if (!name) {
      rest.push(word.text)
      continue
    }
    if (name === 'age') {
      const range = byAge(unquoted(value), now)
      if (!range) return { params, problem: `age:${value} is not a length of time, such as >1h or 5m..2d` }
      params.ready_at = range
    } else params[name] = params[name] ? `${params[name]},${unquoted(value)}` : unquoted(value)
  }
  if (rest.length) params.filter = rest.join(' ')
  return { params }
}

/** The text for these parameters. @param {Record<string, string | null | undefined>} params */
export function write(params) {
  const parts = FILTERS.filter(name => params[name]
    && name !== 'until').map(name => (name === 'filter' ? params[name] : `${name === 'budgets.key' ? 'budget' : name}:${quoted(params[name])}`))
  return parts.join(' ')
}
