// Words for the cron expressions that people write most. What is not among them stays as it is.
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = ['', 'Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const ALIASES = { '@yearly': '0 0 1 1 *', '@annually': '0 0 1 1 *', '@monthly': '0 0 1 * *', '@weekly': '0 0 * * 0', '@daily': '0 0 * * *', '@midnight': '0 0 * * *', '@hourly': '0 * * * *' }

const number = /^\d+$/
const pad = text => text.padStart(2, '0')
const any = field => field === '*' || field === '?'

/** "MON-FRI" -> "Mon–Fri" @param {string} field @param {string[]} names */
function list(field, names) {
  const one = text => (number.test(text) ? names[Number(text) % (names === DAYS ? 7 : 13)] : names.find(name => name
    && name.toUpperCase() === text.toUpperCase()))
  const parts = field.split(',').map(part => part.split('-').map(one))
  return parts.every(part => part.length <= 2 && part.every(Boolean)) ? parts.map(part => part.join('–')).join(', ') : undefined
}

/** "30 2 * * MON-FRI" -> "Mon–Fri 02:30"; empty for what has no short words. @param {string} expression */
export function words(expression) {
  const fields = (ALIASES[expression.trim().toLowerCase()] ?? expression).trim().split(/\s+/)
  const [second, minute, hour, day, month, weekday] = fields.length === 6 ? fields : ['0', ...fields]
  if (fields.length < 5 || fields.length > 6 || second !== '0') return ''
  const step = field => field.match(/^\*\/(\d+)$/)?.[1]
  const days = any(weekday) ? '' : list(weekday, DAYS)
  const months = any(month) ? '' : list(month, MONTHS)
  const date = any(day) ? '' : number.test(day) ? `on day ${day}` : day.toUpperCase() === 'L' ? 'on the last day' : undefined
  if (days === undefined || months === undefined || date === undefined || (days && date)) return ''
  let clock
  if (number.test(minute) && number.test(hour)) clock = `${pad(hour)}:${pad(minute)}`
  else if (any(minute) && any(hour)) clock = 'every minute'
  else if (step(minute) && any(hour)) clock = `every ${step(minute)} minutes`
  else if (number.test(minute) && any(hour)) clock = minute === '0' ? 'every hour' : `every hour at minute ${minute}`
  else if (number.test(minute) && step(hour)) clock = `every ${step(hour)} hours at minute ${minute}`
  else return ''
  const when = [days || (date ? '' : number.test(hour) && !months ? 'daily' : ''), clock, date, months && `in ${months}`].filter(Boolean)
  return when.join(' ')
}
