// Output of programs: colours of terminals become classes, all other control codes are left out.
import { html } from '../lib/dom.js'
import { CODES } from '../lib/format.js'

const STYLES = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline' }

/** @param {string} text @returns {{text: string, names: string}[]} */
export function pieces(text) {
  const found = []
  let styles = new Set()
  let from = 0
  const add = part => part && found.push({ text: part, names: [...styles].map(name => `ansi-${name}`).join(' ') })
  for (const match of text.matchAll(CODES)) {
    add(text.slice(from, match.index))
    from = match.index + match[0].length
    if (match[2] !== 'm') continue
    styles = new Set(styles)
    const codes = match[1].split(/[;:]/).map(Number)
    for (let at = 0; at < codes.length; at++) {
      const code = codes[at]
      const colour = name => { for (const old of styles) if (/^\d$/.test(old)) styles.delete(old); if (name !== undefined) styles.add(String(name)) }
      if (code === 0) styles.clear()
      else if (STYLES[code]) styles.add(STYLES[code])
      else if (code === 22) { styles.delete('bold'); styles.delete('dim') } else if (code === 23) styles.delete('italic')
      else if (code === 24) styles.delete('underline')
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) colour(code % 10)
      else if (code === 39) colour()
      else if (code === 38 || code === 48) at += codes[at + 1] === 5 ? 2 : 4
    }
  }
  add(text.slice(from))
  return found
}

export const Ansi = ({ text }) => (/[\x00-\x1f\x7f]/.test(text) ? pieces(text).map(({ text, names }) => (names
  ? html`<span class=${names}>${text}</span>` : text)) : text)
