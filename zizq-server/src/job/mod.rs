//! A job as the engine holds it, and the terms that store and engine share: ids, places, tags, counts, filters.

pub(crate) mod bulk;
pub(crate) mod counts;
pub(crate) mod draw;
pub(crate) mod event;
pub(crate) mod extent;
pub(crate) mod filter;
pub(crate) mod id;
pub(crate) mod place;
pub(crate) mod tag;

use std::sync::Arc;

use bytes::Bytes;
use protocol::flow::{Batch, Flow, Unique};
use protocol::id::JobId;
use protocol::job::{Backoff, JobView, LastError, Retention, Status};
use protocol::lease::LeaseToken;
use protocol::name::{JobType, QueueName};
use protocol::payload::Payload;
use protocol::trace::Trace;

use draw::DrawId;
use id::{Home, QueueId, Stamp};
use place::Place;

/// The number of failures after which any job is dead, whatever its retry limit. A record is kept of each.
pub(crate) const MAX_ATTEMPTS: u32 = if cfg!(test) { 4 } else { 1_000_000 };

/// A larger payload leaves memory once its job has been sent, in bytes.
const MAX_KEPT: usize = if cfg!(test) { 2 } else { 4 * 1024 };

/// Everything about a job. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub queue: QueueId,
    pub priority: u16,
    pub job_type: JobType,
    /// Empty if only the store has it.
    pub payload: Payload,
    /// How many bytes of payload only the store has: all or none. Such a job is in flight.
    pub left_bytes: usize,
    /// Never [`Status::InFlight`]: `engine/streams/lease.rs` tracks who holds a job.
    pub status: Status,
    pub ready_at: u64,
    /// Finished failures.
    pub attempts: u32,
    /// How often it was delivered.
    pub deliveries: u32,
    /// The token of the last delivery that the store knows.
    pub last_lease: Option<LeaseToken>,
    /// Whether that delivery ended without an outcome: its worker may still report until the job is delivered again.
    pub lapsed: bool,
    pub retry_limit: Option<u32>,
    pub backoff: Option<Backoff>,
    pub retention: Option<Retention>,
    pub dequeued_at: Option<u64>,
    pub failed_at: Option<u64>,
    /// The last error, in short.
    pub last_error: Option<Arc<LastError>>,
    pub completed_at: Option<u64>,
    pub purge_at: Option<u64>,
    /// The result, if its worker has reported one.
    pub result: Option<Payload>,
    /// What it draws on budgets until it has ended.
    pub draw: DrawId,
    /// Its optional features, if it uses any.
    pub flow: Option<Box<Flow>>,
}

impl Job {
    /// A ready job to which nothing has happened, and for which nothing is said but what it is. Where it is put at its
    /// enqueue its id says.
    pub(crate) const fn new(stamp: Stamp, home: Home, job_type: JobType, payload: Payload) -> Self {
        Self {
            id: home.id(stamp),
            queue: home.queue,
            priority: home.priority,
            job_type,
            payload,
            left_bytes: 0,
            status: Status::Ready,
            ready_at: 0,
            attempts: 0,
            deliveries: 0,
            last_lease: None,
            lapsed: false,
            retry_limit: None,
            backoff: None,
            retention: None,
            dequeued_at: None,
            failed_at: None,
            last_error: None,
            completed_at: None,
            purge_at: None,
            result: None,
            draw: DrawId::NONE,
            flow: None,
        }
    }

    pub const fn place(&self) -> Place {
        Place {
            status: self.status,
            queue: self.queue,
            draw: self.draw,
            priority: self.priority,
            stamp: Stamp::of(self.id),
        }
    }

    /// Whether it is stored elsewhere than its id tells.
    pub fn is_moved(&self) -> bool {
        Home::of(self.id) != Home { queue: self.queue, priority: self.priority }
    }

    /// When the timer of a job that is not ready fires: to make it ready, or to delete it.
    pub const fn due(&self) -> Option<u64> {
        match self.status {
            Status::Scheduled => Some(self.ready_at),
            Status::Completed | Status::Dead => self.purge_at,
            Status::Ready | Status::InFlight => None,
        }
    }

