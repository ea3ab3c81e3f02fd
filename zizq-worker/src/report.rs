//! What the server is told about a job.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::outcome::Failure;
use serde::{Deserialize, Serialize};

use crate::event::Progress;
use crate::exec::Usage;
use crate::outcome::JobResult;

/// A job and the token of the delivery that the worker acts under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) id: JobId,
    #[serde(rename = "lease")]
    pub(crate) token: LeaseToken,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The job is done.
    Success { result: Option<JobResult>, usage: Option<Usage> },
    /// The attempt failed.
    Failure { failure: Failure, usage: Option<Usage> },
    /// The job was not run to its end and is given back, to be ready at once or after a pause.
    Release { delay_ms: Option<u64>, reason: Option<String> },
}

/// A verdict on its way to the server.
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
    /// How long it shall wait.
    pub(crate) delay_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

/// A lease to renew, and how far its job is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beat {
    pub(crate) lease: Lease,
    pub(crate) progress: Option<Progress>,
}
