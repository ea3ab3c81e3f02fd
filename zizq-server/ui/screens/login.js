// Who one is: a token becomes a session of this browser.
import { send } from '../lib/api.js'
import { html, useEffect, useState, useTitle } from '../lib/dom.js'
import { href } from '../lib/route.js'
import { Failed } from '../parts/basics.js'
import { Field } from '../parts/over.js'

export default function Login({ route }) {
  useTitle('Log in')
  const [token, setToken] = useState('')
  const [error, setError] = useState(/** @type {any} */ (null))
  const next = route.query.get('next') ?? ''
  // Only to a view of these pages.
  const target = next.startsWith(href([])) ? next : href([])
  const show = async shown => {
    setError(null)
    try {
      await send('POST', 'ui/session', {}, shown)
      setToken('')
      // A page that is loaded anew knows who this is before it asks for anything.
      location.replace(target)
    } catch (problem) { setError(problem) }
  }
  const enter = event => {
    event.preventDefault()
    show({ token: token.trim() })
  }
  // A link of zizq-server token link. It counts once, so it does not stay in the history.
  useEffect(() => {
    const code = new URLSearchParams(location.hash.slice(1)).get('code')
    if (!code) return
    history.replaceState(null, '', location.pathname + location.search)
    show({ code })
  }, [])
  const leave = async () => {
    try { await send('DELETE', 'ui/session'); location.reload() } catch (problem) { setError(problem) }
  }
  const missing = error && [404, 405].includes(error.status)
  return html`
    <form class="empty" onSubmit=${enter}><h1>Log in</h1>
      <${Field} label="Token" hint="It begins with zizq_. zizq-server token create makes one.">
        <input name="token" type="password" autocomplete="current-password" autofocus value=${token}
        onInput=${event => setToken(event.target.value)} /><//>
      ${error && html`<${Failed} error=${missing ? { message: 'This is not available on this server: it asks nobody for a token.' }
        : { message: error.message.replace(/^Authorization: /, '') }} />`}
      <div class="buttons"><button type="submit" class="primary" disabled=${!token.trim()}>Log in</button>
        <button type="button" class="ghost" onClick=${leave}>Log out</button></div></form>`
}
