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
    /// The job was not run to its end and is given back, to be ready at once or then.
    Release { ready_at: Option<u64> },
}

/// A verdict on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) lease: Lease,
    pub(crate) verdict: Arc<Verdict>,
}

/// A lease to renew, and how far its job is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beat {
    pub(crate) lease: Lease,
    pub(crate) progress: Option<Progress>,
}
