// What people do to jobs and queues. Each says what it will do; one dialog shows it, counts, and does it (parts/action.js).
import { get, may, path, send } from './api.js'
import { plural } from './format.js'
import { put } from './live.js'
import { later, openFrom, toast } from '../parts/over.js'

/**
 * @typedef {import('./api.js').Query} Query
 * @typedef {{name: string, label: string, type: 'text' | 'number' | 'time' | 'json', hint?: string, value?: string, required?: boolean}} Input
 * @typedef {{title: string, says: string, verb: string, danger?: boolean, method: string, path: string, query?: Query, body?: any, inputs?: Input[], keyed?: string, needs?: 'operate' | 'configure' | 'admin', link?: (answer: any) => {href: string, text: string}, undo?: (body: any) => (() => void) | undefined,
 *   bulk?: string, after?: (answer: any) => void, done?: (n: number) => string}} Action `bulk` is the member of the answer that counts;
 *   `keyed` is the input that ends the path
 */

/** Says so where keys lead to what is not offered. @param {'enqueue' | 'operate' | 'configure' | 'admin'} verb */
export function allowed(verb) {
  if (!may(verb)) toast({ text: `You may not do this: it takes ${verb}.`, bad: true })
  return may(verb)
}

/** Opens the dialog of an action. @param {Action} action */
export const ask = action => allowed(action.needs ?? 'operate') && openFrom(() => import('../parts/action.js'), 'ActionDialog', { action })

/** Who wants to hear that jobs have changed. @type {Set<() => void>} */
export const onChanged = new Set()
export const changed = () => { for (const tell of onChanged) tell() }

const complain = error => toast({ text: error.message, bad: true })

/** Does it, says what happened, and offers the way back. */
async function now(text, act, inverse) {
  if (!allowed('operate')) return
  try {
    await act()
    toast({ text, undo: inverse && (() => now('Undone', inverse)) })
    changed()
  } catch (error) { complain(error) }
}

const names = queues => (queues.length === 1 ? queues[0].name : plural(queues.length, 'queue'))

/** Pauses or resumes; without `paused`, what the first one is not. */
export function pauseQueues(queues, paused = !queues[0].paused) {
  const set = async paused => put(await Promise.all(queues.map(row => send('POST', path('queues', row.name, paused ? 'pause' : 'resume')))))
  return now(`${paused ? 'Paused' : 'Resumed'} ${names(queues)}`, () => set(paused), () => set(!paused))
}

/** Asks whether all queues are to be paused, or resumed. @param {boolean} paused */
export async function pauseAll(paused) {
  if (!allowed('operate')) return
  try {
    // The numbers of the page are up to a second old.
    const stats = await get('stats')
    const all = plural(paused ? stats.queues - stats.paused : stats.paused, 'queue')
    ask({
      title: `${paused ? 'Pause' : 'Resume'} all queues`, verb: `${paused ? 'Pause' : 'Resume'} ${all}`, method: 'PATCH', path: 'queues', body: { paused },
      says: paused ? 'No queue that has jobs hands out any more. What runs goes on, and jobs can be enqueued. Queues that get their first job later are not paused.'
        : 'All paused queues hand out jobs again, whoever has paused them.',
      done: n => `${plural(n, 'queue')} ${paused ? 'paused' : 'resumed'}`,
    })
  } catch (error) { complain(error) }
}

const filters = queues => ({ queue: queues.map(row => row.name).join(',') })

export function queueAction(what, queues) {
  const where = queues.length === 1 ? `of ${queues[0].name}` : `of ${plural(queues.length, 'queue')}`
  if (what === 'retry') return retryAll({ ...filters(queues), status: 'dead' }, `Dead jobs ${where} become ready again.`)
  if (what === 'purge') return deleteAll({ ...filters(queues), status: 'dead' }, `Dead jobs ${where} are deleted.`)
  if (what === 'move') return moveAll({ ...filters(queues), status: 'ready' }, `Ready jobs ${where} move to another queue.`)
  return prioritiseAll({ ...filters(queues), status: 'ready' }, `Ready jobs ${where} get another priority.`)
}

export const retryAll = (query, says = 'All jobs that match become ready again.') =>
  ask({ title: 'Retry jobs', says, verb: 'Retry', method: 'POST', path: 'jobs/retry', query, body: {}, bulk: 'retried',
    done: n => `${plural(n, 'job')} will run again` })

export const deleteAll = (query, says = 'All jobs that match are deleted, with their errors, results and output.') =>
  ask({ title: 'Delete jobs', says, verb: 'Delete', danger: true, method: 'DELETE', path: 'jobs', query, bulk: 'deleted',
    done: n => `${plural(n, 'job')} deleted` })

