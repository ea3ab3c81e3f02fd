// Jobs that match: newest first, page by page, and what to do with them.
import { fromOf, get } from '../lib/api.js'
import { complain, deleteAll, deleteJob, duplicate, editJob, leaving, moveAll, onChanged, prioritiseAll, retryAll, retryJob } from '../lib/actions.js'
import { html, useData, useEffect, useRef, useState, useTitle } from '../lib/dom.js'
import { FILTERS } from '../lib/filter.js'
import { count, duration, plain, plural } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { useLive } from '../lib/live.js'
import { href, navigate } from '../lib/route.js'
import { Ago, Command, Empty, Failed, Icon, Loading, Meter, Status, address, copy } from '../parts/basics.js'
import { openFrom } from '../parts/over.js'
import { FilterBar } from '../parts/filterbar.js'
import { Table } from '../parts/table.js'

const PAGE = 50
/** A search that takes longer shows what it has found, and offers to look further. */
const WITHIN_MS = 2_000
/** Counting ends here. */
const AT_MOST = 10_000

export const jobColumns = now => [
  { id: 'type', title: 'Type', wide: true, cell: job => html`<a class="name" href=${href(['jobs', job.id])}><bdi>${job.type}</bdi></a>` },
  { id: 'status', title: 'Status', cell: job => html`<${Status} status=${job.status} />` },
  { id: 'queue', title: 'Queue', cell: job => html`<a href=${href(['queues', job.queue])}><bdi>${job.queue}</bdi></a>` },
  { id: 'age', title: 'When', num: true, hint: 'Since when it has been ready or has run, when it will be ready, or when it ended',
    cell: job => html`<${Ago} at=${when(job)} now=${now} />` },
  { id: 'attempts', title: 'Failed', num: true, hint: 'Failed attempts',
    cell: job => html`<span class="num ${job.attempts ? '' : 'zero'}">${count(job.attempts)}</span>` },
  { id: 'priority', title: 'Priority', num: true,
    cell: job => html`<span class="num ${job.priority === 32768 ? 'zero' : ''}">${job.priority}</span>` },
  { id: 'payload', title: 'Payload', cell: job => (job.status === 'in_flight' && (job.progress !== undefined || job.message)
    ? html`<span class="buttons">${job.progress !== undefined
      && html`<${Meter} value=${job.progress} label="Progress" />`}<span class="preview">${job.message ?? `${Math.round(job.progress * 100)} %`}</span></span>`
    : html`<span class="preview" title=${plain(job.last_error?.message)}>${job.status === 'dead'
      && job.last_error ? plain(job.last_error.message) : job.payload_preview}</span>`) },
  { id: 'id', title: 'Id', cell: job => html`<button type="button" class="link muted" title="Copy ${job.id}"
    onClick=${() => copy(job.id, 'The id is copied')}>${job.id.slice(0, 10)}…</button>` },
]

const when = job => ({ in_flight: job.dequeued_at, completed: job.completed_at, dead: job.failed_at ?? job.last_error?.at })[job.status] ?? job.ready_at

