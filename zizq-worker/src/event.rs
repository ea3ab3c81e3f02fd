//! The events that the tasks of a worker send to its pool.

use protocol::id::JobId;
use protocol::job::{DeliveredJob, Status};
use protocol::lease::HeartbeatsReply;
use protocol::stream::Cancel;
use serde::Deserialize;

use crate::config::Config;
use crate::delivery::Settled;
use crate::report::Lease;

/// An event from outside the pool.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream opened or ended: time for a heartbeat.
    StreamTurned,
    /// A job was delivered.
    Delivered(Box<DeliveredJob>),
    /// A job was delivered, but cannot be read.
    Unreadable { lease: Lease, why: String },
    /// The server cancelled a job.
    Cancelled(Cancel),
    /// A job reported progress.
    Progress { id: JobId, progress: Progress },
    /// A heartbeat was answered.
    Renewed { asked: Vec<Lease>, reply: HeartbeatsReply },
    /// A heartbeat failed; time for another.
    RenewalFailed,
    /// A report got its final answer.
    Settled(Settled),
    /// How many jobs are left. `None`: the server could not be asked.
    Remaining(Option<Left>),
    /// The terminal that started this worker is gone (SIGHUP without a configuration file).
    HungUp,
    /// The configuration was read again.
    Reload(Box<Config>),
}

/// A job after a failed attempt, from the server's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct AfterFailure {
    pub(crate) status: Status,
    /// When it will be retried, in milliseconds since the Unix epoch.
    pub(crate) ready_at: u64,
    /// The job's own retry limit, if it has one.
    pub(crate) retry_limit: Option<u32>,
}

/// Jobs that are left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// How many are ready.
    pub(crate) ready: u64,
    /// How many of them are in paused queues, and in which.
    pub(crate) held: u64,
    pub(crate) paused: Vec<String>,
    /// How many wait for a retry.
    pub(crate) retries: u64,
}

/// The progress of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// From 0 to 1.
    pub(crate) progress: Option<f64>,
    pub(crate) message: Option<String>,
}
