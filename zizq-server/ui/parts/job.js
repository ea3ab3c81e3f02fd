// The parts of the view of a job: its life, its errors, its result, and the calls about it.
import { curl, get, path } from '../lib/api.js'
import { html, useData, useState } from '../lib/dom.js'
import { count, duration, shortTime, time } from '../lib/format.js'
import { payloadOf } from '../lib/payload.js'
import { href } from '../lib/route.js'
import { Ago, Choice, Command, Copy, Failed, Fold, Icon, Loading, Section } from './basics.js'
import { Ansi } from './ansi.js'
import { Tree } from './tree.js'

export { Log } from './log.js'

/** The failed attempts, the newest first. */
const loadErrors = job => useData(
  signal => (job.attempts ? get(path('jobs', job.id, 'errors'), { order: 'desc', limit: 100 }, signal) : Promise.resolve({ errors: [], pages: {} })),
  [job.id, job.attempts],
)

/** @typedef {{icon: string, what: any, at?: number, tone?: string}} Step */

/** A step whose icon and colour are those of a status. @returns {Step} */
const step = (status, what, at) => ({ icon: status, tone: status, what, at })

/** @returns {Step} */
const failure = (job, error) => step('dead', html`
  <a href=${href(['jobs', job.id, 'attempts', String(error.attempt)])}>Attempt ${error.attempt}</a>
  ${' '}failed after ${duration(error.failed_at - error.dequeued_at)} <span class="muted">${error.error_type ?? ''}</span>`, error.failed_at)

/** How it is now. @param {number | undefined} before when it was ready, or when the attempt before ended @returns {Step | undefined} */
function present(job, before) {
  const next = job.attempts + 1
  const wait = job.dequeued_at && before !== undefined && job.dequeued_at > before ? `, after ${duration(job.dequeued_at - before)}` : ''
  switch (job.status) {
    case 'in_flight': return step('in_flight', html`Attempt ${next} runs${job.worker ? html` at <bdi>${job.worker}</bdi>` : ''}${wait}`, job.dequeued_at)
    case 'completed': return step('completed', `Attempt ${next} succeeded after ${duration(job.completed_at - job.dequeued_at)}`, job.completed_at)
    case 'dead': return step('dead', 'Dead: it will not be tried again by itself', job.failed_at)
  }
  if (job.attempts) return step(job.status, job.status === 'ready' ? `Ready for attempt ${next}` : `Attempt ${next} follows`, job.ready_at)
}

/** @returns {Step[]} */
function steps(job, errors) {
  const list = []
  let before = job.attempts ? undefined : job.ready_at
  if (!job.attempts) list.push(job.status === 'scheduled' ? step('scheduled', 'Will be ready', job.ready_at) : step('ready', 'Ready', job.ready_at))
  for (const error of errors) {
    if (before !== undefined && error.dequeued_at - before >= 1_000) list.push(step('scheduled', `${duration(error.dequeued_at - before)} pause`))
    list.push(failure(job, error))
    before = error.failed_at
  }
  const now = present(job, before)
  return now ? [...list, now] : list
}

/** So many steps are shown; those in the middle are left out first. */
const STEPS = 9

export function Timeline({ job, now }) {
  const { data, error, again } = loadErrors(job)
  if (error) return html`<${Failed} error=${error} again=${again} />`
  const all = steps(job, [...(data?.errors ?? [])].reverse())
  const more = { icon: 'more', what: html`<a href=${href(['jobs', job.id, 'errors'])}>${count(all.length - STEPS + 1)} more</a>` }
  const shown = all.length > STEPS ? [...all.slice(0, 2), more, ...all.slice(3 - STEPS)] : all
  return html`<ol class="timeline">${shown.map((step, at) => html`<li key=${at}>
    <span class="status ${step.tone ?? ''}"><${Icon} name=${step.icon} /></span><span class="what">${step.what}</span>
    <span class="when num" title=${step.at && time(step.at, true)}>${step.at && html`
      ${shortTime(step.at, now)}, <${Ago} at=${step.at} now=${now} />${step.at <= now && ' ago'}`}</span></li>`)}</ol>`
}

