// One queue: how it does, what is in it, who works on it, and what holds it back.
import { get, may, me, path } from '../lib/api.js'
import { onChanged, pauseQueues, queueAction } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { age, count, duration, plural, rate, time } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { useLive } from '../lib/live.js'
import { href } from '../lib/route.js'
import { Ago, Command, Empty, Failed, Icon, Loading, Section, Status, address } from '../parts/basics.js'
import { Chart, Range, rangeOf, useHistory } from '../parts/chart.js'
import { openFrom } from '../parts/over.js'
import { Table } from '../parts/table.js'
import { budgets, policy } from './budgets.js'

const FLOW = [{ name: 'enqueued', label: 'enqueued', color: 'ready', per: true }, { name: 'completed',
  label: 'completed', color: 'done', per: true }, { name: 'failed', label: 'failed', color: 'dead', per: true }]
const BACKLOG = [{ name: 'ready', label: 'ready', color: 'ready' }, { name: 'in_flight', label: 'in flight', color: 'flight' }]
const TIMES = [{ name: 'wait_ms', label: 'wait', color: 'ready' }, { name: 'run_ms', label: 'run', color: 'flight' }]

export default function Queue({ route }) {
  const name = route.path[1]
  useTitle(name)
  const live = useLive()
  const { data: queue, error, again } = useData(signal => get(path('queues', name), {}, signal), [name], 1_000)
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const range = rangeOf(route.query, name)
  const empty = !queue || Object.values(queue.counts).every(n => n === 0)
  const history = useHistory(range, name, !empty)
  const self = queue && [{ ...queue }]
  const enqueue = () => openFrom(() => import('../parts/enqueue.js'), 'Enqueue', { queue: name })
  useKeys([
    { keys: 'p', does: 'pause or resume', run: () => self && pauseQueues(self) }, { keys: 'r', does: 'retry dead jobs', run: () => self
      && queueAction('retry', self) },
    { keys: 'D', does: 'delete dead jobs', run: () => self && queueAction('purge', self) },
  ])
  if (!queue) return html`<h1><bdi>${name}</bdi></h1>${error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`}`
  const { counts, rates } = queue
  return html`
    <p class="crumb"><a href=${href(['queues'])}>Queues</a></p>
    <div class="head"><h1><bdi>${name}</bdi></h1>
      ${queue.paused ? html`<span class="status paused"><${Icon} name="paused" />paused</span><${PausedBy} name=${name} />` : counts.ready > 0 && !queue.workers
        && html`<span class="status warn"><${Icon} name="warning" />no worker</span>`}
      <div class="buttons"><button type="button" data-needs="operate" onClick=${() => pauseQueues(self)}>${queue.paused ? 'Resume' : 'Pause'}</button>
        <button type="button" data-needs="enqueue" onClick=${enqueue}><${Icon} name="plus" />Enqueue</button>
        <button type="button" data-needs="operate" disabled=${!counts.ready} onClick=${() => queueAction('move', self)}>Move ready…</button>
          <button type="button" data-needs="operate" disabled=${!counts.ready} onClick=${() => queueAction('priority', self)}>Priority…</button>
        <button type="button" data-needs="operate" disabled=${!counts.dead} onClick=${() => queueAction('retry', self)}>Retry dead…</button>
          <button type="button" data-needs="operate" class="danger" disabled=${!counts.dead} onClick=${() => queueAction('purge', self)}>Delete dead…</button>
          </div></div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${queue.note && html`<div class="notice plain"><span>${queue.note}</span></div>`}
    <div class="tiles">
      <${Tile} label="Ready" value=${count(counts.ready)} note=${counts.ready ? `oldest ${age(queue.oldest_ready_ms)}` : ''}
        to=${href(['jobs'], { queue: name, status: 'ready' })} />
      <${Tile} label="In flight" value=${count(counts.in_flight)} note=${plural(queue.workers, 'worker')}
        to=${href(['jobs'], { queue: name, status: 'in_flight' })} />
      <${Tile} label="Scheduled" value=${count(counts.scheduled)} note="" to=${href(['jobs'], { queue: name, status: 'scheduled' })} />
      <${Tile} label="Dead" value=${count(counts.dead)} note="${rate((rates?.dead['1m'] ?? 0) * 60)} a minute"
        to=${href(['jobs'], { queue: name, status: 'dead' })} />
      <${Tile} label="Done per second" value=${rate(rates?.completed['1m'])} note="${rate(rates?.enqueued['1m'])}/s come in"
        to=${href(['jobs'], { queue: name, status: 'completed' })} />
      <${Tile} label="Time to empty" value=${counts.ready ? duration(queue.backlog_ms) : '–'} note=${counts.ready
        && queue.backlog_ms !== null ? 'at this rate' : ''} to=${href(['jobs'], { queue: name, status: 'ready', order: 'asc' })} />
    </div>
    ${queue.last_release && html`<p class="notice plain section">
      <span>A worker last gave a job back ${time(queue.last_release.at)}${queue.last_release.worker ? ` (${queue.last_release.worker})` : ''}: ${queue.last_release.reason}</span></p>`}
    ${empty ? html`<${Empty} title="This queue has no jobs"><p>This enqueues one:</p>
      <${Command} text=${`curl --json ${quote(JSON.stringify({ queue: name, type: 'test', payload: {} }))} ${address}/jobs`} />
      <p>And this runs it:</p><${Command} text=${`zizq-worker --server ${address} --run ${quote(`${name}=cat`)}`} /><//>` : html`
    ${history.data && html`<div class="section-head section"><h2>Over time</h2>
      <${Range} range=${range} queue=${name} /></div>
    <div class="grid"><${Chart} title="Jobs per second" lines=${FLOW} history=${history.data} />
      <${Chart} title="Backlog" lines=${BACKLOG} history=${history.data} />
      <${Chart} title="Time, mean" lines=${TIMES} history=${history.data} unit="ms" /></div>`}
    <div class="grid"><${Types} name=${name} /><${Workers} name=${name} now=${live.at || Date.now()} /><${Budgets} name=${name} /></div>
    <${Finished} name=${name} now=${live.at || Date.now()} />`}`
}

/** The call that paused it, as far as the newest entries of the audit trail tell. A call about several queues does not say which way it went. */
async function pausedBy(name, signal) {
  await me
  if (!may('admin')) return null
  const { entries } = await get('audit', { contains: '/queues', limit: 200 }, signal)
  const [own, all] = [`/${path('queues', name, 'pause')}`, /^\/queues(\?|$)/]
  return entries.find(entry => entry.status === 200 && ((entry.target === own && entry.after?.paused)
    || (entry.action === 'PATCH' && all.test(entry.target) && touches(entry.target, name))))
}

function touches(target, name) {
  const query = new URLSearchParams(target.split('?')[1])
  return name.startsWith(query.get('prefix') ?? '') && name.includes(query.get('contains') ?? '')
}

function PausedBy({ name }) {
  const { data } = useData(signal => pausedBy(name, signal).catch(() => null), [name])
  if (!data) return null
  const who = data.who?.name ?? data.who?.kind
  return html`<a class="muted" href=${href(['audit'], { q: data.target })}>by <bdi>${who === 'open' ? data.remote : who}</bdi>, ${time(data.at)}</a>`
}

const quote = text => `'${text.replaceAll("'", `'\\''`)}'`

