//! What the server is told about a job.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::outcome::Failure;

/// A job and the token of the delivery that the worker acts under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) id: JobId,
    pub(crate) token: LeaseToken,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The job is done.
    Success,
    /// The attempt failed.
    Failure(Failure),
    /// The job was not run to its end and is given back, to be ready at once or then.
    Release { ready_at: Option<u64> },
}

/// A verdict on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) lease: Lease,
    pub(crate) verdict: Arc<Verdict>,
}
