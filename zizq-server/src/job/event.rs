//! What listeners hear of jobs.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::{LastError, Status};
use protocol::name::{JobType, QueueName};

/// Something that has happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Status(StatusChange),
    Progress(ProgressReport),
}

/// A status change of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
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

/// What the worker of a job says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressReport {
    pub id: JobId,
    pub queue: QueueName,
    pub job_type: JobType,
    /// In milliseconds since the Unix epoch.
    pub at: u64,
    pub progress: Arc<Progress>,
}

/// How far an attempt is. Kept in memory only, while the job is in flight.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub share: Option<f64>,
    /// The current step, for people.
    pub message: Option<String>,
}
