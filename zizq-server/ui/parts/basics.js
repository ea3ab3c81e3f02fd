// The small things that every view is made of.
import { root } from '../lib/api.js'
import { html, useState } from '../lib/dom.js'
import * as format from '../lib/format.js'
import { toast } from './over.js'

const PATHS = {
  scheduled: 'M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11zM8 5v3.2l2.2 1.4',
  ready: 'M3.5 8a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0',
  in_flight: 'M5 3.5v9l7.5-4.5z',
  completed: 'M3 8.5l3.2 3.2L13 4.8',
  dead: 'M4 4l8 8M12 4l-8 8',
  paused: 'M5.5 3.5v9M10.5 3.5v9',
  warning: 'M8 2.2L14.2 13H1.8zM8 6.3v3.2M8 11.3v.2',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9zM10.3 10.3l3.4 3.4',
  copy: 'M5.5 5.5h7v8h-7zM3.5 10.5v-8h7',
  close: 'M4.5 4.5l7 7M11.5 4.5l-7 7',
  up: 'M8 12.5v-9M4.5 7L8 3.5L11.5 7',
  down: 'M8 3.5v9M4.5 9L8 12.5L11.5 9',
  right: 'M6 3.5l4.5 4.5L6 12.5',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  more: 'M4 8h.1M8 8h.1M12 8h.1',
  again: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3',
  plus: 'M8 3.5v9M3.5 8h9',
}

export const Icon = ({ name }) => html`<svg class="icon icon-${name}" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} />
  </svg>`

/** A status is an icon, a word and a colour. */
export const Status = ({ status }) => html`<span class="status ${status}"><${Icon} name=${status} />${format.statusName(status)}</span>`

export const Num = ({ n, zero = true }) => html`<span class=${n ? 'num' : 'num zero'}>${!n && !zero ? '' : format.count(n)}</span>`

/** How long ago, with the time itself on hover. */
export const Ago = ({ at, now, none = '–' }) => {
  if (at === undefined || at === null) return html`<span class="zero">${none}</span>`
  const ms = now - at
  return html`<time class="num" title=${format.time(at, true)} datetime=${new Date(at).toISOString()}>
    ${ms > -1_000 ? format.age(ms) : `in ${format.age(-ms)}`}</time>`
}

export async function copy(text, what = 'Copied') {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // Browsers have no clipboard for pages without TLS.
    const area = Object.assign(document.createElement('textarea'), { value: text, className: 'offscreen' })
    ;(document.querySelector('dialog[open]') ?? document.body).append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
  toast({ text: what })
}

export const Copy = ({ text, label = 'Copy' }) => html`
  <button type="button" class="ghost small" title=${label} aria-label=${label} onClick=${() => copy(text)}><${Icon} name="copy" /></button>`

/** A command to be copied. */
export const Command = ({ text, label }) => html`
  <div class="command"><pre tabindex="0" aria-label=${label ?? 'Command'}>${text}</pre><${Copy} text=${text} label="Copy the command" />
    </div>`

export const Loading = ({ what = 'Loading' }) => html`<p class="loading" role="status">${what}…</p>`

/** Says what the server said. What was there before stays. */
export const Failed = ({ error, again }) => html`
  <div class="notice bad" role="alert"><${Icon} name="warning" /><span>${error.message}</span>
    ${again && html`<button type="button" class="small" onClick=${again}><${Icon} name="again" />Again</button>`}</div>`

/** Nothing is here, and this is how something gets here. */
export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`

/** Writes lines into a file of the reader's. @param {string[]} lines @param {string} name */
export function saveAs(lines, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(new Blob(lines, { type: 'application/x-ndjson' })), download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}

/** How a program reaches this server. */
export const address = root.href.replace(/\/$/, '')

export const Section = ({ title, children, aside, level = 2, id }) => html`
  <section class="section" id=${id}><header class="section-head">${level === 2 ? html`<h2>${title}</h2>`
    : html`<h3>${title}</h3>`}${aside}</header>${children}</section>`

/** A list of names and values. @param {{facts: [string, any][]}} props */
export const Facts = ({ facts }) => html`
  <dl class="facts">${facts.filter(([, value]) => value !== undefined && value !== null && value !== false)
    .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`

/** A bar of how much is where. */
export const Meter = ({ value, label }) => html`
  <span class="meter" role="meter" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(value * 100)} aria-label=${label}>
    <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect width="100" height="6" class="rest" />
      <rect width=${Math.max(0, Math.min(100, value * 100))} height="6" /></svg></span>`

/** One button of several is on. @param {{label: string, value: string, options: [string, string][], onChange: (value: string) => void}} props */
export const Choice = ({ label, value, options, onChange }) => html`
  <div class="choice" role="group" aria-label=${label}>${options.map(([name, text]) => html`
    <button type="button" key=${name} aria-pressed=${name === value} onClick=${() => onChange(name)}>${text}</button>`)}</div>`

/** Something long, folded. */
export function Fold({ summary, children, open = false }) {
  const [isOpen, set] = useState(open)
  return html`<details open=${isOpen} onToggle=${event => set(event.target.open)}>
    <summary>${summary}</summary>${isOpen && children}</details>`
}
