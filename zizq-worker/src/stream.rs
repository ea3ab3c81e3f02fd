//! One stream of jobs, opened again whenever it breaks.

use std::time::Duration;

use protocol::frame::sse::{Decoder, Item, LastEventId};
use protocol::frame::{FrameError, StreamFormat};
use protocol::job::DeliveredJob;
use protocol::name::QueueName;
use protocol::stream::{Drain, Hello};
use reqwest::header::CONTENT_TYPE;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::client::{ANSWER_TIMEOUT, CallError, Client, Take, cause};
use crate::event::Event;
use crate::route::Route;
use crate::shutdown::Phase;

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

/// What a worker asks of one queue.
#[derive(Debug)]
pub(crate) struct Subscription {
    client: Client,
    queue: QueueName,
    prefetch: u16,
    lease: Duration,
    events: mpsc::Sender<Event>,
    /// The last event that was read: where the next stream is to go on.
    position: Option<LastEventId>,
    backoff: Backoff,
    /// How long the server may be silent.
    patience: Duration,
}

impl Subscription {
    pub(crate) fn new(client: Client, route: &Route, lease: Duration, events: mpsc::Sender<Event>) -> Self {
        Self {
            client,
            queue: route.queue.clone(),
            prefetch: route.concurrency.get(),
            lease,
            events,
            position: None,
            backoff: Backoff::new(RECONNECT, RECONNECT_LIMIT),
            patience: ANSWER_TIMEOUT,
        }
    }

    /// Streams jobs until the worker takes no more.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        while let Err(broken) = self.session(&mut phase).await {
            let mut pause = self.backoff.next();
            if let Broken::Call(CallError::Busy { retry_after: Some(asked), .. }) = &broken {
                pause = pause.max(*asked);
            }
            let (queue, server) = (&self.queue, self.client.server());
            tracing::warn!(%queue, %server, "no stream of jobs: {broken}; next try in {pause:.1?}");
            self.tell(Event::StreamTurned).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = work_ends(&mut phase) => return,
            }
        }
    }

    /// One stream, from the request to its end; `Ok` when the worker takes no more jobs.
    ///
    /// Only waiting for the server is given up then: what was read is always passed on.
    async fn session(&mut self, phase: &mut watch::Receiver<Phase>) -> Result<(), Broken> {
        let position = self.position.as_ref().map(ToString::to_string);
        let last_event_id = position.as_deref();
        let take = Take { queue: &self.queue, prefetch: self.prefetch, lease: self.lease, last_event_id };
        let mut answer = tokio::select! {
            answer = self.client.take(take) => answer?,
            () = work_ends(phase) => return Ok(()),
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
                () = work_ends(phase) => return Ok(()),
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
                    tracing::error!(queue = %self.queue, "an event `{event}` of the server cannot be read: {e}");
                }
            }
        }
    }

    async fn event(&mut self, event: &str, data: &str) -> Result<(), serde_json::Error> {
        match event {
            "message" => {
                let job: DeliveredJob = serde_json::from_str(data)?;
                self.tell(Event::Delivered(Box::new(job))).await;
            }
            "hello" => {
                self.greet(serde_json::from_str(data)?);
                self.tell(Event::StreamTurned).await;
            }
            "cancel" => self.tell(Event::Cancelled(serde_json::from_str(data)?)).await,
            "drain" => {
                let Drain { reason } = serde_json::from_str(data)?;
                tracing::info!(queue = %self.queue, "the server is going down ({reason}); running jobs go on");
            }
            other => tracing::debug!("the server sent an event `{other}`, which this version does not know"),
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello) {
        let Hello { stream, resumed, heartbeat_ms, server, .. } = hello;
        tracing::info!(queue = %self.queue, resumed, "connected to {server}");
        self.backoff.reset();
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

/// Waits until the worker takes no more jobs.
async fn work_ends(phase: &mut watch::Receiver<Phase>) {
    // Nobody left to change the phase is an end as well.
    drop(phase.wait_for(|&phase| phase != Phase::Work).await);
}
