// Keys without modifiers, where nobody is typing. They can be switched off (WCAG 2.1.4).
import { useEffect, useRef } from './dom.js'
import { settings } from './format.js'

/** @typedef {{keys: string, does: string, run: (event: KeyboardEvent) => any}} Binding what returns false leaves the key to others */

/** The bindings in use, the newest last. @type {{bindings: Binding[]}[]} */
const layers = []
let prefix = ''
let prefixEnds = 0

const typing = target => target.closest?.('input:not([type="checkbox"]), textarea, select, [contenteditable]')

function pressed(event) {
  const palette = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k'
  if (!palette && (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !settings.keys)) return
  if (!palette && (typing(event.target) || document.querySelector('dialog[open]'))) return
  const key = palette ? 'Ctrl+K' : event.key === ' ' ? 'Space' : event.key
  // A button is pressed by these.
  if ((key === 'Enter' || key === 'Space') && event.target.closest?.('a, button, summary')) return
  const now = Date.now()
  const whole = prefix && now < prefixEnds ? `${prefix} ${key}` : key
  prefix = ''
  const all = layers.flatMap(layer => layer.bindings).reverse()
  const bound = name => all.filter(one => one.keys.split('|').includes(name))
  const found = whole !== key && bound(whole).length ? bound(whole) : bound(key)
  if (found.some(one => one.run(event) !== false)) event.preventDefault()
  else if (!found.length && all.some(one => one.keys.startsWith(key + ' '))) [prefix, prefixEnds] = [key, now + 1_500]
}

export const listen = () => document.addEventListener('keydown', pressed)

/** Binds keys while the component is there. @param {Binding[]} bindings */
export function useKeys(bindings) {
  const layer = useRef({ bindings })
  layer.current.bindings = bindings
  useEffect(() => {
    layers.push(layer.current)
    return () => layers.splice(layers.indexOf(layer.current), 1)
  }, [])
}

/** All bindings in use, for the help; tables beside each other have the same. */
export const bindings = () => [...new Map(layers.flatMap(layer => layer.bindings).filter(one => one.does).map(one => [one.keys, one])).values()]
