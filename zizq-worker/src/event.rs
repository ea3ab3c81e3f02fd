//! What the tasks of a worker tell its pool.

use protocol::id::JobId;
use protocol::job::{DeliveredJob, Status};
use protocol::lease::HeartbeatsReply;
use protocol::stream::Cancel;
use serde::Deserialize;

use crate::config::Config;
use crate::delivery::Settled;
use crate::report::Lease;

/// Something happened outside.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream was opened or has ended: who holds what should be made sure of now.
    StreamTurned,
    /// A job came.
    Delivered(Box<DeliveredJob>),
    /// A job came that cannot be read.
    Unreadable { lease: Lease, why: String },
    /// A job must stop.
    Cancelled(Cancel),
    /// A job says how far it is.
    Progress { id: JobId, progress: Progress },
    /// Leases were renewed, as far as the answer says.
    Renewed { asked: Vec<Lease>, reply: HeartbeatsReply },
    /// Leases could not be renewed; it is time to try again.
    RenewalFailed,
    /// A report got its final answer. Where it was refused, with a sentence that says why.
    Settled(Settled),
    /// How many jobs are left, as far as the server could be asked.
    Remaining(Option<Left>),
    /// Whoever started this worker is gone.
    HungUp,
    /// The configuration was read again.
    Reload(Box<Config>),
}

/// A job after a failed attempt, as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct AfterFailure {
    pub(crate) status: Status,
    /// When it will be tried again, in milliseconds since the Unix epoch.
    pub(crate) ready_at: u64,
    /// How often it may be tried again, where it says so itself.
    pub(crate) retry_limit: Option<u32>,
}

/// Jobs that are left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// How many are ready.
    pub(crate) ready: u64,
    /// How many of them are in queues that are paused, and in which.
    pub(crate) held: u64,
    pub(crate) paused: Vec<String>,
    /// How many wait for their next attempt.
    pub(crate) retries: u64,
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// From 0 to 1.
    pub(crate) progress: Option<f64>,
    pub(crate) message: Option<String>,
}
