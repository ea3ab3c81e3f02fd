// Every view is a link: the address says all of what is shown.
import { useEffect, useState } from './dom.js'

/** Where the pages begin, such as `/ui/`. */
const base = new URL('../../../', import.meta.url).pathname

/** @typedef {{path: string[], query: URLSearchParams}} Route */

/** @returns {Route} */
export function current() {
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : ''
  const decoded = segment => { try { return decodeURIComponent(segment) } catch { return segment } }
  return { path: path.split('/').filter(Boolean).map(decoded), query: new URLSearchParams(location.search) }
}

/** The address of a view. @param {string[]} path @param {Record<string, any> | URLSearchParams} [query] */
export function href(path, query) {
  const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query ?? {})
  const params = new URLSearchParams(entries.filter(([, value]) => value !== undefined && value !== null && value !== ''))
  const text = params.toString()
  return base + path.map(encodeURIComponent).join('/') + (text && '?' + text)
}

const moved = new Set()

/** @param {string} address @param {{replace?: boolean}} [options] */
export function navigate(address, options = {}) {
  if (address === location.pathname + location.search) return
  history[options.replace ? 'replaceState' : 'pushState'](null, '', address)
  for (const tell of moved) tell()
  if (!options.replace) scrollTo(0, 0)
}

/** Changes parameters of the present address. */
export function update(changes, options = { replace: true }) {
  const { path, query } = current()
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined || value === null || value === '') query.delete(name)
    else query.set(name, value)
  }
  navigate(href(path, query), options)
}

/** @returns {Route} */
export function useRoute() {
  const [route, set] = useState(current)
  useEffect(() => {
    const tell = () => set(current())
    moved.add(tell)
    addEventListener('popstate', tell)
    return () => { moved.delete(tell); removeEventListener('popstate', tell) }
  }, [])
  return route
}

/** Follows links to other views without loading the page again. */
export function followLinks() {
  document.addEventListener('click', event => {
    const link = event.target.closest?.('a[href]')
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
    if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute('download')) return
    if (link.origin !== location.origin || !link.pathname.startsWith(base) || link.getAttribute('href').startsWith('#')) return
    event.preventDefault()
    navigate(link.pathname + link.search)
  })
}
