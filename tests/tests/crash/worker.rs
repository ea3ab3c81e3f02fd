//! Workers of every kind, which go on whatever happens.

use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::frame::{self, StreamFormat, msgpack, ndjson, sse};
use protocol::media::Format;
use serde_json::{Value, json};
use tests::Wire;
use tests::client::decode;
use tests::wait::within;

use crate::fate;
use crate::ledger::Delivery;
use crate::link::{self, Link};
use crate::outcome::{self, Leases};
use crate::world::{PAUSE, World};

/// Jobs in flight per worker.
const PREFETCH: usize = 64;
/// Longer than any job is held and any server is down.
pub(crate) const LEASE_MS: u32 = 10_000;
const MAX_FRAME_BYTES: usize = 1 << 20;

/// How a worker gets its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream(StreamFormat),
    Poll,
}

impl Kind {
    pub(crate) const fn leases(self) -> Leases {
        match self {
            Self::Stream(StreamFormat::NdJson | StreamFormat::MessagePack) => Leases::Stream,
            Self::Stream(StreamFormat::EventStream) | Self::Poll => Leases::Own,
        }
    }
}

/// Works until it is told to stop.
pub(crate) async fn run(world: Arc<World>, kind: Kind, wire: Wire) {
    let worker = Arc::new(Worker { link: Link::new(&world, wire), world, kind });
    let mut last_event_id = String::new();
    while worker.world.working() {
        match kind {
            Kind::Poll => worker.poll().await,
            Kind::Stream(format) => worker.follow(format, &mut last_event_id).await,
        }
    }
}

#[derive(Debug)]
struct Worker {
    world: Arc<World>,
    link: Link,
    kind: Kind,
}

impl Worker {
    async fn poll(self: &Arc<Self>) {
        let generation = self.world.generation();
        let request = json!({"queues": fate::QUEUES, "limit": 20, "wait_ms": 200, "lease_ms": LEASE_MS});
        let call = self.link.client().post("/jobs/take", &request);
        let Ok(mut answer) = self.link.send(&self.world, call).await else { return };
        // Of which server's making the leases are, is unknown if it was killed meanwhile.
        if let Value::Array(jobs) = answer.body["jobs"].take()
            && answer.same_server
        {
            let jobs = self.note(&jobs, generation);
            if !self.world.breaks_off() {
                self.work(jobs, generation).await;
            }
        }
    }

    /// Opens a stream and works on what comes, until it breaks.
    async fn follow(self: &Arc<Self>, format: StreamFormat, last_event_id: &mut String) {
        let (generation, serving) = (self.world.generation(), self.world.serving());
        let queues = fate::QUEUES.join(",");
        let mut path = format!("/jobs/take?queue={queues}&prefetch={PREFETCH}");
        if format == StreamFormat::EventStream {
            path.push_str(&format!("&lease_ms={LEASE_MS}&resume_ms={LEASE_MS}"));
        }
        let mut call = self.link.client().get(&path).header("accept", format.content_type());
        if !last_event_id.is_empty() {
            call = call.header("last-event-id", last_event_id);
        }
        let answer = link::head(call).await;
        let excused = answer.is_some() || !self.world.serves_on(serving);
        self.world.ledger.law(excused, || format!("no answer to {:?}, which opens a stream", self.kind));
        let Some(answer) = answer.and_then(Result::ok).filter(|answer| answer.status() == 200) else {
            return tokio::time::sleep(PAUSE).await;
        };
        let mut stream = Stream { body: answer.into_body(), decoder: Decoder::new(format) };
        let mut open = true;
        while open && self.world.working() && self.world.generation() == generation {
            let jobs = match stream.jobs().await {
                Ok(jobs) => jobs,
                Err(end) => {
                    let excused = !self.world.serves_on(serving);
                    let which = || format!("{:?} {:?} ended: {end}", self.kind, self.link.client().wire());
                    self.world.ledger.law(excused, which);
                    break;
                }
            };
            if let Decoder::EventStream(decoder) = &stream.decoder
                && !decoder.last_event_id().is_empty()
            {
                decoder.last_event_id().clone_into(last_event_id);
            }
            let most = jobs.len() <= PREFETCH;
            self.world.ledger.law(most, || format!("{} jobs on a stream that takes {PREFETCH}", jobs.len()));
            let jobs = self.note(&jobs, generation);
            if self.world.breaks_off() {
                // Who has forgotten its jobs must not say that it still has them.
                last_event_id.clear();
                break;
            }
            open = self.work(jobs, generation).await;
        }
    }

