// How things are, and what needs somebody.
import { get, metrics } from '../lib/api.js'
import { html, useData, useTitle } from '../lib/dom.js'
import { age, bytes, count, duration, plain, plural, rate } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { href } from '../lib/route.js'
import { pauseAll, pauseQueues } from '../lib/actions.js'
import { Ago, Command, Empty, Failed, Icon, Loading, Section, address } from '../parts/basics.js'
import { Chart, Range, hourColumn, rangeOf, useHistory, useHours } from '../parts/chart.js'
import { Table } from '../parts/table.js'
import { columns } from './queues.js'

/** So long may the oldest ready job wait before somebody should look. */
const OLD_MS = 5 * 60_000
/** The queues that wait longest. */
const OLDEST = { order: 'oldest', desc: true, limit: 10 }

const FLOW = [
  { name: 'enqueued', label: 'enqueued', color: 'ready', per: true }, { name: 'completed', label: 'completed', color: 'done', per: true },
  { name: 'failed', label: 'failed', color: 'dead', per: true },
]
const BACKLOG = [{ name: 'ready', label: 'ready', color: 'ready' }, { name: 'in_flight', label: 'in flight', color: 'flight' },
  { name: 'scheduled', label: 'scheduled', color: 'sched' }]
const TIMES = [{ name: 'wait_ms', label: 'wait', color: 'ready' }, { name: 'run_ms', label: 'run', color: 'flight' }]

const Tile = ({ label, value, note, to, warn }) => html`<a class="tile ${warn ? 'warn' : ''}" href=${to}>
  <span class="label">${warn && html`<${Icon} name="warning" />`}${label}</span><span class="value ${value.length > 9 ? 'long' : ''}">${value}</span>
    <span class="note">${note}</span></a>`

function Tiles({ stats, oldest }) {
  // Who sees some queues only is told nothing of the others, nor of the machine.
  const { totals, rates, workers, wait_ms: wait } = stats
  const dying = rates.dead['1m'] > 0.05 * (rates.completed['1m'] + rates.dead['1m'])
  return html`<div class="tiles">
    <${Tile} label="Ready" value=${count(totals.ready)} note=${oldest === null ? '' : `oldest ${age(oldest)}`} warn=${oldest > OLD_MS}
      to=${href(['jobs'], { status: 'ready' })} />
    <${Tile} label="In flight" value=${count(totals.in_flight)} note=${workers === undefined ? '' : plural(workers, 'worker')} warn=${totals.ready > 0
      && workers === 0} to=${href(['jobs'], { status: 'in_flight' })} />
    <${Tile} label="Scheduled" value=${count(totals.scheduled)} note="" to=${href(['jobs'], { status: 'scheduled' })} />
    <${Tile} label="Dead" value=${count(totals.dead)} note="${rate(rates.dead['1m'] * 60)} a minute" warn=${dying} to=${href(['dead'])} />
    <${Tile} label="Done per second" value=${rate(rates.completed['1s'] ?? rates.completed['1m'])} note="${rate(rates.completed['1m'])}/s in a minute"
      to=${href(['jobs'], { status: 'completed' })} />
    ${wait && html`<${Tile} label="Wait, p95" value=${duration(wait.p95)} note="p50 ${duration(wait.p50)}" warn=${wait.p95 > OLD_MS}
      to=${href(['queues'], { order: 'oldest', desc: true })} />`}
  </div>`
}