export default function Jobs({ route }) {
  useTitle('Jobs')
  const { query } = route
  const params = Object.fromEntries(FILTERS.map(name => [name, query.get(name) ?? '']).filter(([, value]) => value))
  const [order, from, before] = [query.get('order') ?? 'desc', query.get('from') ?? '', query.get('before') ?? '']
  const show = (params, more = {}) => navigate(href(['jobs'], { ...params, order: order === 'desc' ? '' : order, ...more }))
  const list = useData(async signal => {
    const turned = before ? { asc: 'desc', desc: 'asc' }[order] : order
    const { jobs, pages } = await get('jobs', { ...params, order: turned, from: before || from, limit: PAGE, payload: 'preview', within_ms: WITHIN_MS }, signal)
    const [next, prev] = [fromOf(pages.next), fromOf(pages.prev)]
    const early = next && jobs.length < PAGE ? { [before ? 'before' : 'from']: next } : null
    if (!before) return { jobs, early, older: next, newer: prev }
    return { jobs: jobs.reverse(), early, older: jobs.at(-1)?.id ?? before, newer: next }
  }, [params, order, from, before])
  const { data, error, loading, again } = list
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const [selected, setRows] = useState(new Set())
  /** Whether all that match are meant, not these rows alone. */
  const [all, setAll] = useState(false)
  const setSelected = (ids, all = false) => { setRows(ids); setAll(all) }
  useEffect(() => setSelected(new Set()), [query.toString()])

  const ids = (data?.jobs ?? []).map(job => job.id)
  const live = useLive({ jobs: ids.slice(0, 200) })
  const rows = (data?.jobs ?? []).filter(job => !leaving.has(job.id)).map(job => {
    const now = live.jobs.get(job.id)
    return now === undefined ? job : now === null ? { ...job, gone: true } : { ...job, ...now }
  })
  const chosen = rows.filter(row => selected.has(row.id))
  const one = act => row => (row && !chosen.length ? act(row) : undefined)
  const some = all ? params : { id: [...selected].join(',') }
  const known = all ? undefined : chosen
  const which = all ? 'All jobs that match' : 'The selected jobs'
  const retry = () => retryAll({ status: 'dead,completed,scheduled', ...some }, `${which} that are dead, completed or scheduled become ready.`)
  useKeys([
    { keys: '/', does: 'filter', run: () => document.getElementById('search').focus() },
    { keys: '*', does: 'select all that match', run: () => ids.length && setSelected(new Set(ids), true) },
    { keys: '[', does: 'newer page', run: () => data?.newer && show(params, { before: data.newer }) },
    { keys: ']', does: 'older page', run: () => data?.older && show(params, { from: data.older }) },
  ])
  const keys = [
    { keys: 'r', does: 'retry', run: row => (chosen.length ? retry() : row && retryJob(row)) },
    { keys: 'e', does: 'edit', run: one(editJob) }, { keys: 'd', does: 'duplicate', run: one(row => copyOf(row)) },
    { keys: 'D', does: 'delete', run: row => (chosen.length ? deleteAll(some) : row && deleteJob(row)) }, { keys: 'c', does: 'copy the id',
      run: one(row => copy(row.id)) },
  ]
  const newer = useNewer(params, data, order === 'desc' && !from && !before && !params.filter)
  return html`
    <div class="head"><h1>Jobs</h1><${HowMany} params=${params} totals=${live.stats?.totals} />
      <div class="buttons"><button type="button" data-needs="enqueue"
        onClick=${() => openFrom(() => import('../parts/enqueue.js'), 'Enqueue', { queue: params.queue })}>
        <${Icon} name="plus" />Enqueue</button></div></div>
    <div class="tools"><${FilterBar} params=${params} onChange=${params => show(params)} /></div>
    <div class="tools">
      <span class="muted">${newer > 0 && html`<button type="button" class="small" onClick=${again}>
        <${Icon} name="up" />${newer >= PAGE ? `${PAGE} or more` : newer} new</button> `}</span>
      <span class="grow"></span>
      ${rows.length > 0 && html`<span class="muted" data-needs="operate">All that match:</span><div class="buttons" data-needs="operate">
        <button type="button" class="small" onClick=${() => retryAll({ status: 'dead', ...params })}>Retry…</button>
        <button type="button" class="small" onClick=${() => moveAll(params)}>Move…</button>
          <button type="button" class="small" onClick=${() => prioritiseAll(params)}>Priority…</button>
        <button type="button" class="small danger" onClick=${() => deleteAll(params)}>Delete…</button></div>`}
    </div>
    ${chosen.length > 0 && html`<div class="selection" role="toolbar" aria-label="Selected jobs">
      <strong class="num">${all ? 'All that match' : plural(chosen.length, 'job')}</strong>
      <button type="button" onClick=${retry}>Retry…</button>
      <button type="button" onClick=${() => moveAll(some, `${which} move to another queue.`, known)}>Move…</button>
      <button type="button" onClick=${() => prioritiseAll(some, `${which} get another priority.`, known)}>Priority…</button>
      <button type="button" class="danger" onClick=${() => deleteAll(some, `${which} are deleted.`)}>Delete…</button>
      <button type="button" class="ghost" onClick=${() => setSelected(new Set())}>Clear</button></div>`}
    ${data?.early && html`<div class="notice plain" role="status"><${Icon} name="search" /><span>The search ended after ${duration(WITHIN_MS)}${rows.length
      ? `, with ${plural(rows.length, 'job')} so far` : '; nothing was found so far'}.</span>
      <a class="button" href=${href(['jobs'], { ...params, order: order === 'desc' ? '' : order, ...data.early })}>Look further</a></div>`}
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? loading && html`<${Loading} what="Looking for jobs" />` : !rows.length
      ? !data.early && html`<${Nothing} params=${params} show=${show} paged=${from || before} />` : html`
      <${Table} caption="Jobs" columns=${jobColumns(live.at || Date.now())}
        rows=${rows} id=${job => job.id} rowClass=${job => (job.gone ? 'gone' : '')} selected=${selected} onSelect=${setSelected}
        keys=${keys}
        actions=${job => html`<span class="buttons">${!['ready', 'in_flight'].includes(job.status)
          && html`<button type="button" class="small" onClick=${() => retryJob(job)}>Retry</button>`}
          ${['ready', 'scheduled'].includes(job.status) && html`<button type="button" class="small" onClick=${() => editJob(job)}>Edit…</button>`}
          <button type="button" class="small danger"
            onClick=${() => deleteJob(job)} aria-label="Delete ${job.type} ${job.id}">Delete</button></span>`} />
      <div class="more">${(data.newer || from)
        && html`<a class="button" href=${href(['jobs'], { ...params, order: order === 'desc' ? '' : order, before: data.newer ?? '' })}>${order === 'desc' ? 'Newer' : 'Older'}</a>`}
        ${data.older && html`<a class="button" href=${href(['jobs'], { ...params, order: order === 'desc' ? '' : order, from: data.older })}>${order === 'desc' ? 'Older' : 'Newer'}</a>`}
        <button type="button" class="ghost"
          onClick=${() => show(params, { order: order === 'desc' ? 'asc' : '' })}>${order === 'desc' ? 'Newest' : 'Oldest'} first</button>
          </div>`}`
}

