// The one dialog for all actions: what will happen, to how many, as a command, and how far it is.
import { curl, events, fromOf, may, request, send } from '../lib/api.js'
import { changed } from '../lib/actions.js'
import { html, useEffect, useRef, useState } from '../lib/dom.js'
import { count, plural, readDuration } from '../lib/format.js'
import { parse, write } from '../lib/json.js'
import { href } from '../lib/route.js'
import { Command, Failed, Fold, Status, saveAs } from './basics.js'
import { Dialog, Field, toast } from './over.js'

/** Beyond so many jobs, a destructive action must be confirmed by their number. */
const MANY = 100
/** The largest page of `GET /jobs`. */
const PAGE = 2_000

/** The values of the inputs, as the call wants them. @param {import('../lib/actions.js').Input[]} inputs */
function read(inputs, values) {
  const body = {}
  for (const { name, type, label, value: before, required } of inputs) {
    const text = (values[name] ?? '').trim()
    if (required && !text) throw new Error(`${label} is missing.`)
    if (text === (before ?? '') && !required) continue
    if (type === 'number') {
      if (text && !/^\d+$/.test(text)) throw new Error(`${label}: ${text} is not a whole number.`)
      body[name] = text ? Number(text) : null
    } else if (type === 'json') {
      try { body[name] = text ? JSON.parse(text) : null } catch { throw new Error(`${label} is not JSON.`) }
    } else if (type === 'time') {
      const length = readDuration(text)
      body[name] = !text ? null : length === undefined ? (/^\d+$/.test(text) ? Number(text) : text) : Date.now() + length
    } else body[name] = text
  }
  return body
}

/** @param {{action: import('../lib/actions.js').Action, close: () => void}} props */
export function ActionDialog({ action, close }) {
  const { title, says, verb, danger, method, bulk, keyed, inputs = [] } = action
  const [values, setValues] = useState(Object.fromEntries(inputs.map(input => [input.name, input.value ?? ''])))
  const [dry, setDry] = useState(/** @type {any} */ (null))
  const [progress, setProgress] = useState(/** @type {any} */ (null))
  const [phase, setPhase] = useState(bulk ? 'counting' : 'ready')
  const [error, setError] = useState(/** @type {Error | null} */ (null))
  const [typed, setTyped] = useState('')
  const abort = useRef(new AbortController())

  const query = { ...action.query, until: dry?.until }
  let body = action.body
  let wrong = null
  if (inputs.length) {
    try { body = { ...action.body, ...read(inputs, values) } } catch (problem) { wrong = problem }
  }

  // What is new names itself.
  let path = action.path
  if (keyed) {
    path += encodeURIComponent(body?.[keyed] ?? '')
    body = body && { ...body, [keyed]: undefined }
  }

  const call = (extra, body, tell) => {
    abort.current = new AbortController()
    let end = null
    return events(method, path, { ...query, ...extra }, body, abort.current.signal, (event, data) => {
      if (event === 'progress') tell(data)
      else if (event === 'done') end = data
      else if (event === 'error') throw Object.assign(new Error(data.error), { changed: data.changed })
    }).then(() => end ?? Promise.reject(new Error('The server ended the call; some jobs may have been changed.')))
  }
  const countAll = () => {
    setError(null)
    setPhase('counting')
    // Which jobs match does not depend on what they get.
    call({ dry_run: true }, method === 'PATCH' ? {} : action.body, setProgress).then(data => { setDry(data); setPhase('ready') }, failed)
  }
  const failed = error => {
    if (error.name === 'AbortError') return setPhase('stopped')
    setError(error)
    setPhase('failed')
  }
  useEffect(() => {
    if (bulk) countAll()
    return () => abort.current.abort()
  }, [])

  // What can be undone is one key away; what cannot takes two.
  useEffect(() => {
    if (phase === 'ready' && !danger && !inputs.length) document.querySelector('dialog button[type="submit"]')?.focus()
  }, [phase])

  const run = async () => {
    if (wrong) return setError(wrong)
    setError(null)
    setProgress(null)
    setPhase('running')
    try {
      const answer = bulk ? await call({}, body, setProgress) : await send(method, path, query, body)
      const entry = { href: href(['audit'], { q: query.until ?? `/${path}` }), text: 'Audit' }
      toast({ text: action.done?.(answer?.[bulk ?? 'patched'] ?? 1) ?? 'Done', link: action.link?.(answer) ?? (may('admin') ? entry : undefined),
        undo: action.undo?.(body) })
      changed()
      close()
      // It may open another dialog.
      action.after?.(answer)
    } catch (error) {
      changed()
      failed(error)
    }
  }
  const n = dry ? (dry[bulk] ?? dry.matched) : null
  const must = danger && n > MANY
  const can = ['ready', 'failed'].includes(phase) && !(bulk && !n) && (!must || typed.replace(/\D/g, '') === String(n))
  const command = curl(method, path, query, body)
  return html`
    <${Dialog} title=${title} close=${close} onSubmit=${() => can && run()} footer=${html`
      ${phase === 'running' && bulk ? html`<button type="button" class="danger" onClick=${() => abort.current.abort()}>Stop</button>`
        : html`<button type="button" autofocus=${!inputs.length} onClick=${close}>${phase === 'stopped' ? 'Close' : 'Cancel'}</button>`}
      ${phase !== 'stopped' && html`<button type="submit" class="primary ${danger ? 'danger' : ''}" disabled=${!can}>${verb}${bulk
        && n ? ` ${plural(n, 'job')}` : ''}</button>`}`}>
      <p>${says}</p>
      ${inputs.length > 0 && html`<div class="fields">${inputs.map((input, at) => html`<${Field} key=${input.name} label=${input.label} hint=${input.hint}>
        <input name=${input.name} autofocus=${at === 0} value=${values[input.name]} inputmode=${input.type === 'number' ? 'numeric' : undefined}
          onInput=${event => setValues({ ...values, [input.name]: event.target.value })} /><//>`)}</div>`}
      ${bulk && html`<${Count} phase=${phase} dry=${dry} n=${n} progress=${progress} stop=${() => abort.current.abort()} />`}
      ${error && html`<${Failed} error=${{ message: error.message + before(error.changed) }} again=${bulk && !dry ? countAll : undefined} />`}
      ${dry?.sample?.length > 0 && html`<${Samples} jobs=${dry.sample} n=${n} query=${query} />`}
      ${danger && bulk && n > 1 && html`<${Save} query=${query} n=${dry.matched} />`}
      ${must && html`<${Field} label="These are many. Type ${n} to delete them.">
        <input name="confirm" inputmode="numeric" autocomplete="off" value=${typed} onInput=${event => setTyped(event.target.value)} />
        <//>`}
      <${Fold} summary="As a command"><${Command} text=${command} /><//>
    <//>`
}

