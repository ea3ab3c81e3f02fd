// All queues: found, sorted and paged by the server.
import { html, useState, useTitle } from '../lib/dom.js'
import { count, plural, rate } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { href, update } from '../lib/route.js'
import { useKeys } from '../lib/keys.js'
import { pauseQueues, queueAction } from '../lib/actions.js'
import { Ago, Choice, Command, Empty, Icon, Loading, Num, address } from '../parts/basics.js'
import { hourColumn, useHours } from '../parts/chart.js'
import { Table } from '../parts/table.js'

const PAGE = 50
const FILTERS = [['', 'All'], ['ready', 'Ready'], ['in_flight', 'In flight'], ['scheduled', 'Scheduled'], ['dead', 'Dead'],
  ['paused', 'Paused']]

/** So many jobs of a status, which are one click away. */
const Jobs = ({ row, status }) => (row.counts[status] ? html`<a class="num" href=${href(['jobs'], { queue: row.name, status })}>
  ${count(row.counts[status])}</a>` : html`<${Num} n=${0} />`)
const jobs = (status, title, more = {}) => ({ id: status, title, num: true, sort: status, cell: row => html`<${Jobs} row=${row} status=${status} />`, ...more })

/** The columns of a list of queues; the Overview has them, too. */
export const columns = now => [
  { id: 'name', title: 'Queue', sort: 'name', wide: true,
    cell: row => html`<a class="name" href=${href(['queues', row.name])}><bdi>${row.name}</bdi></a>` },
  { id: 'state', title: 'State', cell: row => (row.paused
    ? html`<span class="status paused"><${Icon} name="paused" />paused</span>`
    : row.counts.ready && !row.workers ? html`<span class="status warn"><${Icon} name="warning" />no worker</span>` : '') },
  jobs('ready', 'Ready'),
  { id: 'oldest', title: 'Oldest', num: true, sort: 'oldest', hint: 'How long the oldest ready job has waited',
    cell: row => (row.counts.ready ? html`<${Ago} at=${row.oldest_ready_at} now=${now} />` : html`<span class="zero">–</span>`) },
  jobs('in_flight', 'In flight'),
  { id: 'workers', title: 'Workers', num: true, cell: row => html`<${Num} n=${row.workers} />` },
  jobs('scheduled', 'Scheduled', { sort: undefined }),
  jobs('dead', 'Dead', { cell: row => html`<span class=${row.counts.dead ? 'dead-text' : ''}><${Jobs} row=${row} status="dead" /></span>` }),
  { id: 'rate', title: 'Done/s', num: true, sort: 'rate', hint: 'Completed jobs per second in the last minute',
    cell: row => html`<span class="num ${row.rates?.completed['1m'] ? '' : 'zero'}">${rate(row.rates?.completed['1m'])}</span>` },
]

/** Only where there is room. */
const COMPLETED = jobs('completed', 'Completed', { sort: undefined, hint: 'Completed jobs that are kept, as their retention says' })

const sum = (rows, of) => rows.reduce((all, row) => all + of(row), 0)

