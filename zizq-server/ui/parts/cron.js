// A cron entry: new, or changed.
import { curl, path, send } from '../lib/api.js'
import { changed } from '../lib/actions.js'
import { words } from '../lib/cron.js'
import { html, useState } from '../lib/dom.js'
import { parse } from '../lib/json.js'
import { Command, Failed, Fold } from './basics.js'
import { Dialog, Field, toast } from './over.js'

/** @param {{group?: string, entry?: any, job?: string, close: () => void}} props `job` is the JSON of its job as it is */
export function EntryDialog({ group, entry, job, close }) {
  const [values, set] = useState({
    group: group ?? '', name: entry?.name ?? '', expression: entry?.expression ?? '', timezone: entry?.timezone ?? '',
    job: job ?? '{\n  "queue": "",\n  "type": "",\n  "payload": {}\n}',
  })
  const [error, setError] = useState(/** @type {Error | null} */ (null))
  const input = (name, more = {}) => html`<input name=${name} value=${values[name]} autocomplete="off"
    onInput=${event => set({ ...values, [name]: event.target.value })} ...${more} />`
  const call = () => {
    try { parse(values.job) } catch (problem) { throw new Error(`Job: ${problem.message}.`) }
    if (!values.group.trim() || !values.name.trim()) throw new Error('Group and name are missing.')
    const [name, expression, timezone] = ['name', 'expression', 'timezone'].map(part => values[part].trim())
    // As text: a payload may have numbers that JavaScript cannot hold.
    const rest = JSON.stringify({ name, expression, timezone: timezone || undefined, paused: entry?.paused || undefined })
    const body = `${rest.slice(0, -1)},"job":${values.job.trim()}}`
    return { at: path('crons', values.group.trim(), 'entries', values.name.trim()), group: path('crons', values.group.trim()), body }
  }
  const run = async () => {
    setError(null)
    try {
      const { at, group: parent, body } = call()
      try {
        await send('PUT', at, {}, body)
      } catch (problem) {
        // The first entry brings its group along.
        if (problem.status !== 404) throw problem
        await send('PUT', parent, {}, `{"entries":[${body}]}`)
      }
      toast({ text: `${values.name.trim()} is saved` })
      changed()
      close()
    } catch (problem) { setError(problem) }
  }
  let command = ''
  try { const { at, body } = call(); command = curl('PUT', at, {}, body) } catch { /* it is not complete yet */ }
  return html`
    <${Dialog} title=${entry ? 'Edit the entry' : 'Add a recurring job'} wide close=${close} onSubmit=${run}
      footer=${html`<button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Save</button>`}>
      <div class="fields"><${Field} label="Group">${input('group', { disabled: Boolean(entry), autofocus: !group })}<//>
        <${Field} label="Name">${input('name', { disabled: Boolean(entry), autofocus: Boolean(group) && !entry })}<//></div>
      <div class="fields"><${Field} label="Expression" hint=${words(values.expression)
        || 'minute hour day month weekday, such as 30 2 * * MON-FRI'}>${input('expression', { autofocus: Boolean(entry) })}<//>
        <${Field} label="Time zone" hint="such as Europe/Berlin; empty: that of the group, else the server’s">${input('timezone')}<//></div>
      <${Field} label="Job" hint="as in POST /jobs"><textarea name="job" rows="8" spellcheck=${false}
        onInput=${event => set({ ...values, job: event.target.value })}>${values.job}</textarea><//>
      ${error && html`<${Failed} error=${error} />`}
      ${command && html`<${Fold} summary="As a command"><${Command} text=${command} /><//>`}
    <//>`
}
