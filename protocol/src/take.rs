//! `POST /jobs/take`, the long poll.

use serde::{Deserialize, Serialize};

use crate::name::QueueName;
use crate::number::opt_integer;

/// The most jobs that one poll can ask for.
pub const MAX_POLL_LIMIT: u32 = 1_000;
/// The longest that a call can wait, in milliseconds.
pub const MAX_WAIT_MS: u64 = 60_000;

/// The body of a poll.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// The queues; absent or empty: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<QueueName>>,
    /// The most jobs to return; absent: 1.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How long to wait for the first job, in milliseconds; absent: 0.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How long the leases last, in milliseconds; absent: [`crate::lease::DEFAULT_LEASE_MS`].
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The worker's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}
