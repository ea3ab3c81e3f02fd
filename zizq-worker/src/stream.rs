//! One stream of jobs, opened again whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use protocol::error::excerpt;
use protocol::frame::sse::{Decoder, Item, LastEventId};
use protocol::frame::{FrameError, StreamFormat};
use protocol::job::DeliveredJob;
use protocol::stream::{Drain, Hello};
use reqwest::header::CONTENT_TYPE;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::access::shown;
use crate::backoff::Backoff;
use crate::client::{ANSWER_TIMEOUT, CallError, Client, Take, cause};
use crate::event::Event;
use crate::report::Lease;
use crate::shutdown::Phase;
use crate::stats::Stats;

/// The largest event: far above what a server with default limits sends.
const MAX_EVENT_BYTES: usize = 128 << 20;
/// The pause before the first try to reconnect, unless the stream says otherwise.
const RECONNECT: Duration = Duration::from_secs(1);
/// The shortest that a stream can say.
const RECONNECT_LEAST: Duration = Duration::from_millis(10);
/// The longest pause before a try to reconnect.
const RECONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection is dead after this many heartbeats did not come.
const MISSED_HEARTBEATS: u32 = 3;

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the answer is no event stream but `{0}`; is this the address of a Zizq server?")]
    NoStream(String),
    #[error("the connection broke: {0}")]
    Cut(String),
    #[error("the server closed it")]
    Closed,
    #[error("the server was silent for {}", humantime::format_duration(*.0))]
    Silent(Duration),
}

/// Why a stream was left while it was well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is to hold another number of jobs.
    Credit,
    /// The worker takes no more jobs, or none of these queues.
    Over,
}

/// What all streams have in common.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) client: Client,
    pub(crate) lease: Duration,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stats: Arc<Stats>,
}

/// What a worker asks of some queues.
#[derive(Debug)]
pub(crate) struct Subscription {
    client: Client,
    /// A comma list.
    queues: String,
    /// How many jobs it may hold; none: it is closed until there may be some. It is over when nobody is left to say so.
    credit: watch::Receiver<u16>,
    lease: Duration,
    events: mpsc::Sender<Event>,
    stats: Arc<Stats>,
    /// The last event that was read: where the next stream is to go on.
    position: Option<LastEventId>,
    backoff: Backoff,
    /// How long the server may be silent.
    patience: Duration,
}

impl Subscription {
    pub(crate) fn new(source: Source, queues: String, credit: watch::Receiver<u16>) -> Self {
        let Source { client, lease, events, stats } = source;
        Self {
            client,
            queues,
            credit,
            lease,
            events,
            stats,
            position: None,
            backoff: Backoff::new(RECONNECT, RECONNECT_LIMIT),
            patience: ANSWER_TIMEOUT,
        }
    }

