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

/// Asks since when the oldest ready job of each of these queues has been ready.
#[derive(Debug)]
pub struct OldestReady(pub Vec<QueueName>);

/// Since when the oldest ready job of a queue has been ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldestReadyAt {
    /// There is no ready job.
    None,
    /// In milliseconds since the Unix epoch.
    At(u64),
    /// Nobody has asked for jobs of the queue yet, or memory is short: only the store knows.
    InStore,
}

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
