// Tables: sorted by the server, walked by keys, cards where there is no room.
import { html, useOrder, useRef, useState } from '../lib/dom.js'
import { navigate } from '../lib/route.js'
import { useKeys } from '../lib/keys.js'
import { Icon } from './basics.js'
import { isOpen } from './over.js'

/**
 * @typedef {{id: string, title: string, num?: boolean, sort?: string, hint?: string, wide?: boolean, cell: (row: any) => any}} Column
 * @param {{caption: string, columns: Column[], rows: any[], id: (row: any) => string, order?: string, desc?: boolean,
 *   onSort?: (order: string, desc: boolean) => void, selected?: Set<string>, onSelect?: (ids: Set<string>) => void, foot?: any,
 *   rowClass?: (row: any) => string, actions?: (row: any) => any, keys?: import('../lib/keys.js').Binding[]}} props
 */
export function Table(props) {
  const { caption, columns, id, selected, onSelect, foot, rowClass, actions } = props
  const [hovered, setHovered] = useState(false)
  // No row moves away from under a hand.
  const rows = useOrder(props.rows, id, hovered || selected?.size > 0 || isOpen())
  const table = useRef(null)
  const last = useRef(-1)
  const links = () => [...table.current.querySelectorAll('tbody tr')]
  const at = () => links().findIndex(row => row.contains(document.activeElement))
  /** Whether the keys are for another table. */
  const isElsewhere = () => at() < 0 && Boolean(document.activeElement.closest('.table-frame'))
  /** Through all tables of the page. */
  const go = step => {
    const all = [...document.querySelectorAll('.table-frame tbody tr')]
    const from = all.findIndex(row => row.contains(document.activeElement))
    const to = Math.max(0, Math.min(all.length - 1, from < 0 ? (step > 0 ? 0 : all.length - 1) : from + step))
    const row = all[to]
    const target = row?.querySelector('a') ?? row?.querySelector('button, input')
    target?.focus()
    row?.scrollIntoView({ block: 'nearest' })
  }
  const select = (index, range) => {
    if (!onSelect || index < 0 || !rows[index]) return
    const next = new Set(selected)
    const on = !next.has(id(rows[index]))
    const [from, to] = range && last.current >= 0 ? [Math.min(last.current, index), Math.max(last.current, index)] : [index, index]
    for (const row of rows.slice(from, to + 1)) on ? next.add(id(row)) : next.delete(id(row))
    last.current = index
    onSelect(next)
  }
  useKeys([
    { keys: 'j|ArrowDown', does: 'next row', run: () => go(1) },
    { keys: 'k|ArrowUp', does: 'previous row', run: () => go(-1) },
    { keys: 'Enter', does: 'open',
      run: () => { const link = links()[at()]?.querySelector('a'); return link ? navigate(link.pathname + link.search) : false } },
    ...(onSelect ? [
      { keys: 'x', does: 'select the row', run: () => select(at(), false) },
      { keys: 'X', does: 'select all rows up to here', run: () => select(at(), true) },
      { keys: 'Escape', does: '', run: () => onSelect(new Set()) },
    ] : []),
    ...(props.keys ?? []).map(binding => ({ ...binding, run: () => (isElsewhere() ? false : binding.run(rows[at()])) })),
  ])
  const all = rows.length > 0 && rows.every(row => selected?.has(id(row)))
  return html`
    <div class="table-frame" onMouseEnter=${() => setHovered(true)} onMouseLeave=${() => setHovered(false)}>
    <table ref=${table}>
      <caption class="offscreen">${caption}</caption>
      <thead><tr>
        ${onSelect && html`<th class="check" data-needs="operate"><input type="checkbox" aria-label="Select all rows" checked=${all}
          onChange=${() => onSelect(new Set(all ? [] : rows.map(id)))} /></th>`}
        ${columns.map(column => html`<${Head} key=${column.id} column=${column} ...${props} />`)}
        ${actions && html`<th class="actions" data-needs="operate"><span class="offscreen">Actions</span></th>`}
      </tr></thead>
      <tbody>${rows.map((row, index) => html`
        <tr key=${id(row)} class="${selected?.has(id(row)) ? 'selected ' : ''}${rowClass?.(row) ?? ''}">
          ${onSelect && html`<td class="check" data-needs="operate"><input type="checkbox" aria-label="Select ${id(row)}" checked=${selected.has(id(row))}
            onClick=${event => { event.preventDefault(); select(index, event.shiftKey) }} /></td>`}
          ${columns.map(column => html`<td key=${column.id} data-title=${column.title} class="${column.num ? 'n ' : ''}${column.wide ? 'wide ' : ''}c-${column.id}">${column.cell(row)}</td>`)}
          ${actions && html`<td class="actions" data-needs="operate">${actions(row)}</td>`}
        </tr>`)}</tbody>
      ${foot && html`<tfoot><tr>${onSelect && html`<td>
        </td>`}${columns.map(column => html`<td key=${column.id} class="${column.num ? 'n ' : ''}c-${column.id}" data-title=${column.title}>${foot[column.id] ?? ''}</td>`)}${actions && html`<td data-needs="operate"></td>`}</tr></tfoot>`}
    </table></div>`
}

function Head({ column, order, desc, onSort }) {
  const { id, title, num, sort, hint } = column
  const sorted = sort && sort === order
  const direction = sorted ? (desc ? 'descending' : 'ascending') : undefined
  return html`<th scope="col" class="${num ? 'n ' : ''}c-${id}" aria-sort=${direction} title=${hint}>${sort && onSort
    ? html`<button type="button" class="sort" onClick=${() => onSort(sort, sorted ? !desc : sort !== 'name')}>${title}${sorted
      && html`<${Icon} name=${desc ? 'down' : 'up'} />`}</button>`
    : title}</th>`
}
