// One worker: its streams, and what it runs.
import { fromOf, get } from '../lib/api.js'
import { killJob, onChanged } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { count, duration, plain, plural } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { href } from '../lib/route.js'
import { Ago, Empty, Failed, Loading, Meter, Section } from '../parts/basics.js'
import { Table } from '../parts/table.js'
import { disconnect, drain } from './workers.js'

const PAGE = 50

/** The streams of a worker, which has this name or is a stream, a page of its jobs, and how many it runs. */
async function load(worker, from, signal) {
  const [{ workers, pages: { next } }, { jobs, pages }, { count }] = await Promise.all([get('workers', { worker, limit: PAGE }, signal),
    get('jobs', { worker, from, limit: PAGE, payload: 'none' }, signal), get('jobs/count', { worker }, signal)])
  return { streams: workers, more: Boolean(next), jobs, next: fromOf(pages.next), running: count }
}

export default function Worker({ route }) {
  const [name, from] = [route.path[1], route.query.get('from') ?? '']
  useTitle(name)
  const { data, error, again } = useData(signal => load(name, from, signal), [name, from], 5_000)
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const live = useLive({ jobs: (data?.jobs ?? []).map(job => job.id) })
  const now = live.at || Date.now()
  const columns = [
    { id: 'type', title: 'Job', wide: true, cell: job => html`<a class="name" href=${href(['jobs', job.id])}><bdi>${job.type}</bdi></a>` },
    { id: 'queue', title: 'Queue', cell: job => html`<a href=${href(['queues', job.queue])}><bdi>${job.queue}</bdi></a>` },
    { id: 'runs', title: 'Runs for', num: true, cell: job => html`<span class="num">${duration(now - job.dequeued_at)}</span>` },
    { id: 'attempts', title: 'Failed', num: true, hint: 'Failed attempts', cell: job => html`<span class="num ${job.attempts ? '' : 'zero'}">${count(job.attempts)}</span>` },
    { id: 'lease', title: 'Lease ends', num: true, cell: job => html`<${Ago} at=${job.lease_expires_at} now=${now} />` },
    { id: 'progress', title: 'Progress', cell: job => html`<span class="buttons">${job.progress !== undefined && html`<${Meter} value=${job.progress} label="Progress" />
      <span class="num">${Math.round(job.progress * 100)} %</span>`}<span class="preview">${plain(job.message)}</span></span>` },
  ]
  const streams = [
    { id: 'stream', title: 'Stream', cell: one => html`<span class="mono">${one.stream}</span>` },
    { id: 'queues', title: 'Queues', wide: true, cell: one => (one.queues?.length ? one.queues.map((queue, at) => html`${at > 0 && ', '}<a
      href=${href(['queues', queue])}><bdi>${queue}</bdi></a>`) : html`<span class="muted">all</span>`) },
    { id: 'in_flight', title: 'In flight', num: true, cell: one => html`<span class="num">${count(one.in_flight)}</span> <span class="muted num">of ${one.prefetch || '∞'}</span>` },
    { id: 'connected', title: 'Connected', num: true, cell: one => html`<${Ago} at=${one.connected_at} now=${now} />` },
    { id: 'agent', title: 'Version', cell: one => html`<span class="muted"><span class="mono">${one.remote}</span> <bdi>${one.agent}</bdi> ${one.format}${one.draining ? ', draining' : ''}</span>` },
  ]
  const jobs = (data?.jobs ?? []).map(job => ({ ...job, ...live.jobs.get(job.id) })).filter(job => live.jobs.get(job.id) !== null && job.status === 'in_flight')
  const running = data?.next || from ? data?.running : jobs.length
  return html`
    <p class="crumb"><a href=${href(['workers'])}>Workers</a></p>
    <div class="head"><h1><bdi>${name}</bdi></h1><p class="muted num">${data && !data.more && `${plural(data.streams.length, 'stream')}, ${plural(running, 'job')} in flight`}</p>
      ${data?.streams.length > 0 && html`<div class="buttons"><button type="button" data-needs="operate" onClick=${() => drain(data.streams[0], again)}>Drain…</button></div>`}</div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !data.streams.length && !jobs.length && !from ? html`<${Empty} title="This worker is not connected">
      <p>It has no stream and no job in flight. <a href=${href(['workers'])}>All workers</a></p><//>` : html`
      <${Section} title="What it runs">${jobs.length ? html`<${Table} caption="Jobs in flight" columns=${columns}
        rows=${jobs.toSorted((a, b) => a.dequeued_at - b.dequeued_at)} id=${job => job.id} keys=${[{ keys: 'K', does: 'stop the job', run: job => job && killJob(job) }]}
        actions=${job => html`<button type="button" class="small danger" onClick=${() => killJob(job)}>Stop…</button>`} />`
        : html`<div class="panel"><p class="muted">Nothing at the moment.</p></div>`}
        ${(data.next || from) && html`<div class="more">${from && html`<a class="button" href=${href(['workers', name])}>The first</a>`}
          ${data.next && html`<a class="button" href=${href(['workers', name], { from: data.next })}>Newer</a>`}</div>`}<//>
      ${data.streams.length > 0 && html`<${Section} title="Streams"><${Table} caption="Streams" columns=${streams} rows=${data.streams} id=${one => one.stream}
        actions=${one => html`<button type="button" class="small danger" onClick=${() => disconnect(one, again)}>Disconnect…</button>`} />
        ${data.more && html`<p class="muted more">Only the first ${PAGE} are shown.</p>`}<//>`}`}`
}