/** What somebody should look at. */
function reasons(live, rows, crons, now) {
  const found = []
  const { disk } = live.stats
  for (const row of rows) {
    const link = href(['queues', row.name])
    const old = row.counts.ready ? now - (row.oldest_ready_at ?? now) : 0
    if (row.paused) found.push({ text: `${row.name} is paused${row.counts.ready ? `, with ${plural(row.counts.ready, 'ready job')}` : ''}`, link, act: ['Resume', () => pauseQueues([row], false)] })
    else if (row.counts.ready
      && !row.workers) found.push({ text: `${row.name} has ${plural(row.counts.ready, 'ready job')} and no worker`, link, bad: true })
    else if (old > OLD_MS) found.push({ text: `The oldest job of ${row.name} has waited for ${duration(old)}`, link })
  }
  for (const name of crons) found.push({ text: `Cron entry ${name} is overdue`, link: href(['crons']) })
  if (disk && disk.used + disk.free > 0
    && disk.free < 0.15 * (disk.used + disk.free)) found.unshift({ text: `The disk is almost full: ${bytes(disk.free)} free`, link: href(['server']), bad: true })
  return found.sort((a, b) => Number(b.bad ?? false) - Number(a.bad ?? false))
}

/** Entries whose time has come a while ago. */
async function overdue(signal) {
  const { crons } = await get('crons', {}, signal)
  const groups = await Promise.all(crons.slice(0, 20).map(name => get(`crons/${encodeURIComponent(name)}`, {}, signal).catch(() => null)))
  return groups.flatMap(group => (group?.paused ? [] : (group?.entries ?? []).filter(entry => !entry.paused
    && entry.next_enqueue_at < Date.now() - 60_000).map(entry => `${group.name}/${entry.name}`)))
}

/** So long before it expires somebody should renew a certificate: as the log and the alert have it. */
const RENEW_MS = 14 * 86_400_000
const [EXPIRES, DAMAGED] = ['zizq_tls_expiry_timestamp_seconds', 'zizq_store_damaged_records_total']

/** What is about the machine. */
function ofServer(samples, now) {
  const link = href(['server'])
  return samples.flatMap(({ name, labels, value }) => {
    const left = value * 1_000 - now
    if (name === EXPIRES && left < RENEW_MS) return [{ text: `The certificate in ${labels.file} ${left < 0 ? 'has expired' : `expires in ${age(left)}`}`, link, bad: left < RENEW_MS / 14 }]
    return name === DAMAGED && value > 0 ? [{ text: `${plural(value, 'record is', 'records are')} damaged and set aside: see the log`, link, bad: true }] : []
  })
}

function Attention({ live, rows, now }) {
  const crons = useData(overdue, [], 60_000)
  const known = useData(signal => metrics([EXPIRES, DAMAGED], signal), [], 60_000)
  const found = [...ofServer(known.data ?? [], now), ...reasons(live, rows, crons.data ?? [], now)]
  return html`<${Section} title="Needs attention"><div class="panel">${found.length
    ? html`<ul class="attention">${found.slice(0, 8).map(one => html`<li key=${one.text} class=${one.bad ? 'bad' : ''}>
      <${Icon} name="warning" /><span><a href=${one.link}>${one.text}</a></span>
      ${one.act && html`<button type="button" class="small" data-needs="operate" onClick=${one.act[1]}>${one.act[0]}</button>`}</li>`)}</ul>${found.length > 8
        && html`<p class="muted">and ${found.length - 8} more</p>`}`
    : html`<p class="good"><${Icon} name="completed" />Nothing does.</p>`}</div><//>`
}

function Deaths({ now }) {
  const { data, error, again } = useData(signal => get('jobs', { status: 'dead', order: 'desc', limit: 10, payload: 'none' }, signal), [], 5_000)
  if (error && !data) return html`<${Failed} error=${error} again=${again} />`
  if (!data?.jobs.length) return html`<${Section} title="Newest dead jobs"><div class="panel">${data ? html`<p class="good">
    <${Icon} name="completed" />No job is dead.</p>` : html`<${Loading} />`}</div><//>`
  const columns = [
    { id: 'type', title: 'Job', wide: true, cell: job => html`<a class="name" href=${href(['jobs', job.id])}><bdi>${job.type}</bdi>
      </a> <span class="muted">in <bdi>${job.queue}</bdi></span>` },
    { id: 'error', title: 'Error', cell: job => html`<span class="preview"
      title=${plain(job.last_error?.message)}>${plain(job.last_error?.message) ?? '–'}</span>` },
    { id: 'at', title: 'Died', num: true, cell: job => html`<${Ago} at=${job.failed_at ?? job.last_error?.at} now=${now} />` },
  ]
  return html`<${Section} title="Newest dead jobs" aside=${html`<a href=${href(['dead'])}>All dead jobs</a>`}>
    <${Table} caption="Newest dead jobs" columns=${columns} rows=${data.jobs} id=${job => job.id} /><//>`
}