    /// Takes note of all jobs, before any work: by the time that is done, another server may have handed them out again.
    fn note(&self, jobs: &[Value], generation: u64) -> Vec<Delivery> {
        jobs.iter().filter_map(|job| self.read(job, generation)).collect()
    }

    /// Does the work and reports it; `false` when the server was killed meanwhile, or when it did not answer.
    async fn work(self: &Arc<Self>, jobs: Vec<Delivery>, generation: u64) -> bool {
        let (mut done, mut answered) = (Vec::new(), true);
        for job in jobs {
            if let Some(hold) = job.fate().hold
                && self.kind.leases() == Leases::Own
                && job.attempts == job.fate().fails
            {
                let worker = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(hold / 2).await;
                    outcome::renew(&worker.world, &worker.link, &job).await;
                    tokio::time::sleep(hold / 2).await;
                    outcome::report(&worker.world, &worker.link, &job).await;
                });
            } else if job.fate().is_plain() && job.n % 4 > 0 {
                done.push(job);
            } else {
                answered &= outcome::report(&self.world, &self.link, &job).await;
            }
        }
        if !done.is_empty() {
            answered &= outcome::succeed_all(&self.world, &self.link, &done).await;
        }
        answered && self.world.generation() == generation
    }

    fn read(&self, job: &Value, generation: u64) -> Option<Delivery> {
        let n = job["payload"]["n"].as_u64().unwrap_or(u64::MAX);
        let delivery = Delivery {
            n,
            id: tests::id(job).to_owned(),
            lease: tests::lease(job).parse().unwrap(),
            attempts: job["attempts"].as_u64().and_then(|attempts| attempts.try_into().ok()).unwrap(),
            generation,
            at: Instant::now(),
            to: self.kind,
        };
        let intact = job["payload"] == fate::payload(n);
        self.world.ledger.law(intact, || format!("not the payload that was enqueued: {job}"));
        self.world.ledger.delivered(&delivery).then_some(delivery)
    }
}

struct Stream {
    body: Incoming,
    decoder: Decoder,
}

enum Decoder {
    NdJson(ndjson::Decoder),
    MessagePack(msgpack::Decoder),
    EventStream(sse::Decoder),
}

impl Decoder {
    fn new(format: StreamFormat) -> Self {
        match format {
            StreamFormat::NdJson => Self::NdJson(ndjson::Decoder::new(MAX_FRAME_BYTES)),
            StreamFormat::MessagePack => Self::MessagePack(msgpack::Decoder::new(MAX_FRAME_BYTES)),
            StreamFormat::EventStream => Self::EventStream(sse::Decoder::new(MAX_FRAME_BYTES)),
        }
    }

    fn read(&mut self, bytes: &[u8], jobs: &mut Vec<Value>) {
        let message = |format, item| match item {
            frame::Item::Heartbeat => None,
            frame::Item::Message(bytes) => Some(decode(format, &bytes)),
        };
        match self {
            Self::NdJson(decoder) => {
                decoder.push(bytes);
                while let Some(item) = decoder.next().unwrap() {
                    jobs.extend(message(Format::Json, item));
                }
            }
            Self::MessagePack(decoder) => {
                decoder.push(bytes);
                while let Some(item) = decoder.next().unwrap() {
                    jobs.extend(message(Format::MessagePack, item));
                }
            }
            Self::EventStream(decoder) => {
                decoder.push(bytes);
                while let Some(item) = decoder.next().unwrap() {
                    if let sse::Item::Event { event, data, .. } = item
                        && event == "message"
                    {
                        jobs.push(decode(Format::Json, data.as_bytes()));
                    }
                }
            }
        }
    }
}

impl Stream {
    /// The jobs of the next piece, which may be none; at the end, what the client says of it.
    async fn jobs(&mut self) -> Result<Vec<Value>, String> {
        // A stream that says nothing for longer than heartbeats are apart is dead.
        let frame = within("a sign of life on a stream", self.body.frame()).await;
        let frame = frame.ok_or("no more frames")?.map_err(|error| format!("{error:?}"))?;
        let mut jobs = Vec::new();
        if let Some(bytes) = frame.data_ref() {
            self.decoder.read(bytes, &mut jobs);
        }
        Ok(jobs)
    }
}
