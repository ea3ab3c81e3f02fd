// The keys that work here, and what can be set.
import { html, useState } from '../lib/dom.js'
import { bindings } from '../lib/keys.js'
import { change, settings } from '../lib/format.js'
import { Choice } from './basics.js'
import { Dialog } from './over.js'

export function Help({ close }) {
  const [shown] = useState(bindings)
  const [, redraw] = useState(0)
  const set = changes => { change(changes); redraw(n => n + 1) }
  return html`<${Dialog} title="Keys and settings" wide close=${close}>
    <div class="tools"><${Choice} label="Theme" value=${settings.theme} options=${[['system', 'System'], ['light', 'Light'],
      ['dark', 'Dark']]} onChange=${theme => set({ theme })} />
      <${Choice} label="Times" value=${settings.utc ? 'utc' : 'local'} options=${[['local', 'Local time'], ['utc', 'UTC']]}
        onChange=${value => set({ utc: value === 'utc' })} />
      <label><input type="checkbox" checked=${settings.keys} onChange=${event => set({ keys: event.target.checked })} /> Keys are on</label>
        </div>
    <ul class="keys">${shown.map(({ keys, does }) => html`<li key=${keys + does}><span>${does}</span>
      <span>${keys.split('|').map(key => html`<kbd>${key}</kbd> `)}</span></li>`)}
      <li><span>close, clear</span><kbd>Escape</kbd></li></ul><//>`
}
