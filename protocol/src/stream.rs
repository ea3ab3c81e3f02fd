//! The control events of a server-sent event stream of jobs.

use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// `event: hello`, the first event of every stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The id of the stream, to resume it with `Last-Event-ID`.
    pub stream: String,
    /// Whether the stream named by `Last-Event-ID` was resumed, with its leases.
    pub resumed: bool,
    /// How long a lease lasts without a heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// The longest silence on the stream, in milliseconds.
    pub heartbeat_ms: u64,
    /// The server's name and version.
    pub server: String,
}

/// `event: cancel`: stop this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The job.
    pub id: JobId,
    /// Why.
    pub reason: CancelReason,
}

/// Why a worker should stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// It was deleted.
    Deleted,
    /// It exceeded its `timeout_ms`.
    TimedOut,
    /// It belongs to another worker now, or to none.
    LeaseLost,
}

/// `event: drain`: no more jobs come on this stream; the server still accepts outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Why: the name of a [`DrainReason`], or one that a newer server has.
    pub reason: String,
}

/// Why no more jobs come on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainReason {
    /// The server shuts down. Connect again.
    Shutdown,
    /// Somebody asked for it: the worker should finish what it has, and end.
    Asked,
}

impl DrainReason {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Asked => "asked",
        }
    }
}
