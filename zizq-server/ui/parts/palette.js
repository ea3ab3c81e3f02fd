// Everything by its name: views, queues, actions, and jobs by their id.
import { get } from '../lib/api.js'
import { html, useEffect, useMemo, useState } from '../lib/dom.js'
import { bindings } from '../lib/keys.js'
import { href, navigate } from '../lib/route.js'
import { pauseQueues } from '../lib/actions.js'
import { MENU } from './frame.js'
import { Dialog } from './over.js'

/** @typedef {{text: string, note: string, run: () => void}} Entry */

export function Palette({ close }) {
  const [text, setText] = useState('')
  const [queues, setQueues] = useState([])
  const [chosen, setChosen] = useState(0)
  const [keys] = useState(() => bindings().filter(one => !/^(g |Ctrl|j|k|x|X|Enter|Backspace|\?)/.test(one.keys)))
  useEffect(() => {
    const abort = new AbortController()
    get('queues', { details: true, contains: text.replace(/^(pause|resume|queue) /, ''), limit: 8 }, abort.signal).then(({ queues }) => setQueues(queues), () => {})
    return () => abort.abort()
  }, [text])
  const entries = useMemo(() => {
    const go = (...to) => () => navigate(href(...to))
    const word = text.trim().toLowerCase()
    const matches = one => one.text.toLowerCase().includes(word)
    const found = /** @type {Entry[]} */ (/^[0-9a-z]{25}$/.test(word) ? [{ text: `Job ${word}`, note: 'open',
      run: go(['jobs', word]) }] : [])
    found.push(...MENU.map(([path, name]) => ({ text: name, note: 'view', run: go(path ? [path] : []) })).filter(matches))
    found.push(...keys.map(({ keys: key, does, run }) => ({ text: does[0].toUpperCase() + does.slice(1), note: key.split('|')[0],
      run: () => run(new KeyboardEvent('keydown')) })).filter(matches))
    for (const row of queues) {
      found.push({ text: row.name, note: 'queue', run: go(['queues', row.name]) })
      if (word) found.push({ text: `${row.paused ? 'Resume' : 'Pause'} ${row.name}`, note: 'action', run: () => pauseQueues([row]) },
        { text: `Jobs of ${row.name}`, note: 'list', run: go(['jobs'], { queue: row.name }) })
    }
    if (word && !/^[0-9a-z]{25}$/.test(word)) found.push({ text: `Jobs of the type ${text.trim()}`, note: 'list',
      run: go(['jobs'], { type: text.trim() }) })
    return found.slice(0, 30)
  }, [text, queues, keys])
  const choose = entry => { if (entry) { close(); setTimeout(entry.run, 0) } }
  const onKeyDown = event => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step || !entries.length) return
    event.preventDefault()
    const next = (chosen + step + entries.length) % entries.length
    setChosen(next)
    document.getElementById(`entry-${next}`)?.scrollIntoView({ block: 'nearest' })
  }
  return html`<${Dialog} title="Find" close=${close} onSubmit=${() => choose(entries[chosen])}>
    <input autofocus role="combobox" aria-label="A view, a queue, an action, or the id of a job" placeholder="A view, a queue, an action, or the id of a job" aria-expanded="true" aria-controls="entries" aria-activedescendant=${entries.length ? `entry-${chosen}` : undefined}
      autocomplete="off" spellcheck=${false} value=${text} onInput=${event => { setText(event.target.value); setChosen(0) }}
        onKeyDown=${onKeyDown} />
    <ul id="entries" role="listbox" aria-label="What was found" class="suggest palette">${entries.map((entry, at) => html`
      <li key=${at} id="entry-${at}" role="option" aria-selected=${at === chosen} onClick=${() => choose(entry)}
        onMouseMove=${() => setChosen(at)}><bdi>${entry.text}</bdi><small>${entry.note}</small></li>`)}</ul><//>`
}
