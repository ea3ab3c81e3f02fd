// Limits that jobs share: so many at a time, or so many in a while.
import { get, metrics, path, seesAll } from '../lib/api.js'
import { ask, onChanged } from '../lib/actions.js'
import { html, useData, useEffect, useTitle } from '../lib/dom.js'
import { count, duration, plural } from '../lib/format.js'
import { href } from '../lib/route.js'
import { Command, Empty, Failed, Icon, Loading, address } from '../parts/basics.js'
import { Table } from '../parts/table.js'

const STRATEGY = '{"type":"while_in_flight"}'
const hint = '{"type":"while_in_flight"}: so many at a time. {"type":"time_based","duration_ms":1000}: so many in a while'
const inputs = budget => [
  ...(budget ? [] : [{ name: 'key', label: 'Key', type: /** @type {const} */ ('text'), required: true }]),
  { name: 'allocation', label: 'Allocation', type: /** @type {const} */ ('number'), value: String(budget?.allocation ?? ''), required: true,
    hint: 'tokens' },
  { name: 'strategy', label: 'Strategy', type: /** @type {const} */ ('json'),
    value: JSON.stringify(budget?.strategy) ?? STRATEGY, required: true, hint },
]
const edit = budget => ask({ needs: 'configure', title: 'Edit the budget', says: `${budget.key}: the change counts at once, also for jobs that wait.`,
  verb: 'Save', method: 'PATCH', path: path('budgets', budget.key), inputs: inputs(budget), done: () => `${budget.key} is saved` })
const remove = budget => ask({ needs: 'configure', title: 'Delete the budget',
  says: `${budget.key} is deleted, if no unfinished job and no cron entry draws on it.`, verb: 'Delete', danger: true, method: 'DELETE',
  path: path('budgets', budget.key), done: () => `${budget.key} is deleted` })
const add = () => ask({ needs: 'configure', title: 'Add a budget', says: 'A job that names it is delivered only when there are tokens for it.', verb: 'Add',
  method: 'POST', path: 'budgets/', keyed: 'key', inputs: inputs(), done: () => 'The budget is there' })

export const policy = ({ type, duration_ms: ms, burst }) => (type === 'time_based' ? `in ${duration(ms)}${burst ? `, ${count(burst)} at once` : ''}` : 'at a time')

const LEVELS = { available: 'zizq_budget_available', parked: 'zizq_budget_parked_jobs' }

/** All budgets, each with its tokens that are left and the jobs that wait for some. No job is counted for it. */
export async function budgets(signal) {
  if (!await seesAll()) throw new Error('Budgets are about all queues, and you see some of them.')
  const [all, samples] = await Promise.all([get('budgets', { limit: 200 }, signal), metrics(Object.values(LEVELS), signal)])
  const level = (key, name) => samples.find(one => one.name === name && one.labels.budget === key)?.value
  return all.budgets.map(budget => ({ ...budget, available: level(budget.key, LEVELS.available), parked: level(budget.key, LEVELS.parked) }))
}

const drawn = (budget, n, status) => html`<a class="num ${n ? '' : 'zero'}" href=${href(['jobs'], { 'budgets.key': budget.key, status })}>${count(n)}</a>`

export default function Budgets({ route }) {
  useTitle('Budgets')
  const only = route.path[1]
  const { data, error, again } = useData(budgets, [], 5_000)
  useEffect(() => { onChanged.add(again); return () => onChanged.delete(again) }, [])
  const rows = (data ?? []).filter(budget => !only || budget.key === only)
  const columns = [
    { id: 'key', title: 'Budget', wide: true,
      cell: budget => html`<a class="name" href=${href(['jobs'], { 'budgets.key': budget.key })}><bdi>${budget.key}</bdi></a>` },
    { id: 'allocation', title: 'Tokens', num: true, cell: budget => html`<span class="num">${count(budget.allocation)}</span>` },
    { id: 'strategy', title: 'Strategy', cell: budget => policy(budget.strategy) },
    { id: 'available', title: 'Left', num: true, hint: 'Tokens that are left; leads to the jobs in flight', cell: budget => drawn(budget, budget.available, 'in_flight') },
    { id: 'parked', title: 'Waiting', num: true, hint: 'Unfinished jobs that draw on it and are not in flight', cell: budget => drawn(budget, budget.parked, 'ready,scheduled') },
  ]
  return html`
    <div class="head"><h1>Budgets</h1><p class="muted num">${data && plural(rows.length, 'budget')}</p><div class="buttons">
      <button type="button" data-needs="configure" onClick=${add}><${Icon} name="plus" />Add</button></div></div>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !rows.length ? html`<${Empty} title="There are no budgets">
      <p>A budget limits how many jobs run at a time, or in a while, whatever their queues. This makes one, for 20 jobs a second:</p>
      <${Command} text=${`curl -X PUT --json '{"allocation":20,"strategy":{"type":"time_based","duration_ms":1000}}' ${address}/budgets/smtp`} /><p>Jobs draw on it with <code>${'"budgets":[{"key":"smtp"}]'}</code>.</p><//>`
      : html`<${Table} caption="Budgets" columns=${columns} rows=${rows} id=${budget => budget.key}
        keys=${[{ keys: 'e', does: 'edit', run: budget => budget && edit(budget) }, { keys: 'D', does: 'delete', run: budget => budget && remove(budget) }]}
        actions=${budget => html`<span class="buttons"><button type="button" class="small" data-needs="configure" onClick=${() => edit(budget)}>Edit…</button>
        <button type="button" class="small danger" data-needs="configure" onClick=${() => remove(budget)}>Delete…</button></span>`} />`}`
}
