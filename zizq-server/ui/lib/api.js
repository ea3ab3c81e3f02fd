// The HTTP API, as protocol/API.md describes it. The pages use nothing else.

/** The address of the API, whatever path a proxy puts before it. */
export const root = new URL('../../../../', import.meta.url)

/** @typedef {Record<string, string | number | boolean | null | undefined>} Query */

/** A call that was refused, or that got no answer: then the status is 0. */
export class Refused extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {any} [body] */
  constructor(status, code, message, body) {
    super(message)
    this.status = status
    this.code = code
    this.body = body
  }
}

/** Whoever wants to hear that a session has ended. @type {Set<() => void>} */
export const onUnauthorized = new Set()

/** @param {string} path without a slash at its beginning @param {Query} [query] */
export function url(path, query) {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== '') params.append(name, String(value))
  }
  const text = params.toString()
  return root.href + path + (text && '?' + text)
}

/** A path of these segments. @param {...string} segments */
export const path = (...segments) => segments.map(encodeURIComponent).join('/')

/**
 * @param {string} method @param {string} path @param {Query} [query] @param {any} [body] text is sent as it is
 * @param {{signal?: AbortSignal, accept?: string, headers?: Record<string, string>, keepalive?: boolean}} [options] `keepalive`: also when the
 *   page goes away meanwhile
 */
export async function request(method, path, query, body, options = {}) {
  // The audit trail says that it was this page.
  const headers = { accept: options.accept ?? 'application/json', 'zizq-via': 'ui', ...options.headers }
  const content = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  if (content !== undefined) headers['content-type'] = 'application/json'
  let answer
  try {
    answer = await fetch(url(path, query), { method, headers, body: content, signal: options.signal, keepalive: options.keepalive, cache: 'no-store' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Refused(0, 'unreachable', 'The server does not answer.')
  }
  if (answer.ok) return answer
  const text = await answer.text().catch(() => '')
  let told = {}
  try { told = JSON.parse(text) } catch { /* a proxy's page */ }
  if (answer.status === 401) for (const tell of onUnauthorized) tell()
  throw new Refused(answer.status, told.code ?? '', told.error ?? `The answer was ${answer.status} ${answer.statusText}`.trim() + '.', told)
}

/** GET. @param {string} path @param {Query} [query] @param {AbortSignal} [signal] */
export const get = async (path, query, signal) => (await request('GET', path, query, undefined, { signal })).json()

/** Where a list goes on: `from` of the link to another page. @param {string | null | undefined} link */
export const fromOf = link => (link ? new URLSearchParams(link.split('?')[1]).get('from') : null)

/** Any other call; its answer, if it has one. */
export async function send(method, path, query, body, options) {
  const answer = await request(method, path, query, body, options)
  return answer.status === 204 ? null : answer.json()
}

/** The streams of this page. A page that a browser keeps for the way back must hold no connection: there are only six. */
const streams = new Set()
addEventListener('pagehide', () => { for (const stream of streams) stream.abort() })

/**
 * Reads server-sent events until they end. False: there are none, and will be none.
 * @param {AbortSignal} signal @param {(event: string, data: any, id: string) => void} tell @param {Record<string, string>} [headers]
 */
export async function events(method, path, query, body, signal, tell, headers = {}) {
  const stream = new AbortController()
  const abort = () => stream.abort()
  signal.addEventListener('abort', abort)
  streams.add(stream)
  try {
    signal.throwIfAborted()
    const answer = await request(method, path, query, body, { signal: stream.signal, headers, accept: 'text/event-stream' })
    if (answer.status === 204) return false
    await read(answer.body, tell)
    return true
  } catch (error) {
    if (signal.aborted || error instanceof Refused || !(error instanceof TypeError || error.name === 'AbortError')) throw error
    throw new Refused(0, 'unreachable', 'The connection ended.')
  } finally {
    streams.delete(stream)
    signal.removeEventListener('abort', abort)
  }
}

/** @param {ReadableStream<Uint8Array>} body @param {(event: string, data: any, id: string) => void} tell */
async function read(body, tell) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let [rest, event, data, id] = ['', '', [], '']
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      const [, name, text] = line.match(/^([^:]*):? ?(.*)$/s)
      if (name === 'event') event = text
      else if (name === 'data') data.push(text)
      else if (name === 'id') id = text
      else if (line === '') {
        if (data.length) tell(event || 'message', JSON.parse(data.join('\n')), id)
        ;[event, data] = ['', []]
      }
    }
  }
}

const quoted = text => `'${text.replaceAll("'", `'\\''`)}'`

/** The same call for a shell. */
export function curl(method, path, query, body) {
  const parts = ['curl']
  if (method !== (body === undefined ? 'GET' : 'POST')) parts.push('-X', method)
  if (body !== undefined) parts.push('--json', quoted(typeof body === 'string' ? body : JSON.stringify(body)))
  return [...parts, quoted(url(path, query))].join(' ')
}

/** Who this is, once it is known. Without the call everything is allowed; the server decides in any case. */
export const me = get('whoami').catch(() => null)

/** Whether this person was let in by a proxy and is no longer: it asks again when a page is loaded. */
export async function isLetOut() {
  if ((await me)?.who.kind !== 'proxy') return false
  return fetch(url('whoami'), { cache: 'no-store' }).then(answer => answer.status === 401, () => false)
}

/** What a caller may not do is not offered: `data-needs` on an element names what it takes. */
me.then(known => {
  if (!known) return
  const verbs = new Set(known.grants.map(grant => grant.split(':')[0]))
  const changes = ['enqueue', 'operate', 'configure']
  const denied = [...changes, 'admin'].filter(verb => !verbs.has(verb) || (known.read_only && changes.includes(verb)))
  document.documentElement.dataset.deny = denied.join(' ')
})

/** Whether this person sees all queues, and with them what is about the server as a whole. */
export const seesAll = async () => { const known = await me; return !known || known.grants.includes('read') }

/** @typedef {{name: string, labels: Record<string, string>, value: number}} Sample */

const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g
const plain = text => text.replace(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped))

/** The samples of a text for Prometheus. @param {string} text @returns {Sample[]} */
export const samples = text => text.split('\n').map(line => line.match(LINE)).filter(Boolean).map(([, name, labels = '', value]) => ({
  name, labels: Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, is]) => [label, plain(is)])), value: Number(value),
}))

/** The samples of these metrics, which no other call tells; none for those who see some queues only. @param {string[]} names @param {AbortSignal} signal */
export async function metrics(names, signal) {
  if (!await seesAll()) return []
  const query = { name: names.map(name => name.replace('zizq_', '')).join(',') }
  return samples(await (await request('GET', 'metrics', query, undefined, { signal, accept: 'text/plain' })).text())
}

/** Whether this is offered. @param {'enqueue' | 'operate' | 'configure' | 'admin'} verb */
export const may = verb => !(document.documentElement.dataset.deny ?? '').split(' ').includes(verb)
