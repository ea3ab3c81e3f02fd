//! What worker and server tell each other about a job: leases, verdicts, reports, heartbeats, and what is answered.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;
use protocol::lease::LeaseToken;
use protocol::outcome::Failure;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A job and its lease token, the fencing token of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) id: JobId,
    #[serde(rename = "lease")]
    pub(crate) token: LeaseToken,
}

/// The outcome of a delivery, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The job succeeded.
    Success { result: Option<JobResult>, usage: Option<Usage> },
    /// The attempt failed.
    Failure { failure: Failure, usage: Option<Usage> },
    /// The job was not run to its end. It is given back, to be ready at once or after a pause.
    Release { delay_ms: Option<u64>, reason: Option<String> },
}

/// A verdict, with the lease that it is reported under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) lease: Lease,
    pub(crate) verdict: Arc<Verdict>,
}

/// A job to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenBack {
    pub(crate) lease: Lease,
    /// How long it waits before it is ready, in milliseconds.
    pub(crate) delay_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

/// A lease to renew, and the progress of its job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heartbeat {
    pub(crate) lease: Lease,
    pub(crate) progress: Option<Progress>,
}

/// The result of a job: JSON as it came, compared by its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct JobResult(pub(crate) Box<RawValue>);

impl PartialEq for JobResult {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for JobResult {}

/// The resources that a command used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Wall-clock time in milliseconds.
    pub(crate) wall_ms: u64,
    /// CPU time in milliseconds: of all processes in its cgroup; without a cgroup, of it and the children it waited for.
    pub(crate) cpu_ms: u64,
    /// Peak memory in bytes: of all processes in its cgroup, cached files included; without a cgroup, of the largest
    /// process. Absent if it is less than this worker holds, because a new process counts the memory of its parent as its
    /// own until it executes another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peak_bytes: Option<u64>,
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

/// The final answer to a report.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    /// Why it was refused, if it was.
    pub(crate) refused: Option<String>,
    /// Whether the report was a success.
    pub(crate) is_success: bool,
    /// What follows a failure.
    pub(crate) after: Option<AfterFailure>,
}
