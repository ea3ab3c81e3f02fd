// The payload and the result of a job, as they were written.
import { path, request } from './api.js'
import { parse, write } from './json.js'

/** @returns {Promise<{text: string, value: any, result?: any, resultText?: string}>} */
export async function payloadOf(id, signal) {
  const job = parse(await (await request('GET', path('jobs', id), {}, undefined, { signal })).text())
  const [value, result] = [job.get('payload'), job.get('result')]
  return { text: write(value), value, result, resultText: job.has('result') ? write(result) : undefined }
}
