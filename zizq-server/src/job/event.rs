//! Status changes of jobs, as listeners receive them.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::{LastError, Status};
use protocol::name::{JobType, QueueName};

/// A status change of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: JobId,
    pub queue: QueueName,
    pub job_type: JobType,
    /// `None`: it is new.
    pub from: Option<Status>,
    /// `None`: it was deleted.
    pub to: Option<Status>,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    pub priority: u16,
    pub attempts: u32,
    /// The error, if the job has just failed.
    pub error: Option<Arc<LastError>>,
}