async function copyOf(row) {
  const { payloadOf } = await import('../lib/payload.js')
  duplicate(row, (await payloadOf(row.id)).text)
}

/** How many jobs came since the page was made, without moving its rows. */
function useNewer(params, data, on) {
  const { data: ids } = useData(async signal => (on
    ? (await get('jobs', { ...params, order: 'desc', limit: PAGE, payload: 'none', within_ms: WITHIN_MS / 4 }, signal)).jobs.map(job => job.id) : []), [params, on], 5_000)
  if (!data?.jobs.length || !ids) return 0
  return ids.filter(id => id > data.jobs[0].id && !data.jobs.some(job => job.id === id)).length
}

/** The number of jobs: exact where it is known, and counted on a click where that takes a scan. */
function HowMany({ params, totals }) {
  const [answer, set] = useState({ key: '', text: '' })
  const abort = useRef(new AbortController())
  const key = JSON.stringify(params)
  const names = Object.keys(params)
  if (totals && names.every(name => name === 'status')) {
    const statuses = params.status ? params.status.split(',') : Object.keys(totals)
    return html`<p class="muted num">${plural(statuses.reduce((sum, status) => sum + (totals[status] ?? 0), 0), 'job')}</p>`
  }
  if (answer.key === key) return html`<p class="muted num" role="status">${answer.text || html`counting… <button type="button" class="small"
    onClick=${() => abort.current.abort()}>Stop</button>`}</p>`
  const look = async () => {
    set({ key, text: '' })
    abort.current = new AbortController()
    try {
      const { count: n, exact } = await get('jobs/count', { ...params, at_most: AT_MOST }, abort.current.signal)
      set({ key, text: exact ? plural(n, 'job') : `more than ${count(n)} jobs` })
    } catch (error) {
      set({ key: '', text: '' })
      if (error.name !== 'AbortError') complain(error)
    }
  }
  return html`<button type="button" class="link" onClick=${look}>Count</button>`
}

/** Says which of the filters excludes most. */
function Nothing({ params, show, paged }) {
  const names = Object.keys(params)
  const { data } = useData(signal => (names.length < 2 ? Promise.resolve([]) : Promise.all(names.map(async name => {
    const { [name]: _, ...others } = params
    const { count: n, exact } = await get('jobs/count', { ...others, at_most: 200 }, signal).catch(() => ({ count: 0, exact: true }))
    return { name, n, exact, others }
  }))), [params])
  if (paged) return html`<${Empty} title="No more jobs"><p><a href=${href(['jobs'], params)}>Back to the first page</a></p><//>`
  if (!names.length) return html`<${Empty} title="There are no jobs"><p>This enqueues one:</p>
    <${Command} text=${`curl --json '{"queue":"hello","type":"greet","payload":{"name":"Ada"}}' ${address}/jobs`} />
      <p>Jobs that have succeeded are kept only as long as their retention says; by default they are gone at once.</p><//>`
  const best = (data ?? []).filter(one => one.n > 0).sort((a, b) => b.n - a.n)
  return html`<${Empty}
    title="No job matches">${best.map(one => html`<p key=${one.name}>Without <code>${one.name}</code> there would be ${one.exact ? plural(one.n, 'job') : `at least ${count(one.n)} jobs`}. <button type="button" class="small" onClick=${() => show(one.others)}>Leave it out</button></p>`)}
    <p><button type="button" onClick=${() => show({})}>Show all jobs</button></p><//>`
}
