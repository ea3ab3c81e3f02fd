// Recurring jobs: when they run, and whether they did.
import { get, metrics, path, request, send } from '../lib/api.js'
import { allowed, ask, changed, complain, now as act, onChanged } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { count, plural } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { parse, write } from '../lib/json.js'
import { href } from '../lib/route.js'
import { words } from '../lib/cron.js'
import { Ago, Command, Empty, Failed, Icon, Loading, Section, address } from '../parts/basics.js'
import { open, toast } from '../parts/over.js'
import { EntryDialog } from '../parts/cron.js'
import { Table } from '../parts/table.js'

/** How many of the next times of an entry are shown; of one that is alone, the more. */
const [NEXT, ALL] = [3, 10]

const load = async (only, next, signal) => {
  const names = only ? [only] : (await get('crons', {}, signal)).crons
  return Promise.all(names.slice(0, 200).map(name => get(path('crons', name), { next }, signal)))
}
const MISSED = 'zizq_cron_missed_total'
/** How often the time of an entry went by, by group and entry. */
const loadMissed = async signal => new Map((await metrics([MISSED], signal)).map(({ labels, value }) => [`${labels.group}/${labels.entry}`, value]))
const at = (group, entry) => path('crons', group.name, 'entries', entry.name)

async function run(group, entry) {
  try {
    const job = await send('POST', `${at(group, entry)}/run`)
    toast({ text: `${job.type} is ${job.status} in ${job.queue}`, link: { href: href(['jobs', job.id]), text: 'Open' } })
    changed()
  } catch (error) { complain(error) }
}

async function edit(group, entry) {
  try {
    const whole = parse(await (await request('GET', at(group, entry))).text())
    open(EntryDialog, { group: group.name, entry, job: write(whole.get('job')) })
  } catch (error) { complain(error) }
}

const pause = (where, name, paused) => act(`${paused ? 'Paused' : 'Resumed'} ${name}`, () => send('PATCH', where, {}, { paused }), () => send('PATCH', where, {}, { paused: !paused }))
const remove = (where, name, what) => ask({ title: `Delete the ${what}`, needs: 'configure', says: `${name} is deleted. Jobs that it has enqueued stay.`,
  verb: 'Delete', danger: true, method: 'DELETE', path: where, done: () => `${name} is deleted` })

export default function Crons({ route }) {
  useTitle('Crons')
  const [, only, single] = route.path
  const { data, error, again } = useData(signal => load(only, single ? ALL : NEXT, signal), [only, single], 5_000)
  const missed = useData(loadMissed, [], 30_000).data
  const live = useLive()
  const now = live.at || Date.now()
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const groups = (data ?? []).map(group => ({ ...group, entries: group.entries.filter(entry => !single || entry.name === single) }))
  const columns = group => [
    { id: 'name', title: 'Entry', wide: true,
      cell: entry => html`<a class="name" href=${href(['crons', group.name, entry.name])}><bdi>${entry.name}</bdi></a>` },
    { id: 'state', title: 'State', cell: entry => (entry.paused || group.paused ? html`<span class="status paused">
      <${Icon} name="paused" />paused</span>` : entry.next_enqueue_at < now - 60_000 ? html`<span class="status warn">
      <${Icon} name="warning" />overdue</span>` : '') },
    { id: 'expression', title: 'When',
      cell: entry => html`<code>${entry.expression}</code> <span class="muted">${words(entry.expression)} ${entry.timezone ?? group.timezone ?? ''}</span>` },
    { id: 'next', title: 'Next', num: true, cell: entry => html`<${Ago} at=${entry.next_enqueue_at} now=${now} />` },
    { id: 'then', title: 'Then', num: true,
      cell: entry => entry.next?.slice(1).map(at => html`<div class="muted" key=${at}><${Ago} at=${at} now=${now} /></div>`) },
    { id: 'last', title: 'Last', num: true, cell: entry => html`<${Ago} at=${entry.last_enqueue_at} now=${now} none="never" />` },
    { id: 'missed', title: 'Missed', num: true, hint: 'Times that went by without a job since the server started',
      cell: entry => { const n = missed?.get(`${group.name}/${entry.name}`) ?? 0; return html`<span class=${n ? 'num warn-text' : 'num zero'}>${count(n)}</span>` } },
    { id: 'job', title: 'Job',
      cell: entry => html`<bdi>${entry.job.type}</bdi> <span class="muted">in <a href=${href(['queues', entry.job.queue])}><bdi>${entry.job.queue}</bdi></a></span>` },
  ]
  const keys = group => [
    { keys: 'r', does: 'run now', run: entry => entry && allowed('operate') && run(group, entry) },
    { keys: 'p', does: 'pause or resume', run: entry => entry && pause(at(group, entry), entry.name, !entry.paused) },
    { keys: 'e', does: 'edit', run: entry => entry && allowed('configure') && edit(group, entry) },
    { keys: 'D', does: 'delete', run: entry => entry && remove(at(group, entry), entry.name, 'entry') },
  ]
  return html`
    ${single && html`<p class="crumb"><a href=${href(['crons'])}>Crons</a> / <a href=${href(['crons', only])}><bdi>${only}</bdi></a></p>`}
    <div class="head"><h1>${only ? html`<bdi>${single ?? only}</bdi>` : 'Crons'}</h1>
      <p class="muted num">${data && plural(groups.reduce((sum, group) => sum + group.entries.length, 0), 'entry', 'entries')}</p>
      <div class="buttons">${only && html`<a class="button" href=${href(['crons'])}>All groups</a>`}<button type="button" data-needs="configure"
        onClick=${() => open(EntryDialog, { group: only })}><${Icon} name="plus" />Add</button></div></div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !groups.length ? html`<${Empty} title="There are no recurring jobs">
      <p>This makes one, which runs at half past two on weekdays:</p>
      <${Command} text=${`curl -X PUT --json '{"timezone":"Europe/Berlin","entries":[{"name":"report","expression":"30 2 * * MON-FRI","job":{"queue":"reports","type":"nightly","payload":{}}}]}' ${address}/crons/nightly`} /><//>`
      : groups.map(group => html`<${Section} key=${group.name} title=${html`<bdi>${group.name}</bdi>`} aside=${html`<span class="buttons">
        <span class="muted">${group.timezone}</span>
        <button type="button" class="small" data-needs="operate"
          onClick=${() => pause(path('crons', group.name), group.name, !group.paused)}>${group.paused ? 'Resume' : 'Pause'} the group</button>
        <button type="button" data-needs="configure" class="small" onClick=${() => open(EntryDialog, { group: group.name })}>Add</button>
        <button type="button" data-needs="configure" class="small danger" onClick=${() => remove(path('crons', group.name), group.name, 'group')}>Delete…</button>
          </span>`}>
        <${Table} caption="Entries of ${group.name}" columns=${columns(group)} rows=${group.entries} id=${entry => entry.name} keys=${keys(group)}
          actions=${entry => html`<span class="buttons"><button type="button" class="small"
            onClick=${() => run(group, entry)}>Run now</button>
            <button type="button" class="small"
              onClick=${() => pause(at(group, entry), entry.name, !entry.paused)}>${entry.paused ? 'Resume' : 'Pause'}</button>
            <button type="button" data-needs="configure" class="small" onClick=${() => edit(group, entry)}>Edit…</button>
            <button type="button" data-needs="configure" class="small danger" onClick=${() => remove(at(group, entry), entry.name, 'entry')}>Delete…</button>
              </span>`} /><//>`)}`
}
