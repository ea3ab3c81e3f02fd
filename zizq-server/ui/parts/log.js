// What an attempt prints, while it prints it.
import { Refused, events, path, url } from '../lib/api.js'
import { html, useEffect, useMemo, useRef, useState } from '../lib/dom.js'
import { change, count, plural, settings } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { update } from '../lib/route.js'
import { Failed, Icon } from './basics.js'
import { Ansi } from './ansi.js'

/** The most lines in the page; older ones are dropped from it. */
const MAX_LINES = 5_000

/** @typedef {{n: number, stream: string, line: string}} Line */

/** Follows the output; lines that come together are drawn together. */
function useLog(id, attempt) {
  const [state, set] = useState({ lines: /** @type {Line[]} */ ([]), dropped: 0, attempt: 0, status: 'connecting', end: '' })
  const [error, fail] = useState(/** @type {Error | null} */ (null))
  useEffect(() => {
    const abort = new AbortController()
    let [lines, waiting, frame, n, last] = [/** @type {Line[]} */ ([]), /** @type {Line[]} */ ([]), 0, 0, '']
    let changes = {}
    const draw = () => {
      frame = 0
      lines = lines.concat(waiting)
      waiting = []
      const dropped = Math.max(0, lines.length - MAX_LINES)
      if (dropped) lines = lines.slice(dropped)
      const now = changes
      changes = {}
      set(old => ({ ...old, ...now, lines, dropped: old.dropped + dropped }))
    }
    const later = more => { Object.assign(changes, more); frame ||= requestAnimationFrame(draw) }
    const tell = (event, data, at) => {
      if (at) last = at
      if (event === 'hello') later({ attempt: data.attempt, status: 'live' })
      else if (event === 'lagged') { waiting.push({ n: ++n, stream: 'gap', line: `… ${plural(data.missed_bytes, 'byte')} of output were dropped here` }); later({}) } else if (event === 'end') later({ status: 'ended', end: data.status ?? '' })
      else if (event === 'message') { waiting.push({ n: ++n, stream: data.stream, line: data.line }); later({}) }
    }
    const follow = async () => {
      for (let failures = 0; !abort.signal.aborted;) {
        try {
          const more = await events('GET', path('jobs', id, 'log'), { attempt }, undefined, abort.signal, (...event) => { failures = 0; fail(null); tell(...event) }, last ? { 'last-event-id': last } : {})
          if (!more) return later({ status: 'ended' })
          if (changes.status === 'ended') return
        } catch (problem) {
          if (abort.signal.aborted) return
          if (problem instanceof Refused && problem.status === 404) return later({ status: 'none' })
          fail(problem)
          failures += 1
        }
        await new Promise(resolve => setTimeout(resolve, Math.min(10_000, 500 * 2 ** failures)))
      }
    }
    follow()
    return () => { abort.abort(); cancelAnimationFrame(frame) }
  }, [id, attempt])
  return { ...state, error }
}

export function Log({ job, attempt }) {
  const log = useLog(job.id, attempt)
  const [follow, setFollow] = useState(true)
  const [search, setSearch] = useState('')
  const [wrap, setWrap] = useState(settings.wrap)
  const view = useRef(null)
  useEffect(() => { if (follow && view.current) view.current.scrollTop = view.current.scrollHeight }, [log.lines, follow, wrap])
  useKeys([{ keys: 'f', does: 'follow the output', run: () => setFollow(!follow) }, { keys: '/', does: 'search the output',
    run: () => document.getElementById('log-search').focus() }])
  const needle = search.toLowerCase()
  const hits = useMemo(() => (needle ? log.lines.filter(line => line.line.toLowerCase().includes(needle)).length : 0), [needle, log.lines])
  const scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = view.current
    setFollow(scrollHeight - scrollTop - clientHeight < 30)
  }
  const setBoth = on => { setWrap(on); change({ wrap: on }) }
  const attempts = job.attempts + (job.status === 'in_flight' || job.status === 'completed' ? 1 : 0)
  const state = { live: 'live', ended: `the attempt has ended${log.end ? `: ${log.end}` : ''}`, none: 'no output', connecting: 'connecting' }[log.status]
  return html`
    <div class="tools">
      ${attempts > 1 && html`<label class="buttons">Attempt <select value=${attempt || String(log.attempt || '')}
        onChange=${event => update({ attempt: event.target.value })}>${Array.from({ length: Math.min(attempts, 200) }, (_, at) => String(attempts - at)).map(n => html`<option key=${n} value=${n}>${n}</option>`)}</select></label>`}
      <label class="search"><${Icon} name="search" />
        <input id="log-search" type="search" placeholder="Search the output" aria-label="Search the output" value=${search}
        onInput=${event => setSearch(event.target.value)} /></label>
      ${search && html`<span class="muted num" role="status">${plural(hits, 'line')}</span>`}
      <span class="muted num">${state}${log.dropped ? `, the first ${count(log.dropped)} lines are not shown` : ''}</span>
        <span class="grow"></span>
      <label><input type="checkbox" checked=${follow} onChange=${event => setFollow(event.target.checked)} /> Follow</label><label>
        <input type="checkbox" checked=${wrap} onChange=${event => setBoth(event.target.checked)} /> Wrap</label>
      <a class="button" href=${url(path('jobs', job.id, 'log'), { attempt: attempt || log.attempt
        || '' })} download="${job.id}.json">Download</a>
    </div>
    ${log.error && html`<${Failed} error=${log.error} />`}
    <div class="log ${wrap ? 'wrap' : ''}" ref=${view} tabindex="0" role="log" aria-live="off" aria-label="Output"
      onScroll=${scrolled}>${log.lines.map(line => html`<div key=${line.n} class="${line.stream} ${needle
      && line.line.toLowerCase().includes(needle) ? 'hit' : ''}"><${Ansi} text=${line.line} /></div>`)}
      ${!log.lines.length && log.status !== 'connecting'
        && html`<div class="end">${log.status === 'live' ? 'Nothing has been printed yet.' : 'There is no output. Commands that zizq-worker runs are recorded; URLs are not.'}</div>`}
      ${log.status === 'ended' && log.lines.length > 0 && html`<div class="end">— end —</div>`}</div>`
}
