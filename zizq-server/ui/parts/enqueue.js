// A new job, or another one like an old one. The payload goes as it is written.
import { curl, send } from '../lib/api.js'
import { changed } from '../lib/actions.js'
import { html, useState } from '../lib/dom.js'
import { readDuration } from '../lib/format.js'
import { parse } from '../lib/json.js'
import { href } from '../lib/route.js'
import { Command, Failed, Fold } from './basics.js'
import { Dialog, Field, toast } from './over.js'

/** Members that a copy takes over. */
const KEPT = ['backoff', 'retention', 'timeout_ms', 'batch']

/** @param {{queue?: string, like?: any, payload?: string, close: () => void}} props */
export function Enqueue({ queue = '', like, payload = '{}', close }) {
  const [values, set] = useState({ queue: like?.queue ?? queue.split(',')[0], type: like?.type ?? '', priority: String(like?.priority ?? ''), retry_limit: String(like?.retry_limit ?? ''), delay: '', payload })
  const [error, setError] = useState(/** @type {Error | null} */ (null))
  const [busy, setBusy] = useState(false)
  /** The body, as text: a payload may have numbers that JavaScript cannot hold. */
  const body = () => {
    const delay = values.delay.trim() ? readDuration(values.delay) : undefined
    if (values.delay.trim() && delay === undefined) throw new Error(`Delay: ${values.delay} is not a length of time, such as 10m or 1h30m.`)
    for (const name of ['priority', 'retry_limit']) if (values[name]
      && !/^\d+$/.test(values[name].trim())) throw new Error(`${name}: ${values[name]} is not a whole number.`)
    try { parse(values.payload) } catch (problem) { throw new Error(`Payload: ${problem.message}.`) }
    const number = name => (values[name].trim() ? Number(values[name]) : undefined)
    const kept = Object.fromEntries(KEPT.filter(name => like?.[name] !== undefined).map(name => [name, like[name]]))
    const budgets = like?.budgets?.map(({ key, cost }) => ({ key, cost }))
    const rest = JSON.stringify({ queue: values.queue.trim(), type: values.type.trim(), priority: number('priority'), retry_limit: number('retry_limit'), delay_ms: delay, ...kept, budgets })
    return `${rest.slice(0, -1)},"payload":${values.payload.trim()}}`
  }
  const run = async () => {
    setError(null)
    setBusy(true)
    try {
      const job = await send('POST', 'jobs', {}, body())
      toast({ text: `${job.type} is ${job.status} in ${job.queue}`, link: { href: href(['jobs', job.id]), text: 'Open' } })
      changed()
      close()
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  const input = (name, more = {}) => html`<input name=${name} value=${values[name]} autocomplete="off"
    onInput=${event => set({ ...values, [name]: event.target.value })} ...${more} />`
  let command = ''
  try { command = curl('POST', 'jobs', {}, body()) } catch { /* it is not complete yet */ }
  return html`
    <${Dialog} title=${like ? 'Duplicate the job' : 'Enqueue a job'} wide close=${close} onSubmit=${run}
      footer=${html`<button type="button" onClick=${close}>Cancel</button>
        <button type="submit" class="primary" disabled=${busy}>Enqueue</button>`}>
      <div class="fields"><${Field} label="Queue">${input('queue', { required: true, autofocus: !like })}<//>
        <${Field} label="Type">${input('type', { required: true })}<//></div>
      <${Field} label="Payload" hint="JSON; it is sent as it stands here">
        <textarea name="payload" rows="9" spellcheck=${false}
        onInput=${event => set({ ...values, payload: event.target.value })}>${values.payload}</textarea><//>
      <div class="fields"><${Field} label="Delay" hint="10m, 1h30m; empty: now">${input('delay')}<//>
        <${Field} label="Priority" hint="0 to 65535; lower runs first">${input('priority', { inputmode: 'numeric', placeholder: '32768' })}<//>
        <${Field} label="Retry limit" hint="empty: the server’s">${input('retry_limit', { inputmode: 'numeric' })}<//></div>
      ${error && html`<${Failed} error=${error} />`}
      ${command && html`<${Fold} summary="As a command"><${Command} text=${command} /><//>`}
    <//>`
}
