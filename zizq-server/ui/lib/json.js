// JSON that keeps numbers as they were written: 64-bit integers do not fit into those of JavaScript.

/** A number, as text. */
export class Num {
  /** @param {string} text */
  constructor(text) { this.text = text }
}

/**
 * Parses a text into objects (as maps, in their order), arrays, strings, booleans, null and {@link Num}.
 * @param {string} text
 */
export function parse(text) {
  let at = 0
  const fail = () => { throw new SyntaxError(`not JSON at character ${at + 1}`) }
  const space = () => { while (' \n\r\t'.includes(text[at]) && at < text.length) at++ }
  const string = () => {
    const from = at++
    while (text[at] !== '"') {
      if (at >= text.length) fail()
      at += text[at] === '\\' ? 2 : 1
    }
    at++
    return JSON.parse(text.slice(from, at))
  }
  const list = (close, item) => {
    at++
    space()
    if (text[at] === close) return void at++
    for (;;) {
      item()
      space()
      if (text[at] === close) return void at++
      if (text[at] !== ',') fail()
      at++
      space()
    }
  }
  const value = () => {
    space()
    const first = text[at]
    if (first === '{') {
      const map = new Map()
      list('}', () => {
        if (text[at] !== '"') fail()
        const name = string()
        space()
        if (text[at++] !== ':') fail()
        map.set(name, value())
      })
      return map
    }
    if (first === '[') {
      const items = []
      list(']', () => items.push(value()))
      return items
    }
    if (first === '"') return string()
    const [word] = text.slice(at, at + 1_000).match(/^(true|false|null|-?\d+(\.\d+)?([eE][-+]?\d+)?)/) ?? fail()
    at += word.length
    return { true: true, false: false, null: null }[word] ?? (word === 'null' ? null : new Num(word))
  }
  const parsed = value()
  space()
  if (at < text.length) fail()
  return parsed
}

/** The text of a value, with numbers as they were; in one line without an indent. @param {any} value @param {string} [indent] @param {string} [margin] */
export function write(value, indent = '  ', margin = '') {
  const deeper = margin + indent
  const [between, end, colon] = indent ? [`,\n${deeper}`, `\n${margin}`, ': '] : [',', '', ':']
  const list = (open, items, close) => (items.length ? open + (indent && `\n${deeper}`) + items.join(between) + end + close : open + close)
  if (value instanceof Num) return value.text
  if (value instanceof Map) return list('{', [...value].map(([name, item]) => JSON.stringify(name) + colon + write(item, indent, deeper)), '}')
  if (Array.isArray(value)) return list('[', value.map(item => write(item, indent, deeper)), ']')
  return JSON.stringify(value)
}
