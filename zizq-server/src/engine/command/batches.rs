//! Requests about jobs that belong to batches.

use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::payload::Payload;

use super::crons::Firing;
use super::jobs::Waiter;
use crate::access::Scope;

/// Asks which batches of these keys are open. The answer is in the order of the keys. Refused if one is in none of these
/// queues: its payload is not the caller's to change.
#[derive(Debug)]
pub struct OpenBatches(pub Vec<Key>, pub Scope);

/// Enqueues jobs, some of which belong to batches.
#[derive(Debug)]
pub struct Fold {
    pub jobs: Vec<NewJob>,
    pub plan: Plan,
    /// Waits for the end of the first job.
    pub waiter: Option<Waiter>,
    /// The cron entry that the job comes from.
    pub firing: Option<Firing>,
}

/// The plan for jobs that are enqueued together, and for the batches that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every key that a step refers to, once.
    pub batches: Vec<Planned>,
    /// One step for every job, in their order.
    pub steps: Vec<Step>,
}

/// The plan for the open batch of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub key: Key,
    /// The batch that was open when the plan was made; none if none was.
    pub open: Option<Version>,
    /// Its new payload, if something is folded into it.
    pub payload: Option<Payload>,
}

/// A batch, and everything that has been folded into it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub id: JobId,
    /// Changes with each fold.
    pub token: Option<LeaseToken>,
}

/// The plan for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An ordinary job.
    Plain,
    /// The open batch of its key from now on.
    Opens,
    /// Not a job: its payload goes into the batch that is open at that point.
    Folds,
}
