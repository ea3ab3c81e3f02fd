//! Leases: the right to run one attempt of a job.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::id::JobId;
use crate::number::opt_integer;
use crate::time::opt_time;

/// The shortest lease that a client can ask for, in milliseconds.
pub const MIN_LEASE_MS: u64 = 1_000;
/// The longest lease that a client can ask for, in milliseconds.
pub const MAX_LEASE_MS: u64 = 12 * 60 * 60 * 1_000;
/// The default lease, in milliseconds.
pub const DEFAULT_LEASE_MS: u64 = 30_000;
/// How long the leases of a broken SSE stream wait for its worker to resume, in milliseconds, unless the worker sets it.
pub const DEFAULT_RESUME_MS: u64 = 5_000;

/// How many bytes of the reason of a release are kept.
pub const MAX_REASON_BYTES: usize = 1_024;

/// A fencing token: unique per delivery, and larger than the token of every earlier delivery.
///
/// Clients treat it as an opaque string of 16 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(u64);

impl LeaseToken {
    /// Makes a token of its bits.
    #[must_use]
    pub const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the token.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }
}

/// The text is not a lease token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lease token has 16 characters 0-9 and a-f")]
pub struct InvalidLeaseToken;

impl FromStr for LeaseToken {
    type Err = InvalidLeaseToken;

    fn from_str(text: &str) -> Result<Self, InvalidLeaseToken> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(InvalidLeaseToken);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidLeaseToken)
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LeaseToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = LeaseToken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a lease token (string)")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<LeaseToken, E> {
                text.parse().map_err(|e| E::custom(format_args!("`{}`: {e}", crate::error::excerpt(text))))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// `POST /jobs/{id}/heartbeat`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// How long the lease lasts from now, in milliseconds; absent: its original duration.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The progress, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// The current step, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One job of `POST /jobs/heartbeat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobHeartbeat<I = JobId, L = LeaseToken> {
    /// The job.
    pub id: I,
    /// The token of the delivery.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub lease: Option<L>,
    /// See [`Heartbeat::lease_ms`].
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// See [`Heartbeat::progress`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// See [`Heartbeat::message`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer to a heartbeat for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The job.
    pub id: JobId,
    /// When the lease ends now; absent: with its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<u64>,
    /// Whether the worker should stop the job.
    pub cancel: bool,
}

/// One renewed lease in [`HeartbeatsReply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedLease {
    /// The job.
    pub id: JobId,
    /// When the lease ends now; absent: with its stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<u64>,
}

/// The answer to `POST /jobs/heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatsReply<I = JobId> {
    /// The jobs whose leases were renewed.
    pub jobs: Vec<RenewedLease>,
    /// The jobs whose leases are lost: finished, deleted, or delivered to another worker.
    pub lost: Vec<I>,
    /// The jobs that the worker should stop.
    pub cancel: Vec<JobId>,
}

impl<I> Default for HeartbeatsReply<I> {
    fn default() -> Self {
        Self { jobs: Vec::new(), lost: Vec::new(), cancel: Vec::new() }
    }
}

/// `POST /jobs/{id}/release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// When the job becomes ready again, in milliseconds since the Unix epoch; absent: now.
    #[serde(default, deserialize_with = "opt_time", skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<u64>,
    /// How long it waits from now, in milliseconds; not together with `ready_at`.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Why the job is given back, for people; [`MAX_REASON_BYTES`] of it are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One job of `POST /jobs/release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRelease<I = JobId, L = LeaseToken> {
    /// The job.
    pub id: I,
    /// The token of the delivery.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub lease: Option<L>,
    /// See [`Release::ready_at`].
    #[serde(default, deserialize_with = "opt_time", skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<u64>,
    /// See [`Release::delay_ms`].
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// See [`Release::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