export default function Queues({ route }) {
  useTitle('Queues')
  const param = name => route.query.get(name) ?? ''
  const [q, only, order, desc] = [param('q'), param('only'), param('order') || 'name', param('desc') === 'true']
  const limit = Math.min(1_000, Math.max(1, Number(param('limit')) || PAGE))
  const list = { contains: q, status: only === 'paused' ? '' : only, paused: only === 'paused' ? 'true' : '', order, desc: desc || '', limit }
  const live = useLive({ queues: list })
  const hours = useHours(list, 'completed', live.order)
  const [selected, setSelected] = useState(new Set())
  const rows = (live.order ?? []).map(name => live.rows.get(name)).filter(Boolean)
  const chosen = rows.filter(row => selected.has(row.name))
  const of = row => (chosen.length ? chosen : row ? [row] : [])
  useKeys([{ keys: '/', does: 'search', run: () => document.getElementById('search').focus() }])
  const keys = [
    { keys: 'p', does: 'pause or resume', run: row => of(row).length && pauseQueues(of(row)) },
    { keys: 'r', does: 'retry dead jobs', run: row => of(row).length && queueAction('retry', of(row)) },
    { keys: 'D', does: 'delete dead jobs', run: row => of(row).length && queueAction('purge', of(row)) },
  ]
  return html`
    <div class="head"><h1>Queues</h1>
      <p class="muted num">${live.stats ? `${plural(live.stats.queues, 'queue')}, ${count(live.stats.paused)} paused` : ''}</p></div>
    <div class="tools">
      <label class="search"><${Icon} name="search" />
        <input id="search" type="search" placeholder="Part of a name" aria-label="Search queues" value=${q}
        onInput=${event => update({ q: event.target.value, limit: '' })} /></label>
      <${Choice} label="Which queues" value=${only} options=${FILTERS} onChange=${value => update({ only: value })} />
    </div>
    ${chosen.length > 0 && html`<div class="selection" role="toolbar" aria-label="Selected queues">
      <strong class="num">${plural(chosen.length, 'queue')}</strong>
      <button type="button" onClick=${() => pauseQueues(chosen, true)}>Pause</button>
        <button type="button" onClick=${() => pauseQueues(chosen, false)}>Resume</button>
      <button type="button" onClick=${() => queueAction('retry', chosen)}>Retry dead…</button>
        <button type="button" class="danger" onClick=${() => queueAction('purge', chosen)}>Delete dead…</button>
      <button type="button" class="ghost" onClick=${() => setSelected(new Set())}>Clear</button></div>`}
    ${!live.order ? live.status !== 'offline' && html`<${Loading} what="Loading queues" />` : !rows.length
      ? html`<${Nothing} q=${q} only=${only} />` : html`
    <${Table} caption="Queues" columns=${[...columns(live.at), COMPLETED, hourColumn('Done, 1 h', 'Completed jobs', hours)]}
      rows=${rows} id=${row => row.name} order=${order} desc=${desc} selected=${selected} onSelect=${setSelected}
      onSort=${(order, desc) => update({ order: order === 'name' ? '' : order, desc: desc ? 'true' : '' })}
        keys=${keys}
      actions=${row => html`<button type="button" class="small"
        onClick=${() => pauseQueues([row])}>${row.paused ? 'Resume' : 'Pause'}</button>`}
      foot=${rows.length > 1
        && { name: plural(rows.length, 'queue') + (rows.length >= limit ? ' shown' : ''), ready: html`<${Num} n=${sum(rows, row => row.counts.ready)} />`, in_flight: html`<${Num} n=${sum(rows, row => row.counts.in_flight)} />`,
        scheduled: html`<${Num} n=${sum(rows, row => row.counts.scheduled)} />`, dead: html`<${Num} n=${sum(rows, row => row.counts.dead)} />`, completed: html`<${Num} n=${sum(rows, row => row.counts.completed)} />`, rate: html`<span class="num">${rate(sum(rows, row => row.rates?.completed['1m'] ?? 0))}</span>` }} />
    ${rows.length >= limit && limit < 1_000 && html`<p class="more"><button type="button"
      onClick=${() => update({ limit: Math.min(1_000, limit * 3) })}>Show more</button></p>`}`}`
}

const Nothing = ({ q, only }) => (q || only
  ? html`<${Empty} title="No queue matches"><p>${q
    && html`No name contains “${q}”${only ? ` among those that are ${only}` : ''}. `}<button type="button"
    onClick=${() => update({ q: '', only: '' })}>Show all queues</button></p><//>`
  : html`<${Empty} title="There are no queues yet">
      <p>A queue exists as soon as it has a job:</p>
      <${Command} text=${`curl --json '{"queue":"hello","type":"greet","payload":{"name":"Ada"}}' ${address}/jobs`} />
      <p>And this runs it, with <code>cat</code> for a program that reads the payload:</p>
      <${Command} text=${`zizq-worker --server ${address} --run 'hello=cat'`} /><//>`)
