//! One stream of jobs, reconnected with backoff whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use protocol::error::excerpt;
use protocol::frame::sse::{Decoder, Item, LastEventId};
use protocol::frame::{FrameError, StreamFormat};
use protocol::job::DeliveredJob;
use protocol::stream::{Drain, DrainReason, Hello};
use reqwest::header::CONTENT_TYPE;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::address::shown;
use crate::backoff::Backoff;
use crate::client::{ANSWER_TIMEOUT, CallError, Client, Take, cause};
use crate::event::Event;
use crate::report::Lease;
use crate::shutdown::Phase;
use crate::stats::Stats;

/// The largest event, far above what a server with default limits sends.
const MAX_EVENT_BYTES: usize = 128 << 20;
/// The pause before the first attempt to reconnect, unless the stream sets it.
const RECONNECT: Duration = Duration::from_secs(1);
/// The shortest pause that a stream can set.
const RECONNECT_LEAST: Duration = Duration::from_millis(10);
/// The longest pause before an attempt to reconnect.
const RECONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection is dead after this many missed heartbeats.
const MISSED_HEARTBEATS: u32 = 3;

/// Why a stream broke.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("expected an event stream, got `{0}`; is this the address of a Zizq server?")]
    NoStream(String),
    #[error("the connection broke: {0}")]
    Cut(String),
    #[error("the server closed it")]
    Closed,
    #[error("the server was silent for {}", humantime::format_duration(*.0))]
    Silent(Duration),
}

/// Why an intact stream was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Its credit changed.
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

/// The subscription to some queues.
#[derive(Debug)]
pub(crate) struct Subscription {
    client: Client,
    /// Comma-separated.
    queues: String,
    /// How many jobs it may hold. At 0 the stream is closed for now; when the sender is dropped, for good.
    credit: watch::Receiver<u16>,
    lease: Duration,
    events: mpsc::Sender<Event>,
    stats: Arc<Stats>,
    /// The last event that was read, where the next stream resumes.
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
            let before = self.client.shows();
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
            if let Broken::Call(CallError::NotAllowed { message, .. }) = &broken {
                // Whoever has replaced the token may have written the file just now.
                self.client.read_files_again();
                if self.client.shows() == before {
                    self.tell(Event::NotAllowed(message.clone())).await;
                    return;
                }
            }
            let mut pause = self.backoff.next();
            if let Broken::Call(CallError::Busy { retry_after: Some(asked), .. }) = &broken {
                pause = pause.max(*asked);
            }
            let (queue, server) = (&self.queues, shown(self.client.server()));
            tracing::warn!(%queue, %server, "no job stream: {broken}; reconnecting in {pause:.1?}");
            self.tell(Event::StreamTurned).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = work_ends(&mut phase) => return,
                Err(_) = self.credit.changed() => return,
            }
        }
    }

    /// One stream, from the request to its end; `Ok` when it is left on purpose.
    ///
    /// Leaving interrupts only the waiting for the server: every event that was read is passed on.
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
                    tracing::error!(queue = %self.queues, "cannot read the server's event `{event}`: {e}");
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
                    // If its lease can be read, the job can be given back.
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
                if reason == DrainReason::Asked.as_str() {
                    tracing::info!(queue = %self.queues, "the server was asked to drain this worker");
                    self.tell(Event::AskedToEnd).await;
                    return Ok(());
                }
                let reason = excerpt(&reason);
                tracing::info!(queue = %self.queues, "the server is shutting down ({reason}); running jobs continue");
            }
            other => {
                tracing::debug!("ignoring the server's event `{other}`, which this version does not know")
            }
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
            // It is a new stream, of which nothing was read.
            self.position = Some(LastEventId { stream, n: 0 });
        }
    }

    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the pool ended before its streams");
        }
    }
}

/// The reasons to leave an intact stream.
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
    // A dropped sender is an end as well.
    drop(phase.wait_for(|&phase| phase != Phase::Work).await);
}
