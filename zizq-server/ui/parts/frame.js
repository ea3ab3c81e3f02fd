// What is around every view: the menu, the state of the connection, themes, dialogs and toasts.
import { allowed, changed } from '../lib/actions.js'
import { isLetOut, onUnauthorized } from '../lib/api.js'
import { html, useEffect, useNow, useRef, useState } from '../lib/dom.js'
import { age, change, clock, nextTheme, onChange, settings } from '../lib/format.js'
import { useKeys } from '../lib/keys.js'
import { refresh, toggle, useLive } from '../lib/live.js'
import { href, navigate } from '../lib/route.js'
import { Icon } from './basics.js'
import { Dialogs, openFrom, Toasts } from './over.js'

/** @type {[string, string, string][]} the path, the name, and the key after `g` */
export const MENU = [
  ['', 'Overview', 'o'], ['queues', 'Queues', 'q'], ['jobs', 'Jobs', 'j'], ['dead', 'Dead', 'd'], ['workers', 'Workers', 'w'],
  ['crons', 'Crons', 'c'], ['budgets', 'Budgets', 'b'], ['audit', 'Audit', 'a'], ['server', 'Server', 's'],
]

const numberOf = (path, stats) => ({
  queues: stats?.queues, dead: stats?.totals.dead, workers: stats?.workers, jobs: stats
    && Object.values(stats.totals).reduce((sum, n) => sum + n, 0),
})[path]

function Menu({ route, stats }) {
  const here = route.path[0] ?? ''
  // On narrow screens the menu is one line that scrolls.
  useEffect(() => document.querySelector('nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' }), [here])
  return html`<nav aria-label="Main"><ul>${MENU.map(([path, name]) => {
    const n = numberOf(path, stats)
    return html`<li key=${path} data-needs=${path === 'audit' ? 'admin' : undefined}><a href=${href(path ? [path] : [])} aria-current=${path === here ? 'page' : undefined}>
      <span>${name}</span>${n
        ? html`<span class="badge num ${path === 'dead' ? 'dead' : ''}" aria-hidden="true">${short(n)}</span>` : ''}</a></li>`
  })}</ul></nav>`
}

/** At most four characters: 999, 12k, 3.4M. */
function short(n) {
  if (n < 1_000) return String(n)
  const units = ['', 'k', 'M', 'G']
  let unit = 0
  while (n >= 999.5 && unit < 3) [n, unit] = [n / 1_000, unit + 1]
  return (n < 9.95 ? n.toFixed(1) : Math.round(n)) + units[unit]
}

const STATES = { live: 'Live', stopped: 'Stopped', offline: 'Not connected', connecting: 'Connecting' }

function Pulse({ live }) {
  return html`<button type="button" class="ghost pulse ${live.status}" onClick=${toggle} aria-pressed=${live.status === 'stopped'}
    title="Stop and start the numbers (l)"><span class="dot" aria-hidden="true"></span>
      <span class="pulse-state">${STATES[live.status]}</span>
    ${live.at ? html`<span class="pulse-at num">as of ${clock(live.at)}</span>` : ''}</button>`
}

function Offline({ live }) {
  const now = useNow()
  if (live.status !== 'offline') return null
  return html`<div class="bar bad" role="alert"><${Icon} name="warning" />
    <span>${live.at ? `No connection. What you see is ${age(now - live.at)} old.` : live.error?.message ?? 'No connection.'}</span>
    <button type="button" class="small" onClick=${refresh}><${Icon} name="again" />Again</button></div>`
}

const THEMES = { system: 'System', light: 'Light', dark: 'Dark' }

/** The menu and the clock need no more. */
const TOTALS = {}

export function Frame({ route, children }) {
  const live = useLive(TOTALS)
  const [, redraw] = useState(0)
  useEffect(() => onChange(() => redraw(n => n + 1)), [])
  useEffect(() => {
    const login = async () => {
      if (await isLetOut()) location.reload()
      else if (location.pathname !== href(['login'])) navigate(href(['login'], { next: location.pathname + location.search }))
    }
    onUnauthorized.add(login)
    return () => onUnauthorized.delete(login)
  }, [])
  // What was looked at once may have changed while nobody heard of it.
  const was = useRef(live.status)
  useEffect(() => {
    if (was.current === 'offline' && live.status === 'live') changed()
    was.current = live.status
  }, [live.status])
  const help = () => openFrom(() => import('./help.js'), 'Help')
  const palette = () => openFrom(() => import('./palette.js'), 'Palette')
  useKeys([
    ...MENU.map(([path, name, key]) => ({ keys: `g ${key}`, does: `go to ${name}`, run: () => navigate(href(path ? [path] : [])) })),
    { keys: 'Ctrl+K', does: 'every queue and action by name', run: palette },
    { keys: 'n', does: 'enqueue a job', run: () => allowed('enqueue') && openFrom(() => import('./enqueue.js'), 'Enqueue') },
    { keys: 'l', does: 'stop and start the numbers', run: toggle },
    { keys: 't', does: 'next theme', run: nextTheme },
    { keys: 'Backspace', does: 'up', run: () => navigate(href(route.path.slice(0, -1))) },
    { keys: '?', does: 'this help', run: help },
  ])
  return html`
    <a class="skip" href="#main"
      onClick=${event => { event.preventDefault(); document.getElementById('main').focus() }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${href([])} aria-label="Zizq, overview"><svg viewBox="0 0 32 32" aria-hidden="true">
        <rect width="32" height="32" rx="7" /><path d="M9 9h14v3.2L14.2 20H23v3H9v-3.2L17.8 12H9z" /></svg><span>Zizq</span></a>
      <${Pulse} live=${live} />
      <span class="grow"></span>
      <button type="button" class="ghost find" onClick=${palette}><${Icon} name="search" /><span>Find</span><kbd>Ctrl K</kbd></button>
      <button type="button" class="ghost hide-narrow" title="Times in UTC or by the clock of this machine"
        onClick=${() => change({ utc: !settings.utc })}>${settings.utc ? 'UTC' : 'Local'}</button>
      <button type="button" class="ghost hide-narrow" title="Theme (t)" onClick=${nextTheme}>${THEMES[settings.theme]}</button>
      <button type="button" class="ghost" aria-label="Keys and help" title="Keys and help (?)" onClick=${help}>?</button>
    </header>
    <${Menu} route=${route} stats=${live.stats} />
    <main id="main" tabindex="-1">
      ${live.stats?.draining && html`<div class="bar warn" role="status"><${Icon} name="warning" />
        <span>This server is shutting down; it accepts no new jobs.</span></div>`}
      ${route.path[0] !== 'login' && html`<${Offline} live=${live} />`}
      ${children}
    </main>
    <${Toasts} /><${Dialogs} />`
}

