// Recurring jobs: when they run, and whether they did.
import { get, path, request, send } from '../lib/api.js'
import { ask, changed, complain, now as act, onChanged } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { plural } from '../lib/format.js'
import { useLive } from '../lib/live.js'
import { parse, write } from '../lib/json.js'
import { href } from '../lib/route.js'
import { words } from '../lib/cron.js'
import { Ago, Command, Empty, Failed, Icon, Loading, Section, address } from '../parts/basics.js'
import { open, toast } from '../parts/over.js'
import { EntryDialog } from '../parts/cron.js'
import { Table } from '../parts/table.js'

/** How many of the next times of an entry are shown. */
const NEXT = 3

const load = async signal => {
  const { crons } = await get('crons', {}, signal)
  return Promise.all(crons.slice(0, 200).map(name => get(path('crons', name), { next: NEXT }, signal)))
}
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
  const { data, error, again } = useData(load, [], 5_000)
  const live = useLive()
  const now = live.at || Date.now()
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const only = route.path[1]
  const groups = (data ?? []).filter(group => !only || group.name === only)
  const columns = group => [
    { id: 'name', title: 'Entry', wide: true,
      cell: entry => html`<a class="name" href=${href(['crons', group.name])}><bdi>${entry.name}</bdi></a>` },
    { id: 'state', title: 'State', cell: entry => (entry.paused || group.paused ? html`<span class="status paused">
      <${Icon} name="paused" />paused</span>` : entry.next_enqueue_at < now - 60_000 ? html`<span class="status warn">
      <${Icon} name="warning" />overdue</span>` : '') },
    { id: 'expression', title: 'When',
      cell: entry => html`<code>${entry.expression}</code> <span class="muted">${words(entry.expression)} ${entry.timezone ?? group.timezone ?? ''}</span>` },
    { id: 'next', title: 'Next', num: true, cell: entry => html`<${Ago} at=${entry.next_enqueue_at} now=${now} />` },
    { id: 'then', title: 'Then', num: true,
      cell: entry => entry.next?.slice(1).map(at => html`<div class="muted" key=${at}><${Ago} at=${at} now=${now} /></div>`) },
    { id: 'last', title: 'Last', num: true, cell: entry => html`<${Ago} at=${entry.last_enqueue_at} now=${now} none="never" />` },
    { id: 'job', title: 'Job',
      cell: entry => html`<bdi>${entry.job.type}</bdi> <span class="muted">in <a href=${href(['queues', entry.job.queue])}><bdi>${entry.job.queue}</bdi></a></span>` },
  ]
  return html`
    <div class="head"><h1>${only ? html`<bdi>${only}</bdi>` : 'Crons'}</h1>
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
        <${Table} caption="Entries of ${group.name}" columns=${columns(group)} rows=${group.entries} id=${entry => entry.name}
          actions=${entry => html`<span class="buttons"><button type="button" class="small"
            onClick=${() => run(group, entry)}>Run now</button>
            <button type="button" class="small"
              onClick=${() => pause(at(group, entry), entry.name, !entry.paused)}>${entry.paused ? 'Resume' : 'Pause'}</button>
            <button type="button" data-needs="configure" class="small" onClick=${() => edit(group, entry)}>Edit…</button>
            <button type="button" data-needs="configure" class="small danger" onClick=${() => remove(at(group, entry), entry.name, 'entry')}>Delete…</button>
              </span>`} /><//>`)}`
}
