//! The job object.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::budget::Binding;
use crate::flow::{Batch, Key, UniqueWhile};
use crate::id::JobId;
use crate::lease::LeaseToken;
use crate::name::{JobType, QueueName};
use crate::number::{integer, opt_integer};
use crate::trace::Trace;

/// The default priority. Lower runs first.
pub const DEFAULT_PRIORITY: u16 = 32_768;

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its `ready_at`.
    Scheduled,
    /// Waits for a worker.
    Ready,
    /// A worker holds a lease on it.
    InFlight,
    /// A worker reported success. Final.
    Completed,
    /// It failed for good (dead-lettered). Final.
    Dead,
}

impl Status {
    /// All statuses, in lifecycle order.
    pub const ALL: [Self; 5] = [Self::Scheduled, Self::Ready, Self::InFlight, Self::Completed, Self::Dead];

    /// The name in the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::InFlight => "in_flight",
            Self::Completed => "completed",
            Self::Dead => "dead",
        }
    }

    /// Whether the job has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Dead)
    }
}

/// The backoff before a retry: `base_ms + attempts^exponent * 1000 + attempts * random(0, jitter_ms)` milliseconds,
/// where `attempts` includes the one that just failed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The constant part, in milliseconds.
    #[serde(deserialize_with = "integer")]
    pub base_ms: u32,
    /// How steeply the pause grows with the attempts.
    #[serde(deserialize_with = "finite_exponent")]
    pub exponent: f32,
    /// The largest random addition per attempt, in milliseconds.
    #[serde(deserialize_with = "integer")]
    pub jitter_ms: u32,
}

fn finite_exponent<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let exponent = f32::deserialize(deserializer)?;
    if (0.0..=100.0).contains(&exponent) {
        Ok(exponent)
    } else {
        Err(serde::de::Error::custom(format_args!("{exponent} is out of range 0 to 100")))
    }
}

/// How long a job is kept after its end. An absent member means the server's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// After a success, in milliseconds.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub completed_ms: Option<u64>,
    /// After its death, in milliseconds.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub dead_ms: Option<u64>,
}

/// The error of the last failed attempt, shortened. `GET /jobs/{id}/errors` has all errors in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The kind of error, for programs.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// What went wrong, for people: the first [`MAX_LAST_ERROR_BYTES`].
    pub message: String,
    /// When it failed, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// How many bytes of a message, and of a type, a [`LastError`] holds.
pub const MAX_LAST_ERROR_BYTES: usize = 1024;

/// A job in an answer, without its payload (which `encode::write_job` adds as bytes).
///
/// Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct JobView<'a> {
    /// The id.
    pub id: JobId,
    /// What the job is about.
    #[serde(rename = "type")]
    pub job_type: &'a JobType,
    /// The queue.
    pub queue: &'a QueueName,
    /// Lower runs first.
    pub priority: u16,
    /// The status.
    pub status: Status,
    /// When it was or will be ready.
    pub ready_at: u64,
    /// Failures so far.
    pub attempts: u32,
    /// How often it is retried after its first attempt; absent: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_limit: Option<u32>,
    /// Its own backoff; absent: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// When it was last delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dequeued_at: Option<u64>,
    /// When it last failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
    /// Why it last failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<&'a LastError>,
    /// When it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<u64>,
    /// Its own retention; absent: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// When the ended job will be purged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<u64>,
    /// How long an attempt may take, in milliseconds; absent: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The unique key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<&'a Key>,
    /// The statuses of an earlier job that would have made this one a duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_while: Option<UniqueWhile>,
    /// The batch that later jobs are folded into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<&'a Batch>,
    /// The tokens that it takes from budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budgets: Option<&'a [Binding]>,
    /// The distributed trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<&'a Trace>,
    /// On delivery: the fencing token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseToken>,
    /// On delivery: when the lease ends unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<u64>,
    /// On delivery: how often the job was delivered, this time included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<u32>,
    /// In the answer to an enqueue: the job is a duplicate, so nothing was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<bool>,
    /// In the answer to an enqueue: the payload was folded into an open batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folded: Option<bool>,
}

/// A job that a worker reads from a JSON stream, with the members that a worker needs.
#[derive(Debug, Clone, Deserialize)]
pub struct DeliveredJob {
    /// The id.
    pub id: JobId,
    /// What the job is about.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// The queue it came from.
    pub queue: QueueName,
    /// Lower runs first.
    pub priority: u16,
    /// Failures so far: 0 on the first attempt.
    pub attempts: u32,
    /// When it became ready, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub ready_at: u64,
    /// The fencing token for reporting the outcome.
    pub lease: LeaseToken,
    /// When the lease ends unless it is renewed, in milliseconds since the Unix epoch; absent: with the stream.
    #[serde(default)]
    pub lease_expires_at: Option<u64>,
    /// How often the job was delivered, this time included.
    #[serde(default)]
    pub deliveries: u32,
    /// The distributed trace that it belongs to.
    #[serde(default)]
    pub trace: Option<Box<Trace>>,
    /// The payload, unparsed: numbers keep every digit.
    pub payload: Box<RawValue>,
}

/// One failed attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// Which attempt failed, counted from 1.
    pub attempt: u32,
    /// What went wrong, in words.
    pub message: String,
    /// A class of errors that programs can tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// When the attempt began, in milliseconds since the Unix epoch.
    pub dequeued_at: u64,
    /// When it failed, in milliseconds since the Unix epoch.
    pub failed_at: u64,
}
