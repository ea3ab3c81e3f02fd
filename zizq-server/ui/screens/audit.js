// Who did what.
import { fromOf, get } from '../lib/api.js'
import { html, useData, useState, useTitle } from '../lib/dom.js'
import { count, plural, time } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { href, navigate, update } from '../lib/route.js'
import { Empty, Failed, Icon, Loading, saveAs } from '../parts/basics.js'
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
      ${entry.error && html`<div class="bad">${entry.error}</div>`}
      ${changes(entry).map(([path, change]) => html`<div key=${path}><span class="muted">${path}</span> <bdi>${change}</bdi></div>`)}</div>` },
  { id: 'changed', title: 'Changed', num: true,
    cell: entry => (entry.changed === undefined ? '' : html`<span class="num">${count(entry.changed)}</span>`) },
  { id: 'status', title: 'Result', num: true, cell: entry => html`<span class=${entry.status >= 400 ? 'bad' : ''}>${entry.status}</span>` },
]

const [PAGE, MOST] = [50, 2_000]

/** Writes all entries that match into a file. @param {{q: string}} props */
function Export({ q }) {
  const [state, set] = useState('')
  const save = async () => {
    const lines = []
    try {
      for (let from = '', more = true; more; more = Boolean(from)) {
        const { entries, pages } = await get('audit', { contains: q, limit: MOST, from })
        lines.push(...entries.map(entry => JSON.stringify(entry) + '\n'))
        set(`${plural(lines.length, 'line')} so far`)
        from = fromOf(pages.next)
      }
      saveAs(lines, 'audit.ndjson')
      set(`${plural(lines.length, 'line')} written`)
    } catch (problem) { set(problem.message) }
  }
  return html`<span class="muted num" role="status">${state}</span>
    <button type="button" onClick=${save} title="${q ? 'All entries that match' : 'All entries'}, as NDJSON">Export</button>`
}

export default function Audit({ route }) {
  useTitle('Audit')
  const [from, q] = [route.query.get('from') ?? '', route.query.get('q') ?? '']
  const { data, error, again } = useData(signal => get('audit', { contains: q, limit: PAGE, from }, signal), [q, from], from ? undefined : 5_000)
  const entries = data?.entries ?? []
  const next = fromOf(data?.pages?.next)
  useKeys([{ keys: '/', does: 'search', run: () => document.getElementById('search').focus() },
    { keys: '[', does: 'newest', run: () => from && update({ from: '' }, {}) },
    { keys: ']', does: 'older', run: () => next && navigate(href(['audit'], { q, from: next })) }])
  return html`
    <div class="head"><h1>Audit</h1>${data && html`<div class="buttons"><${Export} q=${q} /></div>`}</div>
    <div class="tools"><label class="search"><${Icon} name="search" />
      <input id="search" type="search" placeholder="Who, from where, action, target, result" aria-label="Search the audit trail" value=${q}
        onInput=${event => update({ q: event.target.value, from: '' })} /></label>
      ${data?.looked_at !== undefined && html`<span class="muted num" role="status">${plural(entries.length, 'entry', 'entries')} of ${count(data.looked_at)} looked at</span>`}</div>
    ${error && (error.status === 404 ? html`<${Unavailable} what="It keeps no audit." />` : html`<${Failed} error=${error}
      again=${again} />`)}
    ${!data ? !error && html`<${Loading} />` : !entries.length && q ? html`<${Empty} title="No entry matches"><p>Not among the ${from && 'next '}${count(data.looked_at ?? 0)} that were looked at.
      ${next && html` <a href=${href(['audit'], { q, from: next })}>Look at older ones</a>`}${from && html` <a href=${href(['audit'], { q })}>Look at the newest</a>`}</p><//>` : !entries.length ? html`<${Empty} title="Nobody has changed anything yet">
      <p>Pauses, retries, deletions and all other changes by people appear here, with who made them.</p><//>`
      : html`<${Table} caption="Audit" columns=${columns}
        rows=${entries} id=${entry => entry.id ?? `${entry.at} ${entry.action} ${entry.target}`} />
        <div class="more">${from && html`<button type="button" onClick=${() => update({ from: '' }, {})}>Newest</button>`}${next
          && html`<a class="button" href=${href(['audit'], { q, from: next })}>Older</a>`}</div>`}`
}

/** @param {{what: string}} props */
export const Unavailable = ({ what }) => html`<div class="notice plain"><${Icon} name="warning" />
  <span>This is not available on this server. ${what}</span></div>`
