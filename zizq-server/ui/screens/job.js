// One job: its life so far, what it carries, what it says.
import { get, path } from '../lib/api.js'
import { deleteJob, duplicate, editJob, killJob, leaving, onChanged, retryJob } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { bytes, count, duration, plain } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { useLive } from '../lib/live.js'
import { payloadOf } from '../lib/payload.js'
import { href, navigate } from '../lib/route.js'
import { Ago, Copy, Empty, Facts, Failed, Loading, Meter, Section, Status, copy } from '../parts/basics.js'
import { Curl, Errors, Log, Payload, Result, Timeline } from '../parts/job.js'

const TABS = [['', 'Payload'], ['log', 'Log'], ['errors', 'Errors'], ['result', 'Result'], ['curl', 'Curl']]

export default function Job({ route }) {
  const [, id, tab = ''] = route.path
  const { data: job, error, again } = useData(signal => get(path('jobs', id), { payload: 'none' }, signal), [id])
  const live = useLive({ jobs: [id] })
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const followed = live.jobs.get(id)
  const gone = followed === null && job !== undefined
  const now = followed && job ? { ...followed } : job
  useTitle(now ? `${now.type}, ${now.status}` : 'Job')
  const copyOf = async () => duplicate(now, (await payloadOf(id)).text)
  const remove = () => { deleteJob(now, () => {}); navigate(href(['jobs'], { queue: now.queue })) }
  const can = { retry: now && !['ready', 'in_flight'].includes(now.status), edit: now && !['completed', 'dead'].includes(now.status) }
  useKeys(!now || gone ? [] : [
    { keys: 'r', does: 'retry', run: () => can.retry && retryJob(now) }, { keys: 'e', does: 'edit', run: () => can.edit && editJob(now) },
      { keys: 'd', does: 'duplicate', run: copyOf },
    { keys: 'D', does: 'delete', run: remove }, { keys: 'c', does: 'copy the id', run: () => copy(id) },
    ...TABS.map(([name, title], at) => ({ keys: String(at + 1), does: `show ${title}`,
      run: () => navigate(href(['jobs', id, name].filter(Boolean))) })),
  ])
  if (!now) return html`<h1>Job</h1>${error?.status === 404 ? html`<${Empty} title="There is no such job"><p>
    <code>${id}</code> has been deleted, or has ended and its retention is over. Completed jobs are kept as long as their <code>retention</code> says; by default, not at all.</p><//>`
    : error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`}`
  return html`
    <p class="crumb"><a href=${href(['jobs'])}>Jobs</a> / <a href=${href(['queues', now.queue])}><bdi>${now.queue}</bdi></a></p>
    <div class="head"><h1><bdi>${now.type}</bdi></h1><${Status} status=${now.status} />
      <div class="buttons">
        ${can.retry && html`<button type="button" data-needs="operate" onClick=${() => retryJob(now)}>Retry</button>`}
        ${can.retry && now.attempts > 0 && html`<button type="button" data-needs="operate" onClick=${() => retryJob(now, true)}
          title="Its failed attempts no longer count">Retry from zero</button>`}
        ${can.edit && html`<button type="button" data-needs="operate" onClick=${() => editJob(now)}>Edit…</button>`}
        <button type="button" data-needs="enqueue" onClick=${copyOf}>Duplicate…</button>
        ${now.status === 'in_flight' && html`<button type="button" data-needs="operate" class="danger" onClick=${() => killJob(now)}>Stop…</button>`}
        <button type="button" data-needs="operate" class="danger" onClick=${remove} disabled=${leaving.has(id)}>Delete</button></div></div>
    ${gone && html`<div class="notice warn" role="status">
      <span>This job is gone: it was deleted, or it has ended and nothing is kept of it. This is how it was last.</span></div>`}
    ${error && error.status !== 404 && html`<${Failed} error=${error} again=${again} />`}
    ${now.status === 'in_flight' && (now.progress !== undefined || now.message) && html`<div class="notice plain">
      <${Meter} value=${now.progress ?? 0} label="Progress" /><span class="num">${now.progress !== undefined
      && `${Math.round(now.progress * 100)} %`} ${now.message}</span></div>`}
    ${now.last_error && now.status !== 'completed' && html`<div class="notice bad">
      <span><b>${now.last_error.type ?? 'Error'}</b> ${plain(now.last_error.message)}</span></div>`}
    <div class="grid"><${Section} title="Timeline"><div class="panel"><${Timeline} job=${now} now=${live.at || Date.now()} /></div><//>
      <${Section} title="Facts"><div class="panel"><${Facts} facts=${facts(now, live.at || Date.now())} /></div><//></div>
    <div class="tabs" role="navigation" aria-label="Parts of the job">${TABS.map(([name, title]) => html`
      <a key=${name} href=${href(['jobs', id, name].filter(Boolean))} aria-current=${(tab === 'attempts' ? 'errors' : tab) === name ? 'page' : undefined}>
        ${title}${name === 'errors' && now.attempts ? ` ${now.attempts}` : ''}</a>`)}</div>
    <${Part} job=${now} route=${route} />`
}

/** What the chosen tab shows. */
function Part({ job, route }) {
  const [, , tab, attempt] = route.path
  if (tab === 'log') return html`<${Log} key=${`${job.id} ${job.attempts}`} job=${job} attempt=${route.query.get('attempt') ?? ''} />`
  if (tab === 'errors' || tab === 'attempts') return html`<${Errors} job=${job} only=${attempt ?? ''} />`
  if (tab === 'result') return html`<${Result} job=${job} />`
  if (tab === 'curl') return html`<${Curl} job=${job} />`
  return html`<${Payload} job=${job} />`
}

/** @returns {[string, any][]} */
function facts(job, now) {
  const { backoff, retention, unique_key: unique, batch } = job
  return [
    ['Id', html`<span class="mono">${job.id}</span> <${Copy} text=${job.id} label="Copy the id" />`],
    ['Queue', html`<a href=${href(['queues', job.queue])}><bdi>${job.queue}</bdi></a>`],
    ['Type', html`<bdi>${job.type}</bdi>`],
    ['Priority', job.priority],
    ['Failed attempts', `${count(job.attempts)}${job.retry_limit !== undefined ? ` of ${job.retry_limit + 1}` : ''}`],
    ['Deliveries', job.deliveries],
    ['Worker', job.worker && html`<bdi>${job.worker}</bdi>`], ['From', job.remote],
    ['Lease ends', job.lease_expires_at && html`<${Ago} at=${job.lease_expires_at} now=${now} />`],
    ['Timeout', job.timeout_ms && duration(job.timeout_ms)],
    ['Backoff', backoff && `${duration(backoff.base_ms)}, exponent ${backoff.exponent}, jitter ${duration(backoff.jitter_ms)}`],
    ['Retention', retention && Object.entries(retention).map(([name, ms]) => `${name.replace('_ms', '')} ${duration(ms)}`).join(', ')],
    ['Purged', job.purge_at && html`<${Ago} at=${job.purge_at} now=${now} />`],
    ['Unique key', unique && `${unique} (while ${job.unique_while ?? 'queued'})`],
    ['Batch', batch && html`<code>${batch.key}</code>`],
    ['Budgets', job.budgets?.length && job.budgets.map(({ key, cost }) => `${key} (${cost ?? 1})`).join(', ')],
    ['Trace', job.trace && html`<span class="mono">${job.trace.traceparent}</span>`],
    ['Payload', job.payload_bytes !== undefined && bytes(job.payload_bytes)],
  ]
}