const Tile = ({ label, value, note, to }) => html`<a class="tile" href=${to}><span class="label">${label}</span>
  <span class="value ${value.length > 9 ? 'long' : ''}">${value}</span><span class="note">${note}</span></a>`

/** Which types the newest jobs have. */
function Types({ name }) {
  const { data, error, again } = useData(signal => get('jobs/groups', { by: 'type', queue: name, newest: 1_000 }, signal), [name])
  return html`<${Section} title="Types of the newest ${data ? count(data.looked_at) : ''} jobs">${error ? html`<${Failed} error=${error}
    again=${again} />` : html`<div class="panel">${!data ? html`<${Loading} />` : html`
    <ul class="attention">${data.groups.slice(0, 10).map(({ key, count: n }) => html`<li key=${key}><span>
      <a href=${href(['jobs'], { queue: name, type: key })}><bdi>${key}</bdi></a></span><span class="num n">${count(n)}</span>
      </li>`)}</ul>`}</div>`}<//>`
}

function Workers({ name, now }) {
  const { data } = useData(signal => get('workers', { queue: name, limit: 20 }, signal), [name], 5_000)
  return html`<${Section} title="Who works on it" aside=${html`<a href=${href(['workers'])}>All workers</a>`}>
    <div class="panel">${!data ? html`<${Loading} />` : data.workers.length === 0
    ? html`<p class="muted">Nobody. <code>zizq-worker --run '${name}=…'</code> does.</p>`
    : html`<ul class="attention">${data.workers.map(one => html`<li key=${one.stream}><span><bdi>${one.worker ?? one.remote}</bdi></span>
      <span class="num n">${count(one.in_flight)} of ${one.prefetch || '∞'}, since <${Ago} at=${one.connected_at} now=${now} /></span>
      </li>`)}</ul>`}</div><//>`
}

/** The budgets that the next jobs draw on. */
function Budgets({ name }) {
  const { data } = useData(async signal => {
    const { jobs } = await get('jobs', { queue: name, status: 'ready', limit: 50, payload: 'none' }, signal)
    const keys = new Set(jobs.flatMap(job => job.budgets ?? []).map(one => one.key))
    return keys.size ? (await budgets(signal)).filter(one => keys.has(one.key)).slice(0, 5) : []
  }, [name], 10_000)
  if (!data?.length) return null
  return html`<${Section} title="Budgets that hold it back"><div class="panel">
    <ul class="attention">${data.map(budget => html`<li key=${budget.key}>
    <span><a href=${href(['budgets', budget.key])}><bdi>${budget.key}</bdi></a> <span class="muted">${count(budget.allocation)} ${policy(budget.strategy)}</span></span>
      <span class="num n">${count(budget.available)} left, ${plural(budget.parked ?? 0, 'job waits', 'jobs wait')}</span></li>`)}</ul></div><//>`
}

function Finished({ name, now }) {
  const { data } = useData(signal => get('jobs', { queue: name, status: 'completed,dead', order: 'desc', limit: 20, payload: 'none' }, signal), [name], 5_000)
  if (!data?.jobs.length) return null
  const columns = [
    { id: 'type', title: 'Job', wide: true, cell: job => html`<a class="name" href=${href(['jobs', job.id])}><bdi>${job.type}</bdi>
      </a>` }, { id: 'status', title: 'Status', cell: job => html`<${Status} status=${job.status} />` },
    { id: 'took', title: 'Took', num: true,
      cell: job => html`<span class="num">${duration((job.completed_at ?? job.failed_at) - job.dequeued_at)}</span>` },
    { id: 'at', title: 'Ended', num: true, cell: job => html`<${Ago} at=${job.completed_at ?? job.failed_at} now=${now} />` },
  ]
  return html`<${Section} title="Newest jobs that have ended"><${Table} caption="Newest jobs that have ended" columns=${columns}
    rows=${data.jobs} id=${job => job.id} /><//>`
}