/** Gives jobs back what each of them had. Only of jobs that are known there is a way back. @param {any[] | undefined} jobs @param {string} name */
const back = (jobs, name) => jobs && (() => now('Undone', () => Promise.all([...Map.groupBy(jobs, job => job[name])].map(([value, of]) =>
  send('PATCH', 'jobs', { id: of.map(job => job.id).join(',') }, { [name]: value })))))

/** @param {Query} query @param {string} [says] @param {any[]} [jobs] all of them, where they are known */
export const moveAll = (query, says = 'All jobs that match move to another queue; those that have ended stay.', jobs = undefined) =>
  ask({ title: 'Move jobs', says, verb: 'Move', method: 'PATCH', path: 'jobs', query, bulk: 'patched', undo: () => back(jobs, 'queue'),
    done: n => `${plural(n, 'job')} moved`,
    inputs: [{ name: 'queue', label: 'To the queue', type: 'text', required: true }] })

/** @param {Query} query @param {string} [says] @param {any[]} [jobs] all of them, where they are known */
export const prioritiseAll = (query, says = 'All jobs that match get another priority; those that have ended keep theirs.', jobs = undefined) =>
  ask({ title: 'Change the priority', says, verb: 'Change', method: 'PATCH', path: 'jobs', query, bulk: 'patched', undo: () => back(jobs, 'priority'),
    done: n => `${plural(n, 'job')} changed`,
    inputs: [{ name: 'priority', label: 'Priority', type: 'number', required: true,
      hint: '0 to 65535; lower runs first; 32768 is usual' }] })

const short = job => `${job.type} ${job.id.slice(0, 8)}…`

/** @param {any} job @param {boolean} [reset] whether attempts count from zero again */
export const retryJob = (job, reset = false) =>
  now(`${short(job)} is ready again`, () => send('POST', path('jobs', job.id, 'retry'), {}, reset ? { reset_attempts: true } : {}))

/** Jobs that are about to be deleted, so that lists leave them out. @type {Set<string>} */
export const leaving = new Set()

export function deleteJob(job, after) {
  if (!allowed('operate')) return
  leaving.add(job.id)
  changed()
  later(`${short(job)} is deleted`, async () => {
    await send('DELETE', path('jobs', job.id), {}, undefined, { keepalive: true }).finally(() => leaving.delete(job.id))
    changed()
    after?.()
  }, () => { leaving.delete(job.id); changed() })
}

export const killJob = job => ask({
  title: 'Stop and mark dead', danger: true, verb: 'Stop it', method: 'POST', path: path('jobs', job.id, 'failure'),
  says: 'The worker is told to stop, and the job is dead: it will not be tried again unless somebody retries it.',
  inputs: [{ name: 'message', label: 'Reason', type: 'text', value: 'stopped by hand', required: true }], body: { kill: true },
  done: () => `${short(job)} is dead`,
})

/** What the job had before. A ready one is made ready again, and not at its old time, which is over. */
const inverse = (job, body) => Object.fromEntries(Object.keys(body).map(name =>
  [name, name === 'ready_at' && job.status !== 'scheduled' ? null : job[name] ?? null]))

export const editJob = job => ask({
  title: 'Edit the job', verb: 'Save', method: 'PATCH', path: path('jobs', job.id), says: 'Only what you change is sent.',
  done: () => `${short(job)} changed`, undo: body => () => now('Undone', () => send('PATCH', path('jobs', job.id), {}, inverse(job, body))),
  inputs: [
    { name: 'queue', label: 'Queue', type: 'text', value: job.queue },
    { name: 'priority', label: 'Priority', type: 'number', value: String(job.priority), hint: '0 to 65535; lower runs first' },
    { name: 'ready_at', label: 'Ready at', type: 'time', value: '',
      hint: 'A time such as 2026-12-31T23:59:59Z, or a length from now such as 10m' },
    { name: 'retry_limit', label: 'Retry limit', type: 'number', value: String(job.retry_limit ?? ''),
      hint: 'Retries after the first attempt' },
    { name: 'backoff', label: 'Backoff', type: 'json', value: job.backoff ? JSON.stringify(job.backoff) : '',
      hint: '{"base_ms": …, "exponent": …, "jitter_ms": …}' },
  ],
})

/** Another job like this one, whose payload can be changed before. @param {any} job @param {string} payload the JSON as it is */
export const duplicate = (job, payload) => openFrom(() => import('../parts/enqueue.js'), 'Enqueue', { like: job, payload })

export { complain, now }
