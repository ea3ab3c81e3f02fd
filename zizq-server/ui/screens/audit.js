// Who did what.
import { get, url } from '../lib/api.js'
import { html, useData, useTitle } from '../lib/dom.js'
import { count, time } from '../lib/format.js'
import { href, update } from '../lib/route.js'
import { Empty, Failed, Icon, Loading } from '../parts/basics.js'
import { Table } from '../parts/table.js'

const who = entry => entry.who?.name ?? entry.who?.id ?? entry.who?.kind ?? '–'
const is = (path, value) => (value === null || value === undefined ? '–' : typeof value === 'string' ? value
  : path.endsWith('_at') ? time(value) : JSON.stringify(value))

/**
 * What has changed about one thing, by members: ["priority", "5 → 1"]. Both sides have the same members.
 * @returns {[string, string][]}
 */
function changes({ before, after, more }) {
  const found = []
  const collect = (path, was, now) => {
    const members = [was, now].find(side => side && typeof side === 'object' && !Array.isArray(side))
    if (members) for (const name in members) collect([...path, name], was?.[name], now?.[name])
    else if ((was ?? now ?? null) !== null) found.push([path.join('.'), `${is(path.at(-1), was)} → ${is(path.at(-1), now)}`])
  }
  if (before || after) collect([], before, after)
  return more ? [...found, ['…', '']] : found
}

const columns = [
  { id: 'at', title: 'Time', cell: entry => html`<span class="num">${time(entry.at)}</span>` },
  { id: 'who', title: 'Who', wide: true, cell: entry => html`<bdi>${who(entry)}</bdi>` },
  { id: 'remote', title: 'From',
    cell: entry => html`<span class="mono muted">${entry.remote}</span> <span class="muted">${entry.via}</span>` },
  { id: 'action', title: 'Action', cell: entry => html`<code>${entry.action}</code>` },
  { id: 'target', title: 'Target', wide: true,
    cell: entry => html`<div><span class="preview" title=${entry.target}>${entry.target}</span>
      ${entry.until && html`<div class="muted">Only jobs enqueued before <code>${entry.until}</code></div>`}
      ${changes(entry).map(([path, change]) => html`<div key=${path}><span class="muted">${path}</span> <bdi>${change}</bdi></div>`)}</div>` },
  { id: 'changed', title: 'Changed', num: true,
    cell: entry => html`<span class="num">${entry.changed === undefined ? '' : count(entry.changed)}</span>` },
  { id: 'status', title: 'Result', num: true, cell: entry => html`<span class=${entry.status >= 400 ? 'bad' : ''}>${entry.status}</span>` },
]

export default function Audit({ route }) {
  useTitle('Audit')
  const from = route.query.get('from') ?? ''
  const { data, error, again } = useData(signal => get('audit', { limit: 100, from }, signal), [from], from ? undefined : 5_000)
  const entries = data?.entries ?? []
  const next = data?.pages?.next && new URLSearchParams(data.pages.next.split('?')[1]).get('from')
  return html`
    <div class="head"><h1>Audit</h1>${data && html`<div class="buttons">
      <a class="button" href=${url('audit', { limit: 2_000 })} download="audit.json">Export</a></div>`}</div>
    ${error && (error.status === 404 ? html`<${Unavailable} what="It keeps no audit." />` : html`<${Failed} error=${error}
      again=${again} />`)}
    ${!data ? !error && html`<${Loading} />` : !entries.length ? html`<${Empty} title="Nobody has changed anything yet">
      <p>Pauses, retries, deletions and all other changes by people appear here, with who made them.</p><//>`
      : html`<${Table} caption="Audit" columns=${columns}
        rows=${entries} id=${entry => entry.id ?? `${entry.at} ${entry.action} ${entry.target}`} />
        <div class="more">${from && html`<button type="button" onClick=${() => update({ from: '' }, {})}>Newest</button>`}${next
          && html`<a class="button" href=${href(['audit'], { from: next })}>Older</a>`}</div>`}`
}

/** @param {{what: string}} props */
export const Unavailable = ({ what }) => html`<div class="notice plain"><${Icon} name="warning" />
  <span>This is not available on this server. ${what}</span></div>`
