// Reads a stream with the package eventsource and says what it hears, a line of JSON an event. It comes back by itself.

const {createRequire} = require('node:module');
const {EventSource} = createRequire(process.argv[3] + '/')('eventsource');

const source = new EventSource(process.argv[2]);
const say = (event) => console.log(JSON.stringify({event: event.type, data: event.data, id: event.lastEventId}));
for (const type of ['message', 'hello', 'cancel', 'drain']) source.addEventListener(type, say);