export default function Overview({ route }) {
  useTitle('Overview')
  const live = useLive({ queues: OLDEST })
  const hours = useHours(OLDEST, 'ready', live.order)
  const paused = useData(signal => get('queues', { details: true, paused: true, limit: 20 }, signal), [], 5_000)
  const range = rangeOf(route.query)
  const history = useHistory(range)
  if (!live.stats) return live.status === 'offline' ? html`<h1>Overview</h1>` : html`<h1>Overview</h1><${Loading} />`
  const rows = (live.order ?? []).map(name => live.rows.get(name)).filter(Boolean)
  const waits = rows.filter(row => row.counts.ready && row.oldest_ready_at)
  const oldest = waits.length ? Math.max(...waits.filter(row => !row.paused).map(row => live.at - row.oldest_ready_at), 0) : null
  const known = new Map([...(paused.data?.queues ?? []), ...rows].map(row => [row.name, row]))
  if (!live.stats.queues && live.order) return html`<h1>Overview</h1><${Tiles} stats=${live.stats} oldest=${null} /><${Start} />`
  const trend = hourColumn('Ready, 1 h', 'Ready jobs', hours)
  return html`
    <div class="head"><h1>Overview</h1>
      <p class="muted num">up ${age(live.stats.uptime_ms)}${live.stats.disk && `, ${bytes(live.stats.memory)} memory, ${bytes(live.stats.disk.used)} on disk`}</p>
      <div class="buttons" data-needs="operate">
        <button type="button" disabled=${live.stats.paused >= live.stats.queues} onClick=${() => pauseAll(true)}>Pause all…</button>
        <button type="button" disabled=${!live.stats.paused} onClick=${() => pauseAll(false)}>Resume all…</button></div></div>
    <${Tiles} stats=${live.stats} oldest=${oldest} />
    <${Attention} live=${live} rows=${[...known.values()]} now=${live.at} />
    ${history.data !== null && html`<div class="section-head section"><h2>Over time</h2><${Range} range=${range} /></div>
    ${history.error && !history.data && html`<${Failed} error=${history.error} again=${history.again} />`}
    <div class="grid">
      <${Chart} title="Jobs per second" lines=${FLOW} history=${history.data} />
      <${Chart} title="Backlog" lines=${BACKLOG} history=${history.data} />
      <${Chart} title="Time, mean" lines=${TIMES} history=${history.data} unit="ms" />
    </div>`}
    <${Section} title="Queues that wait longest" aside=${html`<a href=${href(['queues'])}>All queues</a>`}>
      ${live.order ? html`<${Table} caption="Queues that wait longest" columns=${[...columns(live.at), trend]}
        rows=${rows} id=${row => row.name} />` : html`<${Loading} />`}<//>
    <${Deaths} now=${live.at} />`
}

const Start = () => html`<${Empty} title="This server is empty: here is how to begin">
  <p>1. Enqueue a job:</p><${Command} text=${`curl --json '{"queue":"hello","type":"greet","payload":{"name":"Ada"}}' ${address}/jobs`} />
  <p>2. Run it: a worker makes a worker of any program.</p><${Command} text=${`zizq-worker --server ${address} --run 'hello=cat'`} />
  <p>3. Watch it here. <kbd>?</kbd> shows the keys.</p><//>`
