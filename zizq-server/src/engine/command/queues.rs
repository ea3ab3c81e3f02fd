//! Requests about queues.

use std::sync::Arc;

use protocol::name::QueueName;

use super::jobs::JobCounts;

/// Asks for the numbers of the existing queues among these names.
#[derive(Debug)]
pub struct QueueIds(pub Vec<QueueName>);

/// Asks for the state of queues.
#[derive(Debug)]
pub struct ListQueues {
    /// None for all that have a job or are paused.
    pub names: Option<Vec<QueueName>>,
}

/// Pauses a queue, or resumes it.
#[derive(Debug)]
pub struct PauseQueue {
    pub queue: QueueName,
    pub paused: bool,
}

/// Forgets that a queue without jobs is paused.
#[derive(Debug)]
pub struct ForgetQueue(pub QueueName);

/// The state of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    pub name: QueueName,
    pub paused: bool,
    pub counts: JobCounts,
    /// The number of connected streams that take from it.
    pub workers: u64,
    pub last_release: Option<Arc<LastRelease>>,
}

/// Why a worker last gave back a job with a reason. Kept only in memory.
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
    /// The state of a queue that has never been used.
    pub fn empty(name: QueueName) -> Self {
        Self { name, paused: false, counts: JobCounts::default(), workers: 0, last_release: None }
    }
}
