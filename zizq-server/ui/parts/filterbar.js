// One box for all filters. Names complete themselves; what was understood is shown below, as chips.
import { get } from '../lib/api.js'
import { html, useEffect, useRef, useState } from '../lib/dom.js'
import { STATUSES } from '../lib/format.js'
import { FILTERS, KEYS, parse, write } from '../lib/filter.js'
import { href, navigate } from '../lib/route.js'
import { Icon } from './basics.js'

/** @typedef {Record<string, string>} Params */

/** What could stand where the cursor is. @returns {Promise<{text: string, note?: string}[]>} */
async function suggestions(word, signal) {
  const [, key, value] = word.match(/^([a-z_]+):(.*)$/s) ?? []
  if (!key) return /^[a-z_]*$/.test(word) ? Object.entries(KEYS).filter(([name]) => name.startsWith(word)).map(([name, note]) => ({ text: `${name}:`, note })) : []
  const before = value.slice(0, value.lastIndexOf(',') + 1)
  const start = value.slice(before.length)
  const of = names => names.filter(name => name !== start).map(name => ({ text: `${key}:${before}${/\s/.test(name) ? JSON.stringify(name) : name}` }))
  if (key === 'status') return of(STATUSES.filter(status => status.startsWith(start)))
  if (key === 'queue') return of((await get('queues', { contains: start, limit: 8 }, signal)).queues)
  if (key === 'budget') return of((await get('budgets', { limit: 50 }, signal)).budgets.map(one => one.key).filter(name => name.includes(start)).slice(0, 8))
  return []
}

/** @param {{params: Params, onChange: (params: Params) => void}} props */
export function FilterBar({ params, onChange }) {
  const text = write(params)
  const [value, setValue] = useState(text)
  const [list, setList] = useState([])
  const [chosen, setChosen] = useState(-1)
  const [problem, setProblem] = useState('')
  const input = useRef(null)
  const asked = useRef(new AbortController())
  useEffect(() => { setValue(text); setList([]); setProblem('') }, [text])

  const word = () => {
    const end = input.current.selectionStart
    const start = Math.max(value.lastIndexOf(' ', end - 1) + 1, 0)
    return { start, end, text: input.current.value.slice(start, end) }
  }
  const look = async () => {
    asked.current.abort()
    asked.current = new AbortController()
    const { signal } = asked.current
    const found = await suggestions(word().text, signal).catch(() => [])
    if (signal.aborted || document.activeElement !== input.current) return
    setList(found)
    setChosen(-1)
  }
  const choose = ({ text }) => {
    const { start, end } = word()
    const space = text.endsWith(':') ? '' : ' '
    const next = value.slice(0, start) + text + space + value.slice(end).trimStart()
    setValue(next)
    setList([])
    input.current.focus()
    requestAnimationFrame(() => {
      input.current?.setSelectionRange(start + text.length + space.length, start + text.length + space.length)
      if (!space) look()
    })
  }
  const apply = () => {
    const read = parse(value)
    if (read.problem) return setProblem(read.problem)
    setProblem('')
    setList([])
    if (read.job) return navigate(href(['jobs', read.job]))
    onChange(read.params)
  }
  const onKeyDown = event => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step && list.length) {
      event.preventDefault()
      setChosen((chosen + step + list.length + (chosen < 0 && step < 0 ? 1 : 0)) % list.length)
    } else if (event.key === 'Enter' || (event.key === 'Tab' && chosen >= 0)) {
      event.preventDefault()
      chosen >= 0 && list[chosen] ? choose(list[chosen]) : apply()
    } else if (event.key === 'Escape') {
      event.stopPropagation()
      list.length ? setList([]) : input.current.blur()
    }
  }
  const without = name => { const rest = { ...params }; delete rest[name]; onChange(rest) }
  const chips = FILTERS.filter(name => params[name])
  return html`
    <div class="filterbar">
      <${Icon} name="search" />
      <input ref=${input} id="search" role="combobox" aria-label="Filter jobs" aria-expanded=${list.length > 0} aria-controls="suggestions" aria-autocomplete="list"
        aria-activedescendant=${chosen >= 0 ? `suggestion-${chosen}` : undefined} autocomplete="off" spellcheck=${false}
        placeholder=${'status:dead queue:mails age:>1h .user_id == 42'} value=${value} onKeyDown=${onKeyDown} onFocus=${look}
        onInput=${event => { setValue(event.target.value); setProblem(''); look() }}
          onBlur=${() => { asked.current.abort(); setTimeout(setList, 150, []) }} />
      <ul id="suggestions" role="listbox" aria-label="Suggestions" class="suggest" hidden=${!list.length}>${list.map((one, at) => html`
        <li key=${one.text} id="suggestion-${at}" role="option" aria-selected=${at === chosen}
          onMouseDown=${event => { event.preventDefault(); choose(one) }}>${one.text}<small>${one.note}</small></li>`)}</ul>
    </div>
    ${problem && html`<p class="bad" role="alert">${problem}</p>`}
    ${chips.length > 0 && html`<div class="chips">${chips.map(name => html`<span key=${name} class="chip">
      <span>${name === 'filter' ? html`jq <code>${params[name]}</code>` : html`${name} <b><bdi>${params[name]}</bdi></b>`}</span>
      <button type="button" aria-label="Without ${name}" onClick=${() => without(name)}>✕</button></span>`)}</div>`}`
}
