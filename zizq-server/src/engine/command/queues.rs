//! Requests about queues.

use std::sync::Arc;

use protocol::name::QueueName;

use super::jobs::JobCounts;

/// The numbers of the queues of these names, those that there are.
#[derive(Debug)]
pub struct QueueIds(pub Vec<QueueName>);

/// How queues are.
#[derive(Debug)]
pub struct ListQueues {
    /// None: all that have a job or are paused.
    pub names: Option<Vec<QueueName>>,
}

/// Stop to hand out jobs of a queue, or go on with it.
#[derive(Debug)]
pub struct PauseQueue {
    pub queue: QueueName,
    pub paused: bool,
}

/// Forget that a queue without jobs is paused.
#[derive(Debug)]
pub struct ForgetQueue(pub QueueName);

/// A queue and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    pub name: QueueName,
    pub paused: bool,
    pub counts: JobCounts,
    /// How many connected streams take from it.
    pub workers: u64,
    pub last_release: Option<Arc<LastRelease>>,
}

/// Why a job was given back, the last time that a worker said so. Only memory knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRelease {
    pub reason: String,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    pub queue: QueueName,
    /// The name that its worker gave itself.
    pub worker: Option<String>,
}

impl QueueState {
    /// A queue that nobody has heard of.
    pub fn empty(name: QueueName) -> Self {
        Self { name, paused: false, counts: JobCounts::default(), workers: 0, last_release: None }
    }
}