export function Errors({ job, only }) {
  const { data, error, again } = loadErrors(job)
  if (error) return html`<${Failed} error=${error} again=${again} />`
  if (!data) return html`<${Loading} />`
  const shown = data.errors.filter(one => !only || String(one.attempt) === only)
  if (!shown.length) return html`<p class="muted">No attempt has failed.</p>`
  return html`${only && html`<p><a href=${href(['jobs', job.id, 'errors'])}>All attempts</a></p>`}${shown.map((one, at) => html`
    <${Section} key=${one.attempt} level=3 title="Attempt ${one.attempt}${one.error_type ? `: ${one.error_type}` : ''}"
      aside=${html`<span class="muted num">${time(one.failed_at)}, after ${duration(one.failed_at - one.dequeued_at)}${' '}
        <a href=${href(['jobs', job.id, 'log'], { attempt: one.attempt })}>its output</a></span>`}>
      <div class="panel"><p class="mono"><${Ansi} text=${one.message} /></p>${one.backtrace && html`<${Fold} summary="Backtrace" open=${at === 0}>
        <div class="code" tabindex="0" role="region" aria-label="Backtrace"><${Ansi} text=${one.backtrace} /></div><//>`}</div><//>`)}
    ${data.pages.next && html`<p class="muted">Older attempts are in <code>GET /jobs/${job.id}/errors</code>.</p>`}`
}

const loadPayload = job => useData(signal => payloadOf(job.id, signal), [job.id, job.status])

/** JSON as a tree to fold, or as text to read and select. */
function Json({ value, text, what, says }) {
  const [as, setAs] = useState('tree')
  return html`<div class="section-head"><${Choice} label="Show the ${what} as" value=${as} options=${[['tree', 'Tree'], ['text', 'Text']]} onChange=${setAs} />
    <span class="muted">${says}</span><${Copy} text=${text} label="Copy the ${what}" /></div>
    <div class="code" tabindex=${as === 'text' ? 0 : undefined} role=${as === 'text' ? 'region' : undefined} aria-label=${as === 'text' ? what : undefined}>
      ${as === 'tree' ? html`<${Tree} value=${value} />` : text}</div>`
}

export function Payload({ job }) {
  const { data, error, again } = loadPayload(job)
  if (error) return html`<${Failed} error=${error} again=${again} />`
  if (!data) return html`<${Loading} />`
  return html`<${Json} value=${data.value} text=${data.text} what="payload" says="As it was written: no number is rounded." />`
}

export function Result({ job }) {
  const { data, error, again } = loadPayload(job)
  if (error) return html`<${Failed} error=${error} again=${again} />`
  if (!data) return html`<${Loading} />`
  if (data.resultText === undefined) return html`<p class="muted">There is no result. A command sets one
    ${' '}with <code>zizq-worker ctl result '{"…"}'</code>; it is kept as long as the job.</p>`
  return html`<${Json} value=${data.result} text=${data.resultText} what="result" />`
}

export function Curl({ job }) {
  const at = path('jobs', job.id)
  return html`<div class="grid">${[
    ['Show it', curl('GET', at)], ['Its errors', curl('GET', `${at}/errors`)],
      ['Its output, live', curl('GET', `${at}/log`).replace('curl', "curl -N -H 'accept: text/event-stream'")],
      ['Wait for its end', curl('GET', at, { wait_ms: 60_000 })],
    ['Retry', curl('POST', `${at}/retry`, {}, {})], ['Change the priority', curl('PATCH', at, {}, { priority: 100 })],
      ['Stop and mark dead', curl('POST', `${at}/failure`, {}, { message: 'stopped by hand', kill: true })], ['Delete', curl('DELETE', at)],
  ].map(([title, text]) => html`<${Section} key=${title} level=3 title=${title}><${Command} text=${text} label=${title} /><//>`)}</div>`
}
