// Dead jobs by what they have in common: most of them died of few things.
import { get } from '../lib/api.js'
import { complain, deleteAll, onChanged, retryAll } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { count, plain, plural } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { href, update } from '../lib/route.js'
import { Ago, Choice, Empty, Failed, Icon, Loading } from '../parts/basics.js'
import { Table } from '../parts/table.js'

const BY = [['error_type', 'Error type'], ['message', 'Message'], ['type', 'Job type'], ['queue', 'Queue']]

const WITH = { error_type: 'with the error', type: 'of the type', queue: 'of the queue' }

/** The filters of a group. Error types and messages are no filters of the API: then the newest job of the group leads on. */
const filters = (by, key, queue) => ({ type: { type: key }, queue: { queue: key } })[by]
  && { status: 'dead', queue, ...{ type: { type: key }, queue: { queue: key } }[by] }

/** One call can name so many ids: its address has at most 64 kB. */
const MAX_IDS = 2_000

/** Errors are no filter of the API, so the jobs of such a group are named. */
async function byError(key, queue, act, says) {
  const ids = []
  try {
    for (let from, more = true; more && ids.length < MAX_IDS;) {
      const { jobs, pages } = await get('jobs', { status: 'dead', queue, order: 'desc', from, limit: 2_000, payload: 'none' })
      ids.push(...jobs.filter(job => (job.last_error?.type ?? null) === key).map(job => job.id))
      from = jobs.at(-1)?.id
      more = Boolean(pages.next)
    }
    act({ status: 'dead', id: ids.slice(0, MAX_IDS).join(',') }, says + (ids.length > MAX_IDS ? ` There are more; this takes the newest ${count(MAX_IDS)}.` : ''))
  } catch (error) { complain(error) }
}

export default function Dead({ route }) {
  useTitle('Dead jobs')
  const by = BY.some(([name]) => name === route.query.get('by')) ? route.query.get('by') : 'error_type'
  const queue = route.query.get('queue') ?? ''
  const live = useLive()
  const { data, error, again } = useData(signal => get('jobs/groups', { by, status: 'dead', queue, newest: 10_000 }, signal), [by, queue], 10_000)
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const total = live.stats?.totals.dead
  const now = live.at || Date.now()
  const columns = [
    { id: 'key', title: BY.find(([name]) => name === by)[1], wide: true,
      cell: ({ key, newest_id: id }) => html`<a class="name" href=${filters(by, key, queue) ? href(['jobs'], filters(by, key, queue)) : href(['jobs', id, 'errors'])}><bdi>${plain(key ?? '(none)')}</bdi></a>` },
    { id: 'count', title: 'Jobs', num: true, cell: group => html`<span class="num">${count(group.count)}</span>` },
    { id: 'share', title: 'Share', num: true,
      cell: group => html`<span class="num muted">${Math.round((group.count / Math.max(1, data.looked_at)) * 100)} %</span>` },
    { id: 'first', title: 'Since', num: true, hint: 'When the first of them failed for the last time', cell: group => html`<${Ago} at=${group.first_error_at} now=${now} />` },
    { id: 'last', title: 'Last', num: true, hint: 'When the last of them failed', cell: group => html`<${Ago} at=${group.last_error_at} now=${now} />` },
    { id: 'sample', title: 'Newest error', cell: group => html`<a href=${href(['jobs', group.newest_id])} class="preview"
      title=${plain(group.sample)}>${plain(group.sample) ?? 'open'}</a>` },
  ]
  const act = (key, act, says) => { const found = filters(by, key, queue); return found ? act(found) : byError(key, queue, act, says) }
  const retry = ({ key }) => act(key, retryAll, `Dead jobs ${WITH[by]} ${key} become ready again.`)
  const remove = ({ key }) => act(key, deleteAll, `Dead jobs ${WITH[by]} ${key} are deleted.`)
  const one = group => html`<span class="buttons"><button type="button" class="small" onClick=${() => retry(group)}>Retry…</button>
    <button type="button" class="small danger" onClick=${() => remove(group)}>Delete…</button></span>`
  const keys = by === 'message' ? [] : [{ keys: 'r', does: 'retry the group', run: group => group && retry(group) },
    { keys: 'D', does: 'delete the group', run: group => group && remove(group) }]
  const all = { status: 'dead', queue }
  return html`
    <div class="head"><h1>Dead jobs</h1><p class="muted num">${total !== undefined && plural(total, 'job')}</p>
      ${data?.looked_at > 0 && html`<div class="buttons"><a class="button" href=${href(['jobs'], all)}>List</a>
        <button type="button" data-needs="operate" onClick=${() => retryAll(all)}>Retry all…</button>
        <button type="button" class="danger" data-needs="operate" onClick=${() => deleteAll(all)}>Delete all…</button></div>`}</div>
    <div class="tools"><${Choice} label="Group by" value=${by} options=${BY} onChange=${value => update({ by: value })} />
      ${queue && html`<span class="chip"><span>queue <b><bdi>${queue}</bdi></b></span>
        <button type="button" aria-label="Without queue" onClick=${() => update({ queue: '' })}>✕</button></span>`}
      ${data && !data.exact && html`<span class="muted num">of the newest ${count(data.looked_at)}</span>`}</div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !data.groups.length ? html`<${Empty} title="No job is dead"><p class="good">
      <${Icon} name="completed" />A job is dead when its last retry has failed, or when its worker says that retries are no use. It is kept for 7 days, unless its <code>retention</code> says otherwise.</p><//>` : html`
    <${Table} caption="Groups of dead jobs" columns=${columns} rows=${data.groups} id=${group => String(group.key)}
      actions=${by === 'message' ? undefined : one} keys=${keys} />
    ${data.other > 0 && html`<p class="muted more num">and ${plural(data.other, 'job')} in smaller groups</p>`}
    ${by === 'message' && html`<p class="muted more">Messages differ in numbers, ids and quotes. Group by error type, job type or queue to retry or delete a group.</p>`}`}`
}
