//! The events that the tasks of a worker send to its pool.

use protocol::id::JobId;
use protocol::job::DeliveredJob;
use protocol::lease::HeartbeatsReply;
use protocol::stream::Cancel;

use crate::config::Config;
use crate::report::{Lease, Left, Progress, Settled};

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
    /// This worker is to finish what it has and end: the terminal that started it is gone (SIGHUP without a configuration
    /// file), or the server was asked to drain it.
    AskedToEnd,
    /// The server does not let this worker take jobs.
    NotAllowed(String),
    /// The configuration was read again.
    Reload(Box<Config>),
}
