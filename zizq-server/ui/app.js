// The start: finds the view of the address, loads it, and puts it into the frame.
import { html, render, useEffect, useErrorBoundary, useState } from './lib/dom.js'
import { followLinks, useRoute } from './lib/route.js'
import { apply } from './lib/format.js'
import { listen } from './lib/keys.js'
import { Failed, Loading } from './parts/basics.js'
import { Frame } from './parts/frame.js'

/** The views by the first segment of their address, and what they are for one thing. @type {Record<string, () => Promise<any>>} */
const VIEWS = {
  '': () => import('./screens/overview.js'),
  queues: () => import('./screens/queues.js'),
  'queues/': () => import('./screens/queue.js'),
  jobs: () => import('./screens/jobs.js'),
  'jobs/': () => import('./screens/job.js'),
  dead: () => import('./screens/dead.js'),
  workers: () => import('./screens/workers.js'),
  'workers/': () => import('./screens/worker.js'),
  crons: () => import('./screens/crons.js'),
  budgets: () => import('./screens/budgets.js'),
  audit: () => import('./screens/audit.js'),
  server: () => import('./screens/server.js'),
  login: () => import('./screens/login.js'),
}

function View({ route }) {
  const [first = '', second] = route.path
  const name = VIEWS[`${first}/`] && second !== undefined ? `${first}/` : first
  const [loaded, set] = useState({ name: null, view: null, error: null })
  const [crash, again] = useErrorBoundary()
  useEffect(() => {
    const load = VIEWS[name]
    if (!load) return set({ name, view: null, error: null })
    let wanted = true
    load().then(module => wanted && set({ name, view: module.default, error: null }), () => wanted
      && set({ name, view: null, error: true }))
    return () => { wanted = false }
  }, [name])
  if (crash) return html`<${Failed} error=${{ message: `This view has failed: ${crash.message}` }} again=${again} />`
  if (!VIEWS[name]) return html`<div class="empty"><h1>There is no such page</h1><p>The menu has all of them.</p></div>`
  // After an update of the server the files of this page are gone.
  if (loaded.error) return html`<${Failed} error=${{ message: 'This view cannot be loaded; the server may have been updated.' }}
    again=${() => location.reload()} />`
  if (loaded.name !== name) return html`<${Loading} />`
  return html`<${loaded.view} key=${route.path.slice(0, 2).join('/')} route=${route} />`
}

function App() {
  const route = useRoute()
  return html`<${Frame} route=${route}><${View} route=${route} /><//>`
}

apply()
listen()
followLinks()
render(html`<${App} />`, document.getElementById('app'))