    /// The time from which its timer was computed by adding a duration; `None`: a user set the date.
    pub const fn dated_from(&self) -> Option<u64> {
        match self.status {
            Status::Scheduled | Status::Dead => self.failed_at,
            Status::Completed => self.completed_at,
            Status::Ready | Status::InFlight => None,
        }
    }

    /// Sets when it becomes ready; replaces any earlier date.
    pub fn wait_until(&mut self, at: u64, now: u64) {
        self.ready_at = at;
        self.failed_at = self.failed_at.map(|failed_at| failed_at.min(now));
    }

    /// Whether the job's retention is over, even if it is not purged yet.
    pub fn is_gone(&self, now: u64) -> bool {
        self.status.is_terminal() && self.purge_at.is_some_and(|at| at <= now)
    }

    /// Whether its payload leaves memory while it is in flight.
    pub const fn is_large(&self) -> bool {
        self.payload.bytes().len() > MAX_KEPT
    }

    /// Leaves a large payload to the store.
    pub fn leave_payload(&mut self) {
        if self.is_large() {
            self.left_bytes = self.payload.bytes().len();
            self.payload = Payload::from_checked(self.payload.format(), Bytes::new());
        }
    }

    /// Takes back a payload that was left to the store.
    pub(crate) fn take_payload(&mut self, payload: Payload) {
        self.payload = payload;
        self.left_bytes = 0;
    }

    /// Its approximate memory with the payload, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.flow.as_ref().map_or(0, |flow| flow.weight())
            + self.payload.bytes().len()
            + self.left_bytes
            + self.result.as_ref().map_or(0, |result| result.bytes().len())
            + self.last_error.as_ref().map_or(0, |error| weight_of(error))
    }

    /// Its unique key, which deduplicates jobs, if it has one.
    pub fn unique(&self) -> Option<&Unique> {
        self.flow.as_ref()?.unique.as_ref()
    }

    /// How later jobs are folded into it while it is open to them.
    pub fn batch(&self) -> Option<&Batch> {
        self.flow.as_ref()?.batch.as_ref()
    }

    /// The distributed trace that it belongs to.
    pub fn trace(&self) -> Option<&Trace> {
        self.flow.as_ref()?.trace.as_deref()
    }

    /// The job as the contract shows it.
    pub fn view<'a>(&'a self, queue: &'a QueueName, status: Status) -> JobView<'a> {
        let unique = self.unique();
        JobView {
            id: self.id,
            job_type: &self.job_type,
            queue,
            priority: self.priority,
            status,
            ready_at: self.ready_at,
            attempts: self.attempts,
            retry_limit: self.retry_limit,
            backoff: self.backoff,
            dequeued_at: self.dequeued_at,
            failed_at: self.failed_at,
            last_error: self.last_error.as_deref(),
            completed_at: self.completed_at,
            retention: self.retention,
            purge_at: self.purge_at,
            timeout_ms: self.flow.as_ref().and_then(|flow| flow.timeout_ms),
            unique_key: unique.map(|unique| &unique.key),
            unique_while: unique.map(|unique| unique.scope),
            batch: self.batch(),
            budgets: self.flow.as_ref().map(|flow| &flow.budgets[..]).filter(|budgets| !budgets.is_empty()),
            trace: self.trace(),
            lease: None,
            lease_expires_at: None,
            deliveries: None,
            duplicate: None,
            folded: None,
        }
    }
}

fn weight_of(error: &LastError) -> usize {
    size_of::<LastError>() + error.message.len() + error.error_type.as_ref().map_or(0, String::len)
}

#[cfg(test)]
impl Job {
    /// A ready job without history, for tests that change what they need.
    pub(crate) fn sample(n: u128) -> Self {
        let home = Home { queue: QueueId(1), priority: 5 };
        let payload = Payload::from_checked(protocol::media::Format::Json, Bytes::from_static(b"null"));
        Self::new(Stamp::from_bits(n), home, JobType::new("t").unwrap(), payload)
    }
}
