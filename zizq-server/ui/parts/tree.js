// A JSON value that can be folded. Numbers are shown as they were written.
import { html, useState } from '../lib/dom.js'
import { Num } from '../lib/json.js'
import { plural } from '../lib/format.js'

/** So many members are shown at first. */
const MANY = 200
/** Deeper values are folded at first. */
const DEEP = 3

/** @param {{value: any, name?: string, depth?: number}} props */
export function Tree({ value, name, depth = 0 }) {
  const key = name === undefined ? '' : html`<span class="key">${JSON.stringify(name)}: </span>`
  const items = value instanceof Map ? [...value] : Array.isArray(value) ? value.map((item, at) => [at, item]) : null
  if (!items) {
    const kind = value instanceof Num ? 'number' : typeof value === 'string' ? 'string' : 'word'
    return html`<div class="tree leaf">${key}<span class=${kind}>${value instanceof Num ? value.text : JSON.stringify(value)}</span></div>`
  }
  const isMap = value instanceof Map
  if (!items.length) return html`<div class="tree leaf">${key}${isMap ? '{}' : '[]'}</div>`
  return html`<${Branch} head=${html`${key}<span class="muted">${isMap ? `{ ${plural(items.length, 'member')} }` : `[ ${plural(items.length, 'item')} ]`}</span>`} items=${items} isMap=${isMap} depth=${depth} />`
}

function Branch({ head, items, isMap, depth }) {
  const [open, setOpen] = useState(depth < DEEP && items.length <= MANY)
  const [limit, setLimit] = useState(MANY)
  return html`<details class="tree" open=${open}
    onToggle=${event => { if (event.target === event.currentTarget) setOpen(event.currentTarget.open) }}><summary>${head}</summary>
    ${open && html`<ul>${items.slice(0, limit).map(([key, item]) => html`<li key=${key}>
      <${Tree} value=${item} name=${isMap ? key : undefined} depth=${depth + 1} /></li>`)}</ul>
      ${items.length > limit && html`<button type="button" class="small"
        onClick=${() => setLimit(limit * 5)}>Show more of ${items.length}</button>`}`}</details>`
}