    /// Streams jobs until the worker takes no more.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        loop {
            let prefetch = *self.credit.borrow_and_update();
            let mut changes = Changes { credit: self.credit.clone(), phase: phase.clone() };
            let left = match prefetch {
                0 => Ok(changes.next().await),
                _ => self.session(prefetch, changes).await,
            };
            self.stats.stream_is(&self.queues, false);
            let broken = match left {
                Ok(Left::Over) => return,
                Ok(Left::Credit) => {
                    self.tell(Event::StreamTurned).await;
                    continue;
                }
                Err(broken) => broken,
            };
            let mut pause = self.backoff.next();
            if let Broken::Call(CallError::Busy { retry_after: Some(asked), .. }) = &broken {
                pause = pause.max(*asked);
            }
            let (queue, server) = (&self.queues, shown(self.client.server()));
            tracing::warn!(%queue, %server, "no stream of jobs: {broken}; next try in {pause:.1?}");
            self.tell(Event::StreamTurned).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = work_ends(&mut phase) => return,
                Err(_) = self.credit.changed() => return,
            }
        }
    }

    /// One stream, from the request to its end; `Ok` when it is left for something else.
    ///
    /// Only waiting for the server is given up then: what was read is always passed on.
    async fn session(&mut self, prefetch: u16, mut changes: Changes) -> Result<Left, Broken> {
        let position = self.position.as_ref().map(ToString::to_string);
        let last_event_id = position.as_deref();
        let take = Take { queues: &self.queues, prefetch, lease: self.lease, last_event_id };
        let mut answer = tokio::select! {
            answer = self.client.take(take) => answer?,
            left = changes.next() => return Ok(left),
        };
        let media = answer.headers().get(CONTENT_TYPE).map_or(&[][..], |value| value.as_bytes());
        if !media.starts_with(StreamFormat::EventStream.content_type().as_bytes()) {
            return Err(Broken::NoStream(String::from_utf8_lossy(media).into_owned()));
        }
        self.patience = ANSWER_TIMEOUT;
        let mut decoder = Decoder::new(MAX_EVENT_BYTES);
        loop {
            let chunk = tokio::select! {
                chunk = timeout(self.patience, answer.chunk()) => chunk,
                left = changes.next() => return Ok(left),
            };
            let chunk = chunk.map_err(|_| Broken::Silent(self.patience))?;
            let chunk = chunk.map_err(|e| Broken::Cut(cause(&e)))?.ok_or(Broken::Closed)?;
            decoder.push(&chunk);
            while let Some(item) = decoder.next()? {
                self.read(item).await;
            }
        }
    }

    async fn read(&mut self, item: Item) {
        match item {
            Item::Comment(_) => {}
            Item::Retry(ms) => {
                self.backoff.base = Duration::from_millis(ms).clamp(RECONNECT_LEAST, RECONNECT_LIMIT)
            }
            Item::Event { event, data, id } => {
                if let Ok(position) = id.parse() {
                    self.position = Some(position);
                }
                if let Err(e) = self.event(&event, &data).await {
                    let event = excerpt(&event);
                    tracing::error!(queue = %self.queues, "an event `{event}` of the server cannot be read: {e}");
                }
            }
        }
    }

    async fn event(&mut self, event: &str, data: &str) -> Result<(), serde_json::Error> {
        protocol::body::check_nesting(data.as_bytes()).map_err(serde::de::Error::custom)?;
        match event {
            "message" => match serde_json::from_str::<DeliveredJob>(data) {
                Ok(job) => self.tell(Event::Delivered(Box::new(job))).await,
                Err(e) => {
                    // As long as it is known which job that was, it need not stay with this worker.
                    let Ok(lease) = serde_json::from_str::<Lease>(data) else { return Err(e) };
                    self.tell(Event::Unreadable {
                        lease,
                        why: format!("this worker cannot read the job: {e}"),
                    })
                    .await;
                }
            },
            "hello" => {
                self.greet(serde_json::from_str(data)?);
                self.tell(Event::StreamTurned).await;
            }
            "cancel" => self.tell(Event::Cancelled(serde_json::from_str(data)?)).await,
            "drain" => {
                let Drain { reason } = serde_json::from_str(data)?;
                let reason = excerpt(&reason);
                tracing::info!(queue = %self.queues, "the server is going down ({reason}); running jobs go on");
            }
            other => tracing::debug!("the server sent an event `{other}`, which this version does not know"),
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello) {
        let Hello { stream, resumed, heartbeat_ms, server, .. } = hello;
        self.backoff.reset();
        self.stats.stream_is(&self.queues, true);
        tracing::info!(queue = %self.queues, resumed, "connected to {}", excerpt(&server));
        self.patience = Duration::from_millis(heartbeat_ms.max(500)).saturating_mul(MISSED_HEARTBEATS);
        let goes_on = resumed && self.position.as_ref().is_some_and(|position| position.stream == stream);
        if !goes_on {
            // Nothing of this stream was read so far.
            self.position = Some(LastEventId { stream, n: 0 });
        }
    }

    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the pool has ended before its streams");
        }
    }
}

/// What a stream may be left for.
#[derive(Debug)]
struct Changes {
    credit: watch::Receiver<u16>,
    phase: watch::Receiver<Phase>,
}

impl Changes {
    async fn next(&mut self) -> Left {
        tokio::select! {
            () = work_ends(&mut self.phase) => Left::Over,
            changed = self.credit.changed() => if changed.is_ok() { Left::Credit } else { Left::Over },
        }
    }
}

/// Waits until the worker takes no more jobs.
async fn work_ends(phase: &mut watch::Receiver<Phase>) {
    // Nobody left to change the phase is an end as well.
    drop(phase.wait_for(|&phase| phase != Phase::Work).await);
}
