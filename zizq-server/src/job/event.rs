//! What happens to a job, as those hear of it who listen.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::{LastError, Status};
use protocol::name::{JobType, QueueName};

/// A job has changed its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: JobId,
    pub queue: QueueName,
    pub job_type: JobType,
    /// None: it is new.
    pub from: Option<Status>,
    /// None: it is gone.
    pub to: Option<Status>,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    pub priority: u16,
    pub attempts: u32,
    /// Where the job has just failed: why.
    pub error: Option<Arc<LastError>>,
}