const before = changed => (changed ? ` ${plural(changed, 'job was', 'jobs were')} changed before that.` : '')

/** What matches and needs no change, or cannot be changed. */
const others = n => (n === 1 ? ' One other matches and stays as it is.' : n > 1 ? ` ${count(n)} others match and stay as they are.` : '')

function Count({ phase, dry, n, progress, stop }) {
  const looked = progress?.looked_at ? `looked at ${count(progress.looked_at)}` : ''
  if (phase === 'counting') return html`<p role="status">
    <span class="count">${progress?.matched ? `at least ${count(progress.matched)}` : 'Counting…'}</span> <span class="muted num">${looked}</span>${' '}
    <button type="button" class="small" onClick=${stop}>Stop counting</button></p>`
  if (phase === 'running') return html`<p role="status">
    <span class="count">${count(progress?.changed ?? 0)}</span> <span class="muted num">of ${count(n)} done${looked && `, ${looked}`}</span>
    </p>`
  if (phase === 'stopped') return html`<p role="status">
    <span class="count">${count(progress?.changed ?? 0)}</span> <span class="muted">were changed before it was stopped.</span></p>`
  if (!dry) return null
  const says = n ? 'exactly these; what is enqueued from now on is not touched.' : 'match; there is nothing to do.'
  return html`<p role="status"><span class="count">${plural(n, 'job')}</span> <span class="muted">${says}${others(dry.matched - n)}</span></p>`
}

const Samples = ({ jobs, n, query }) => html`<div><h3>${n > jobs.length ? 'Some of them' : 'These'}</h3>
  <ul class="samples">${jobs.map(job => html`<li key=${job.id}>
  <${Status} status=${job.status} /><bdi>${job.type}</bdi><span class="preview">${job.payload_preview}</span></li>`)}</ul>
  ${n > jobs.length && html`<a href=${href(['jobs'], query)} target="_blank" rel="noopener">See all of them</a>`}</div>`

/** Writes the jobs into a file, from which they can be enqueued again. */
function Save({ query, n }) {
  const [saved, setSaved] = useState(/** @type {number | null} */ (null))
  const [error, setError] = useState(null)
  const save = async () => {
    setError(null)
    setSaved(0)
    const parts = []
    try {
      for (let from, more = true, sum = 0; more;) {
        const page = parse(await (await request('GET', 'jobs', { ...query, from, limit: PAGE })).text())
        const jobs = page.get('jobs')
        parts.push(...jobs.map(job => write(job, '') + '\n'))
        setSaved(sum += jobs.length)
        from = fromOf(page.get('pages').get('next'))
        more = Boolean(from)
      }
      saveAs(parts, 'jobs.ndjson')
    } catch (problem) { setError(problem) }
  }
  return html`<p><button type="button" class="small"
    onClick=${save}>Save them as NDJSON first</button> <span class="muted num" role="status">${saved !== null
    && `${count(saved)} of ${count(n)} written`}</span></p>${error && html`<${Failed} error=${error} />`}`
}

