// The access tokens of the server: who has one, for what, until when.
import { get, path, send } from '../lib/api.js'
import { ask } from '../lib/actions.js'
import { html, useData, useState } from '../lib/dom.js'
import { readDuration, time } from '../lib/format.js'
import { Command, Empty, Failed, Loading, Section } from './basics.js'
import { Dialog, Field, open } from './over.js'
import { Table } from './table.js'

const ROLES = ['viewer', 'operator', 'producer', 'worker', 'admin']

/** A secret can be read once. @param {{made: any, close: () => void}} props */
const Secret = ({ made, close }) => html`
  <${Dialog} title=${`The token ${made.name}`} close=${close} onSubmit=${close}
    footer=${html`<button type="submit" class="primary">I have copied it</button>`}>
    <p>It is shown only now: the server keeps no more than what it takes to recognise it.</p>
    <${Command} text=${made.token} label="Token" /><//>`

/** @param {{again: () => void, close: () => void}} props */
function Create({ again, close }) {
  const [values, set] = useState({ name: '', role: 'viewer', queues: '', length: '90d' })
  const [error, setError] = useState(/** @type {Error | null} */ (null))
  const create = async () => {
    setError(null)
    try {
      const length = values.length.trim() ? readDuration(values.length) : undefined
      if (values.length.trim() && length === undefined) throw new Error(`Ends after: ${values.length} is not a length of time, such as 12h or 90d.`)
      const queues = values.queues.split(/[\s,]+/).filter(Boolean)
      const body = { name: values.name.trim(), role: values.role, ...(queues.length && { queues }), ...(length && { expires_in_ms: length }) }
      const made = await send('POST', 'tokens', {}, body)
      again()
      open(Secret, { made })
    } catch (problem) { setError(problem) }
  }
  const to = name => event => set({ ...values, [name]: event.target.value })
  return html`
    <${Dialog} title="Make a token" close=${close} onSubmit=${create}
      footer=${html`<button type="button" onClick=${close}>Cancel</button><button type="submit" class="primary">Make it</button>`}>
      <${Field} label="Name" hint="who or what has it"><input name="name" autocomplete="off" value=${values.name} onInput=${to('name')} /><//>
      <${Field} label="Role"><select name="role" value=${values.role} onChange=${to('role')}>
        ${ROLES.map(role => html`<option key=${role}>${role}</option>`)}</select><//>
      <${Field} label="Queues" hint="names or beginnings such as mails*; empty: all"><input name="queues" autocomplete="off"
        value=${values.queues} onInput=${to('queues')} /><//>
      <${Field} label="Ends after" hint="12h, 90d; empty: never"><input name="length" autocomplete="off" value=${values.length}
        onInput=${to('length')} /><//>
      ${error && html`<${Failed} error=${error} />`}
    <//>`
}

export function Tokens() {
  const { data, error, again } = useData(signal => get('tokens', {}, signal), [])
  const change = (token, more) => ask({ needs: 'admin', danger: true, after: again, path: path('tokens', token.id), ...more })
  const rotate = token => change(token, { title: 'Rotate the token', verb: 'Rotate', method: 'POST', path: path('tokens', token.id, 'rotate'), body: {},
    says: `${token.name} gets a new secret. The present one counts for another day.`, done: () => `${token.name} has a new secret`,
    after: made => { again(); open(Secret, { made }) } })
  const revoke = token => change(token, { title: 'Revoke the token', verb: 'Revoke', method: 'DELETE', done: () => `${token.name} is revoked`,
    says: `${token.name} ends at once, and with it every stream and session that is open with it.` })
  const columns = [
    { id: 'name', title: 'Token', wide: true, cell: token => html`<bdi>${token.name}</bdi>` },
    { id: 'role', title: 'Role', cell: token => token.role ?? '–' },
    { id: 'grants', title: 'Grants', wide: true,
      cell: token => html`<span class="preview" title=${token.grants.join(' ')}>${token.grants.join(' ')}</span>` },
    { id: 'used', title: 'Used', cell: token => html`<span class="num">${token.last_used_at ? time(token.last_used_at).slice(0, 10) : 'never'}</span>` },
    { id: 'expires', title: 'Ends', cell: token => html`<span class="num">${token.expires_at ? time(token.expires_at) : 'never'}</span>` },
  ]
  const make = html`<button type="button" class="small" onClick=${() => open(Create, { again })}>Make a token</button>`
  return html`<${Section} title="Access tokens" aside=${make}>
    ${error && html`<${Failed} error=${error} again=${again} />`}
    ${!data ? !error && html`<${Loading} />` : !data.tokens.length ? html`<${Empty} title="There are no access tokens">
      <p>Once there is one, whoever has none is refused. Begin with your own, on the machine of the server:</p>
      <${Command} text="zizq-server token create me --role admin" /><//>`
      : html`<${Table} caption="Access tokens" columns=${columns} rows=${data.tokens} id=${token => token.id} actions=${token => html`
        <span class="buttons"><button type="button" class="small" onClick=${() => rotate(token)}>Rotate…</button>
          <button type="button" class="small danger" onClick=${() => revoke(token)}>Revoke…</button></span>`} />`}<//>`
}
