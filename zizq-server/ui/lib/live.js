// What changes by itself: one stream for the whole page, at most one message a second, none while nobody looks.
import { events } from './api.js'
import { still, useEffect, useRef, useState } from './dom.js'

/** A hidden page stays connected for so long: browsers allow six connections to a server over HTTP/1.1. */
const HIDDEN_MS = 10_000

/**
 * @typedef {{queues?: import('./api.js').Query, jobs?: string[]}} Wants what a view follows besides the totals
 * @typedef {{at: number, status: 'connecting' | 'live' | 'stopped' | 'offline', stats: any, order: string[] | null,
 *   rows: Map<string, any>, jobs: Map<string, any>, error: Error | null}} Live
 */

/** @type {Live} */
let live = { at: 0, status: 'connecting', stats: null, order: null, rows: new Map(), jobs: new Map(), error: null }
const heard = new Set()
/** @type {Map<object, Wants>} */
const wanted = new Map()
let wants = /** @type {Wants} */ ({})
let running = /** @type {AbortController | null} */ (null)
let failures = 0
let hide = 0
let wake = () => {}

function tell(changes) {
  live = { ...live, ...changes }
  for (const one of heard) one(live)
}

function take(message) {
  const changes = { at: message.now ?? Date.now(), status: /** @type {const} */ (still.on ? 'stopped' : 'live'), error: null }
  failures = 0
  if (message.totals) changes.stats = message.totals
  if (message.queues) {
    const rows = new Map(live.rows)
    for (const row of message.queues.rows ?? []) rows.set(row.name, row)
    changes.order = message.queues.order ?? live.order
    changes.rows = rows
  }
  if (message.jobs) {
    changes.jobs = new Map(live.jobs)
    for (const { id, job } of message.jobs) changes.jobs.set(id, job)
  }
  tell(changes)
  // A view that is opened while the numbers are stopped gets its first ones.
  if (still.on) running?.abort()
}

function follow(signal) {
  const topics = ['totals', wants.queues && 'queues'].filter(Boolean).join(',')
  const query = { topics, ...wants.queues, jobs: wants.jobs?.slice(0, 200).join(',') }
  return events('GET', 'live', query, undefined, signal, (event, data) => event === 'live' && take(data))
}

async function run() {
  running?.abort()
  if (document.hidden && live.stats) return
  const mine = running = new AbortController()
  while (!mine.signal.aborted) {
    try {
      await follow(mine.signal)
    } catch (error) {
      if (mine.signal.aborted) return
      failures += 1
      tell({ status: 'offline', error })
    }
    const pause = failures ? Math.min(15_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2) : 250
    await new Promise(resolve => {
      wake = resolve
      setTimeout(resolve, pause)
    })
  }
}

/** Takes over what an answer says of queues, before the stream does. @param {any[]} rows */
export function put(rows) {
  const known = rows.filter(row => live.rows.has(row.name))
  tell({ rows: new Map([...live.rows, ...known.map(row => [row.name, { ...live.rows.get(row.name), ...row }])]) })
}

/** Connects at once, when somebody does not want to wait. */
export const refresh = () => wake()

export function toggle() {
  still.on = !still.on
  if (still.on) {
    running?.abort()
    tell({ status: 'stopped' })
  } else run()
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hide)
  if (document.hidden) hide = setTimeout(() => running?.abort(), HIDDEN_MS)
  else if (!still.on && (!running || running.signal.aborted)) run()
})

let due = false
function merge() {
  // A mistyped address names no job.
  const jobs = [...wanted.values()].flatMap(one => one.jobs ?? []).filter(id => /^[0-9a-z]{25}$/.test(id))
  const queues = [...wanted.values()].findLast(one => one.queues)?.queues
  const next = { queues, jobs: jobs.length ? [...new Set(jobs)] : undefined }
  if (JSON.stringify(next) === JSON.stringify(wants) && running) return
  if (JSON.stringify(next.queues) !== JSON.stringify(wants.queues)) tell({ order: null, rows: new Map() })
  wants = next
  // One view makes room for another: one change, one stream.
  if (!due) {
    due = true
    queueMicrotask(() => { due = false; run() })
  }
}

/** Follows what is wanted, and gives all that is known. @param {Wants} [mine] @returns {Live} */
export function useLive(mine) {
  const [now, set] = useState(live)
  const owner = useRef({})
  useEffect(() => {
    heard.add(set)
    set(live)
    return () => heard.delete(set)
  }, [])
  useEffect(() => {
    if (!mine) return
    wanted.set(owner.current, mine)
    merge()
    return () => { wanted.delete(owner.current); setTimeout(merge, 250) }
  }, [JSON.stringify(mine)])
  return now
}
