// A worker of one's own over server-sent events, with nothing but Node 20. It runs up to four jobs at a time and resumes
// where it broke off when the connection or the server goes away.
const SERVER = process.env.ZIZQ_SERVER ?? "http://127.0.0.1:7890";
const QUEUE = process.env.QUEUE ?? "hello";
const PREFETCH = 4;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Reports something about a job, for as long as it takes. */
async function call(path, lease, body) {
  for (;;) {
    try {
      const headers = { "Zizq-Lease": lease, "Content-Type": "application/json" };
      const answer = await fetch(SERVER + path, { method: "POST", headers, body: JSON.stringify(body) });
      const text = await answer.text();
      if (answer.ok) return;
      if (answer.status < 500) return console.log("not accepted:", answer.status, text);
    } catch (error) {
      console.log("the server is away:", error.message);
    }
    await pause(1000);
  }
}

async function work(job) {
  console.log("running", job.id, JSON.stringify(job.payload));
  if (job.payload === "fail") throw new Error("the payload asks for it");
}

async function run(job) {
  try {
    await work(job);
  } catch (error) {
    return call(`/jobs/${job.id}/failure`, job.lease, { message: error.message, error_type: error.name });
  }
  return call(`/jobs/${job.id}/success`, job.lease, {});
}

/** Hands every event to `handle`; the position is where a broken stream goes on. */
async function listen(handle, position) {
  const headers = { Accept: "text/event-stream", ...(position && { "Last-Event-ID": position }) };
  const answer = await fetch(`${SERVER}/jobs/take?queue=${QUEUE}&prefetch=${PREFETCH}`, { headers });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  let rest = "";
  for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = { event: "message", data: "" };
      for (const line of block.split("\n")) {
        const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
        if (name === "data") fields.data += value;
        else if (name) fields[name] = value;
      }
      if (fields.data) handle(fields);
    }
  }
}

let position;
for (;;) {
  try {
    await listen(({ event, data, id }) => {
      position = id ?? position;
      if (event === "message") run(JSON.parse(data));
    }, position);
  } catch (error) {
    console.log("no stream:", error.message);
  }
  await pause(1000);
}
