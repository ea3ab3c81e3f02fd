// What lies over the page: one dialog at a time, and what became of one's own actions, with the way back.
import { html, useEffect, useLayoutEffect, useRef, useState } from '../lib/dom.js'

let showDialog = _ => {}
let current = null

/** Opens a dialog. @param {any} component gets `close` among its props */
export function open(component, props = {}) {
  current = { component, props, key: Math.random() }
  showDialog(current)
}

/** Whether a dialog is open. */
export const isOpen = () => current !== null

export const close = () => { current = null; showDialog(null) }

/** Opens what is in a module that is loaded for it. */
export const openFrom = (load, name, props) => load().then(module => open(module[name], props))

export function Dialogs() {
  const [shown, set] = useState(current)
  useEffect(() => { showDialog = set }, [])
  return shown && html`<${shown.component} key=${shown.key} ...${shown.props} close=${close} />`
}

/** The frame of a dialog. @param {{title: string, wide?: boolean, close: () => void, onSubmit?: () => void, children?: any, footer?: any}} props */
export function Dialog({ title, wide, close, onSubmit, children, footer }) {
  const dialog = useRef(null)
  // Before it is drawn: who is typing already types into it.
  useLayoutEffect(() => {
    const before = document.activeElement
    const mine = dialog.current
    mine.showModal()
    // Nothing behind an open dialog can have the focus.
    return () => { mine.close(); if (before?.isConnected) before.focus() }
  }, [])
  const submit = event => { event.preventDefault(); onSubmit?.() }
  return html`
    <dialog ref=${dialog} class=${wide ? 'wide' : ''} aria-labelledby="dialog-title"
      onCancel=${event => { event.preventDefault(); close() }}
      onMouseDown=${event => event.target === dialog.current && close()}>
      <form onSubmit=${submit} novalidate>
        <header><h2 id="dialog-title">${title}</h2><button type="button" class="ghost" aria-label="Close" onClick=${close}>✕</button>
          </header>
        <div class="dialog-body">${children}</div>
        ${footer && html`<footer>${footer}</footer>`}
      </form>
    </dialog>`
}

/** A labelled field. */
export const Field = ({ label, hint, error, children }) => html`
  <label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}${error
    && html`<small class="bad" role="alert">${error}</small>`}</label>`

/** How long an action can be taken back. */
const UNDO_MS = 5_000
/** @typedef {{id: number, text: string, bad?: boolean, undo?: () => void, link?: {href: string, text: string}}} Toast */

/** @type {Toast[]} */
let toasts = []
let last = 0
let showToasts = _ => {}
const put = next => { toasts = next; showToasts(next) }
const drop = id => put(toasts.filter(one => one.id !== id))

/** @param {Omit<Toast, 'id'>} one @param {number} [ms] */
export function toast(one, ms = one.bad ? 10_000 : 5_000) {
  const id = ++last
  put([...toasts.slice(-3), { ...one, id }])
  setTimeout(drop, ms, id)
  return id
}

/** Actions that wait for the reader to change their mind. @type {Map<number, () => void>} */
const pending = new Map()
addEventListener('pagehide', () => { for (const run of pending.values()) run() })

/**
 * Acts in five seconds, unless it is taken back, or at once when the page goes away.
 * @param {string} text @param {() => Promise<any>} act @param {() => void} [taken] when it is taken back
 */
export function later(text, act, taken) {
  const id = toast({ text, undo: () => { pending.delete(id); clearTimeout(timer); drop(id); taken?.() } }, UNDO_MS)
  const run = () => {
    if (!pending.delete(id)) return
    clearTimeout(timer)
    act().catch(error => { taken?.(); toast({ text: error.message, bad: true }) })
  }
  const timer = setTimeout(run, UNDO_MS)
  pending.set(id, run)
}

export function Toasts() {
  const [list, set] = useState(toasts)
  useEffect(() => { showToasts = set }, [])
  return html`<div class="toasts" role="status" aria-live="polite">${list.map(one => html`
    <div key=${one.id} class=${one.bad ? 'toast bad' : 'toast'}><span>${one.text}</span>
      ${one.link && html`<a href=${one.link.href}>${one.link.text}</a>`}
      ${one.undo && html`<button type="button" onClick=${one.undo}>Undo</button>`}
      <button type="button" class="ghost small" aria-label="Close" onClick=${() => drop(one.id)}>✕</button></div>`)}</div>`
}
