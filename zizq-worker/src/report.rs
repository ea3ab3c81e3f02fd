//! What the worker tells the server about a job: leases, verdicts, reports and heartbeats.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::outcome::Failure;
use serde::{Deserialize, Serialize};

use crate::event::Progress;
use crate::exec::Usage;
use crate::outcome::JobResult;

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
