// The server itself: what it is, how it is, what it was started with.
import { get, may, me, metrics, url } from '../lib/api.js'
import { html, useData, useRef, useTitle } from '../lib/dom.js'
import { STATUSES, age, bytes, count, duration, plural, time } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { href } from '../lib/route.js'
import { Command, Facts, Failed, Icon, Loading, Meter, Section, Status, address } from '../parts/basics.js'
import { Table } from '../parts/table.js'
import { Tokens } from '../parts/tokens.js'
import { Unavailable } from './audit.js'

function Health() {
  const { data, error } = useData(async signal => {
    const answer = await fetch(url('readyz', { verbose: true }), { signal, headers: { accept: 'application/json' } })
    return answer.json()
  }, [], 5_000)
  if (error) return html`<p class="bad">The server does not answer.</p>`
  if (!data) return html`<${Loading} />`
  return data.ready ? html`<p class="good"><${Icon} name="completed" />Ready: it accepts jobs and hands them out.</p>`
    : html`<p class="bad"><${Icon} name="warning" /> Not ready: ${(data.reasons ?? []).join(', ')}</p>`
}

/**
 * What a histogram says of the time between two scrapes, in milliseconds: the mean, and below what 99 of 100 were.
 * @param {import('../lib/api.js').Sample[]} before @param {import('../lib/api.js').Sample[]} after @param {string} name
 */
export function latency(before, after, name) {
  const of = (list, end) => list.filter(one => one.name === name + end)
  const grown = end => (of(after, end)[0]?.value ?? 0) - (of(before, end)[0]?.value ?? 0)
  const n = grown('_count')
  if (n <= 0) return null
  const old = new Map(of(before, '_bucket').map(one => [one.labels.le, one.value]))
  const bucket = of(after, '_bucket').find(one => one.value - (old.get(one.labels.le) ?? 0) >= 0.99 * n)
  return { n, mean: (grown('_sum') / n) * 1_000, below: bucket && bucket.labels.le !== '+Inf' ? Number(bucket.labels.le) * 1_000 : null }
}

/** What takes how long. */
const TIMES = [['zizq_engine_turn_seconds', 'Turns of the engine'], ['zizq_store_commit_seconds', 'Commits'], ['zizq_store_sync_seconds', 'Syncs to the disk'], ['zizq_wait_seconds', 'Jobs wait']]
const EXPIRES = 'zizq_tls_expiry_timestamp_seconds'

const until = at => (at < Date.now() ? html`<span class="bad">expired ${time(at)}</span>` : `expires ${time(at)}, in ${age(at - Date.now())}`)

/** Two scrapes after each other: between them lies what is shown; at first all since the start. */
function Machine() {
  const last = useRef(/** @type {any[]} */ ([]))
  const { data } = useData(async signal => {
    const [before, after] = [last.current, await metrics([...TIMES.map(([name]) => name), EXPIRES], signal)]
    last.current = after
    return { before, after }
  }, [], 5_000)
  if (!data?.after.length) return null
  const ms = n => (n < 10 ? `${Number(n.toPrecision(2))} ms` : duration(n))
  const says = took => (took ? `${ms(took.mean)} on average${took.below === null ? '' : `, 99 % below ${ms(took.below)}`}` : 'none just now')
  const times = TIMES.map(([name, title]) => [title, says(latency(data.before, data.after, name))])
  const files = data.after.filter(one => one.name === EXPIRES).map(({ labels, value }) => [labels.file, until(value * 1_000)])
  return html`<${Section} title="How long things take"><div class="panel"><${Facts} facts=${times} /></div><//>
    ${files.length > 0 && html`<${Section} title="Certificates"><div class="panel"><${Facts} facts=${files} /></div><//>`}`
}

function Settings() {
  const { data, error, again } = useData(signal => get('config', {}, signal), [])
  if (error) return error.status === 404 ? html`<${Unavailable} what="zizq-server --help lists all settings." />`
    : html`<${Failed} error=${error} again=${again} />`
  if (!data) return html`<${Loading} />`
  // What was set comes first.
  const rows = [...data.settings].sort((a, b) => Number(a.source === 'default') - Number(b.source === 'default'))
  const columns = [
    { id: 'name', title: 'Setting', wide: true, cell: row => html`<code title=${row.variable}>${row.flag}</code>` },
    { id: 'value', title: 'Value', cell: row => html`<span class="mono">${row.value ?? '–'}</span>` },
    { id: 'source', title: 'From', cell: row => html`<span class=${row.source === 'default' ? 'muted' : ''}>${row.source}</span>` },
  ]
  return html`<${Table} caption="Settings" columns=${columns} rows=${rows} id=${row => row.flag} />`
}

function Me() {
  const { data } = useData(() => me, [])
  if (!data || data.auth === 'open') return null
  const { who, role, grants, expires_at: expires } = data
  const facts = [['Name', who.name ?? who.kind], ['Role', role], ['Grants', grants.join(', ')], ['Expires', expires && time(expires)]]
  const way = who.kind === 'proxy' ? html`<span class="muted">Let in by the proxy</span>` : html`<a href=${href(['login'])}>Log in or out</a>`
  return html`<${Section} title="You" aside=${way}><div class="panel"><${Facts} facts=${facts} /></div><//>`
}

export default function Server() {
  useTitle('Server')
  const { stats, status } = useLive()
  const { data: known } = useData(() => me, [])
  const isAdmin = known !== undefined && may('admin')
  if (!stats) return html`<h1>Server</h1>${status !== 'offline' && html`<${Loading} />`}`
  const { disk } = stats
  const whole = disk ? disk.used + disk.free : 0
  return html`
    <div class="head"><h1>Server</h1><p class="muted">${stats.server}</p></div>
    <div class="grid">
      <${Section} title="State"><div class="panel"><${Health} /></div><//>
      <${Me} />
    </div>
    <${Section} title="Facts"><div class="panel"><${Facts} facts=${[
      ['Server', stats.server], ['Contract', stats.contract], ['Address', address], ['Up', duration(stats.uptime_ms)],
        ['Started', time(stats.now - stats.uptime_ms)], ['Memory', stats.memory !== undefined && bytes(stats.memory)],
      ['Jobs on the disk', disk && bytes(disk.used)], ['Free on the disk', disk
        && html`${bytes(disk.free)} <${Meter} value=${whole ? disk.free / whole : 0} label="Free on the disk" />`], ['Kept free', disk
        && bytes(disk.reserve)],
      ['Streams', stats.streams !== undefined && count(stats.streams)], ['Workers', stats.workers !== undefined && plural(stats.workers, 'worker')],
        ['Queues', `${count(stats.queues)}, ${count(stats.paused)} paused`], ['Time of the server', time(stats.now)],
    ]} /></div><//>
    <${Section} title="Jobs"><div class="panel">
      <${Facts} facts=${STATUSES.map(name => [html`<${Status} status=${name} />`, html`<span class="num">${count(stats.totals[name])}</span>`])} /></div><//>
    <${Machine} />
    ${isAdmin && html`<${Tokens} /><${Section} title="Settings"><${Settings} /><//>`}
    <${Section} title="For programs"><${Command} text=${`curl ${address}/stats`} />
      <p class="muted more">The same for Prometheus: <a href=${url('metrics')} target="_blank" rel="noopener">metrics</a></p><//>`
}
