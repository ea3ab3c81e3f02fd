// Who is connected, what they take, what they run.
import { fromOf, get, path } from '../lib/api.js'
import { ask } from '../lib/actions.js'
import { html, useData, useTitle } from '../lib/dom.js'
import { count, plural } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { useLive } from '../lib/live.js'
import { href, update } from '../lib/route.js'
import { Ago, Command, Empty, Failed, Icon, Loading, address } from '../parts/basics.js'
import { Table } from '../parts/table.js'

const PAGE = 50

/** Asks a worker to take no more. @param {any} row */
export const drain = (row, again) => ask({
  title: 'Drain the worker', verb: 'Drain', method: 'POST', done: () => `${row.worker ?? row.stream} takes no more jobs`, after: again,
  says: `${row.worker ?? row.stream} gets no more jobs${row.worker ? ', on any of its streams' : ''}. What it runs goes on; zizq-worker ends when that is done.`,
  ...(row.worker ? { path: 'workers/drain', query: { worker: row.worker } } : { path: path('workers', row.stream, 'drain') }),
})

/** Ends a stream. @param {any} row */
export const disconnect = (row, again) => ask({
  title: 'Disconnect the stream', verb: 'Disconnect', danger: true, method: 'POST', path: path('workers', row.stream, 'disconnect'), after: again,
  done: () => `${row.worker ?? row.stream} is disconnected`,
  says: `The connection ${row.worker ? `of ${row.worker} ` : ''}ends, and ${row.in_flight === 1 ? 'its job is' : row.in_flight ? `its ${plural(row.in_flight, 'job')} are`
    : 'its jobs are'} ready again at once: another worker may run them while this one still does. A worker that is alive connects again; drain it to send it home.`,
})

export default function Workers({ route }) {
  useTitle('Workers')
  const [contains, queue] = [route.query.get('contains') ?? '', route.query.get('queue') ?? '']
  const [order, from] = [route.query.get('order') ?? 'connected_at', route.query.get('from') ?? '']
  const show = values => update({ from: '', ...values })
  const live = useLive()
  const { data, error, again } = useData(signal => get('workers', { contains, queue, order, from, limit: PAGE }, signal), [contains, queue, order, from], 2_000)
  const next = fromOf(data?.pages?.next)
  useKeys([{ keys: '/', does: 'search', run: () => document.getElementById('search').focus() }])
  const columns = [
    { id: 'worker', title: 'Worker', sort: 'worker', wide: true,
      cell: row => html`<a class="name" href=${href(['workers', row.worker ?? row.stream])}><bdi>${row.worker ?? '(no name)'}</bdi></a>` },
    { id: 'stream', title: 'Stream', cell: row => html`<span class="mono muted">${row.stream}</span>` },
    { id: 'queues', title: 'Queues', cell: row => (row.queues?.length ? row.queues.slice(0, 4).map((name, at) => html`${at > 0
      && ', '}<a href=${href(['queues', name])}><bdi>${name}</bdi></a>`) : html`<span class="muted">all</span>`) },
    { id: 'in_flight', title: 'In flight', num: true, sort: 'in_flight',
      cell: row => html`<span class="num ${row.in_flight ? '' : 'zero'}">${count(row.in_flight)}</span> <span class="muted num">of ${row.prefetch || '∞'}</span>` },
    { id: 'connected', title: 'Connected', num: true, sort: 'connected_at', cell: row => html`<${Ago} at=${row.connected_at} now=${live.at
      || Date.now()} />` },
    { id: 'remote', title: 'Address', cell: row => html`<span class="mono muted">${row.remote}</span>` },
    { id: 'agent', title: 'Version', hint: 'What the worker says it is, and the format of its stream',
      cell: row => html`<span class="muted"><bdi>${row.agent}</bdi> ${row.format}${row.draining ? ', draining' : ''}</span>` },
  ]
  const rows = data?.workers ?? []
  return html`
    <div class="head"><h1>Workers</h1><p class="muted num">${live.stats?.streams !== undefined
      && `${plural(live.stats.streams, 'stream')}, ${plural(live.stats.in_flight, 'job')} in flight`}</p></div>
    <div class="tools"><label class="search"><${Icon} name="search" />
      <input id="search" type="search" placeholder="Part of a name" aria-label="Search workers" value=${contains}
      onInput=${event => show({ contains: event.target.value })} /></label>
      ${queue && html`<span class="chip"><span>queue <b><bdi>${queue}</bdi></b></span>
        <button type="button" aria-label="Without queue" onClick=${() => show({ queue: '' })}>✕</button></span>`}</div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !rows.length ? (contains || queue || from ? html`<${Empty} title="No worker matches"><p>
      <button type="button" onClick=${() => show({ contains: '', queue: '' })}>Show all workers</button></p><//>`
      : html`<${Empty} title="No worker is connected"><p>This runs the jobs of the queue <code>hello</code> with a command:</p>
        <${Command} text=${`zizq-worker --server ${address} --run 'hello=cat'`} /><p>A URL works as well:</p>
        <${Command} text=${`zizq-worker --server ${address} --http 'hello=http://127.0.0.1:8080/jobs'`} /><//>`)
      : html`<${Table} caption="Workers" columns=${columns} rows=${rows} id=${row => row.stream} order=${order} desc=${order === 'in_flight'}
        onSort=${order => show({ order: order === 'connected_at' ? '' : order })} keys=${[
        { keys: 'R', does: 'drain', run: row => row && drain(row, again) }, { keys: 'D', does: 'disconnect', run: row => row && disconnect(row, again) }]}
        actions=${row => html`<span class="buttons"><button type="button" class="small" onClick=${() => drain(row, again)}>Drain…</button>
          <button type="button" class="small danger" onClick=${() => disconnect(row, again)}>Disconnect…</button></span>`} />`}
    ${(next || from) && html`<div class="more">${from && html`<button type="button" onClick=${() => show({})}>The first</button>`}
      ${next && (order === 'in_flight' ? html`<p class="muted">Only the first ${PAGE} are shown; search for others.</p>`
        : html`<button type="button" onClick=${() => update({ from: next }, { replace: false })}>More</button>`)}</div>`}`
}
