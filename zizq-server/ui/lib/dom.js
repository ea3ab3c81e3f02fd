// What we use of Preact, and hooks of our own. Text becomes text nodes; nothing here writes HTML.
import { useEffect, useRef, useState } from '../vendor/htm-preact-3.1.1.js'

/** Whether numbers stand still, as the reader wishes: then nothing is asked for again by itself. */
export const still = { on: false }

export {
  html, render, useState, useEffect, useLayoutEffect, useRef, useMemo, useErrorBoundary,
} from '../vendor/htm-preact-3.1.1.js'

/**
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load @param {any[]} inputs it loads again when these change
 * @param {number} [every] and so often, in ms, while the page can be seen
 * @returns {{data: T | undefined, error: Error | null, loading: boolean, again: () => void}}
 */
export function useData(load, inputs, every) {
  const [state, set] = useState({ data: undefined, error: null, loading: true, key: '' })
  const [turn, setTurn] = useState(0)
  const newest = useRef(load)
  newest.current = load
  const key = JSON.stringify(inputs)
  useEffect(() => {
    const abort = new AbortController()
    let timer = 0
    set(old => ({ ...old, loading: true, data: old.key === key ? old.data : undefined, error: old.key === key ? old.error : null, key }))
    const ask = async () => {
      try {
        if (timer && (document.hidden || still.on)) return
        const data = await newest.current(abort.signal)
        if (!abort.signal.aborted) set({ data, error: null, loading: false, key })
      } catch (error) {
        if (!abort.signal.aborted) set(old => ({ ...old, error, loading: false }))
      } finally {
        if (every && !abort.signal.aborted) timer = setTimeout(ask, every)
      }
    }
    ask()
    return () => { abort.abort(); clearTimeout(timer) }
  }, [key, turn])
  return { ...state, again: () => setTurn(n => n + 1) }
}

/** The title of the page. @param {string} text */
export function useTitle(text) {
  useEffect(() => { document.title = `${text} · Zizq` }, [text])
}

/**
 * The rows, in the order in which they were while it is kept; those that are new come last. Another address is another list.
 * @template T @param {T[]} rows @param {(row: T) => string} id @param {boolean} kept @returns {T[]}
 */
export function useOrder(rows, id, kept) {
  const before = useRef({ list: '', places: new Map() })
  const list = location.pathname + location.search
  const { places } = before.current
  const place = row => places.get(id(row)) ?? places.size
  const shown = kept && before.current.list === list ? [...rows].sort((a, b) => place(a) - place(b)) : rows
  before.current = { list, places: new Map(shown.map((row, at) => [id(row), at])) }
  return shown
}

/** The present time, each second: only for ages. */
export function useNow() {
  const [now, set] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [])
  return now
}
