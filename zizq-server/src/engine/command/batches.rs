//! Requests about jobs that belong to batches.

use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::payload::Payload;

use super::crons::Firing;
use super::jobs::Waiter;

/// Which batches of these keys are open; the answer is in the order of the keys.
#[derive(Debug)]
pub struct OpenBatches(pub Vec<Key>);

/// Jobs some of which belong to batches.
#[derive(Debug)]
pub struct Fold {
    pub jobs: Vec<NewJob>,
    pub plan: Plan,
    /// Waits for the end of the first job.
    pub waiter: Option<Waiter>,
    /// The cron entry that the job comes from.
    pub firing: Option<Firing>,
}

/// What becomes of jobs that are enqueued together, and of the batches that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every key that a step is about, once.
    pub batches: Vec<Planned>,
    /// One for every job, in their order.
    pub steps: Vec<Step>,
}

/// What becomes of the open batch of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub key: Key,
    /// Which was open when the plan was made; none: none was.
    pub open: Option<Version>,
    /// The payload that it has from now on, where something is folded into it.
    pub payload: Option<Payload>,
}

/// A batch, and all that has been folded into it so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub id: JobId,
    /// Another one after each fold.
    pub token: Option<LeaseToken>,
}

/// What becomes of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is a job by itself.
    Plain,
    /// It is the open batch of its key from now on.
    Opens,
    /// Its payload is in the batch that is open then; it is no job.
    Folds,
}
