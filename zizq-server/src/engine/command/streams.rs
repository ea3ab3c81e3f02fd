//! Requests about streams, and what is known of the workers behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::name::QueueName;
use smol_str::SmolStr;

use super::queues::LastRelease;
use crate::access::Scope;
use crate::engine::outbox::Outbox;

/// Reports that the connection of a stream has ended.
#[derive(Debug)]
pub struct CloseStream(pub Link);

/// Reports that a poll wants no more jobs.
#[derive(Debug)]
pub struct StopTaking(pub Link);

/// Reports that a poll has been answered: its leases run by themselves from now on.
#[derive(Debug)]
pub struct FinishPoll(pub Link);

/// Reports that a slow reader has caught up.
#[derive(Debug)]
pub struct CaughtUp(pub Link);

/// Reports that the peer of a stream took a heartbeat: its leases begin anew.
#[derive(Debug)]
pub struct RenewStream(pub Link);

/// How many digits of a stream's id are its name.
pub(crate) const STREAM_NAME_LEN: usize = 12;

/// The name of a stream: the beginning of its id, enough to tell streams apart and to find one in its worker's log. The
/// full id would let others take over its jobs.
pub(crate) fn stream_name(id: u128) -> String {
    let mut name = format!("{id:032x}");
    name.truncate(STREAM_NAME_LEN);
    name
}

/// Tells some workers to take no more jobs. Answered with the number of their streams.
#[derive(Debug)]
pub enum DrainWorkers {
    /// The stream whose id, of 32 hexadecimal digits, begins like this.
    Stream(String),
    /// All streams of the worker that gave itself this name.
    Named(String),
}

/// Ends the connection of a stream, whose id begins like this, and takes back its jobs at once. Answered with the number
/// of such streams.
#[derive(Debug)]
pub struct CutOff(pub String);

/// Lists the connected workers.
#[derive(Debug)]
pub struct ListWorkers;

/// A connection of a stream. A resumed stream gets a new link, and what the old one says no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    pub stream: u64,
    pub number: u64,
}

/// What kind of connection takes jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// NDJSON and MessagePack: its jobs come back when it closes.
    Bound,
    /// Server-sent events: it can be resumed.
    Events,
    /// A long-poll: its jobs stay leased when it ends.
    Poll,
}

/// Opens a stream for a worker that wants jobs.
#[derive(Debug)]
pub struct OpenStream {
    /// The queues whose jobs its worker may have.
    pub within: Scope,
    pub kind: StreamKind,
    /// None for every queue.
    pub queues: Option<Vec<QueueName>>,
    /// The most jobs it holds at a time; 0: no limit.
    pub prefetch: u32,
    /// How long its leases last, in milliseconds; none: as long as it is open.
    pub lease_ms: Option<u64>,
    /// How long its leases wait for it to come back, in milliseconds.
    pub resume_ms: u64,
    /// The stream to take over, and its last event that arrived.
    pub resume: Option<(u128, u64)>,
    /// The id of a new stream.
    pub id: u128,
    pub outbox: Arc<Outbox>,
    pub about: Box<WorkerInfo>,
}

/// What is known of the worker behind a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The name it gave itself.
    pub worker: Option<String>,
    /// The program that it says it is, as in `User-Agent`.
    pub agent: Option<SmolStr>,
    /// The format of its stream.
    pub format: &'static str,
    /// The address it is connected from.
    pub remote: Option<SocketAddr>,
    /// The id of its access token, if it has one.
    pub by: Option<SmolStr>,
}

impl WorkerInfo {
    /// Whether this is the name of the worker, or of its stream, which has this id.
    pub fn is_called(&self, name: &str, stream: u128) -> bool {
        self.worker.as_deref() == Some(name) || stream_name(stream).eq_ignore_ascii_case(name)
    }
}

/// A stream that was opened.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    pub link: Link,
    pub id: u128,
    pub resumed: bool,
}

/// A connected stream.
#[derive(Debug, Clone)]
pub struct WorkerState {
    pub stream: u128,
    /// Streams that were opened later have greater numbers.
    pub number: u64,
    pub about: WorkerInfo,
    /// None for every queue.
    pub queues: Option<Vec<QueueName>>,
    pub prefetch: u32,
    /// The number of jobs it holds.
    pub in_flight: usize,
    /// In milliseconds since the Unix epoch.
    pub connected_at: u64,
    pub last_release: Option<Arc<LastRelease>>,
}
