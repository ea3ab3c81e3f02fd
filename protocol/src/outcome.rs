//! The reports of workers: success and failure, single and in bulk.

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::body::{Malformed, parse_tolerant_known};
use crate::id::JobId;
use crate::lease::LeaseToken;
use crate::media::Format;
use crate::number::opt_integer;
use crate::payload::Payload;
use crate::time::opt_time;
use crate::{json, msgpack};

/// The largest result of a job, in bytes.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// Reads the optional body of `POST /jobs/{id}/success`: `{"result": <any JSON>}`. Unknown members are ignored, as in
/// [`parse_failure`]: the work is done, and a refusal would get it redone.
///
/// # Errors
/// [`Malformed`], in one sentence that names the field.
pub fn parse_success(format: Format, body: &Bytes) -> Result<Option<Payload>, Malformed> {
    if body.is_empty() {
        return Ok(None);
    }
    match format {
        Format::Json => {
            json::check(body)?;
            let success: Success<&RawValue> = parse_tolerant_known(format, body, &["result"])?;
            let result = success.result.map(|text| Payload::from_json(body, text.get())).transpose();
            result.map_err(|Malformed(e)| Malformed(e.replacen("payload", "result", 1)))
        }
        Format::MessagePack => {
            let span = msgpack::result_of_success(body)?.into_iter().next();
            let _: Success<IgnoredAny> = parse_tolerant_known(format, body, &["result"])?;
            Ok(span.map(|span| Payload::from_checked(format, body.slice(span))))
        }
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
struct Success<R> {
    #[serde(default, deserialize_with = "given")]
    result: Option<R>,
    /// The resources that the run used. Workers send it, but it is not kept so far.
    #[serde(default, rename = "usage")]
    _usage: IgnoredAny,
}

/// A value that is present, even if it is null.
fn given<'de, D: Deserializer<'de>, R: Deserialize<'de>>(deserializer: D) -> Result<Option<R>, D::Error> {
    R::deserialize(deserializer).map(Some)
}

/// Reads the body of `POST /jobs/{id}/failure`. Unknown members, which newer clients may send, are ignored, unless they are
/// a known member under another name.
///
/// # Errors
/// [`Malformed`], in one sentence that names the field.
pub fn parse_failure(format: Format, body: &[u8]) -> Result<Failure, Malformed> {
    const MEMBERS: [&str; 6] = ["message", "error_type", "backtrace", "retry_at", "delay_ms", "kill"];
    parse_tolerant_known(format, body, &MEMBERS)
}

/// `POST /jobs/{id}/failure`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What went wrong, for people.
    pub message: String,
    /// The kind of error, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// When to retry, in milliseconds since the Unix epoch; absent: by the job's backoff.
    #[serde(default, deserialize_with = "opt_time", skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<u64>,
    /// The pause before a retry, in milliseconds, instead of the job's backoff.
    #[serde(default, deserialize_with = "opt_integer", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Do not retry.
    #[serde(default, skip_serializing_if = "is_not_true")]
    pub kill: Option<bool>,
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn is_not_true(flag: &Option<bool>) -> bool {
    *flag != Some(true)
}

/// A job and, if the caller knows it, the fencing token of its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasedJob<I = JobId, L = LeaseToken> {
    /// The job.
    pub id: I,
    /// The fencing token.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub lease: Option<L>,
}

/// `POST /jobs/success`: `{"ids": [...]}`, `{"jobs": [{"id", "lease"}]}`, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Successes {
    /// Jobs without tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<JobId>,
    /// Jobs with tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<LeasedJob>,
}

/// The 422 of a bulk call: these jobs were not changed, all others were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDone<I = JobId> {
    /// Jobs that do not exist or were not in flight.
    pub not_found: Vec<I>,
    /// Jobs whose fencing token is stale.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<I>,
}

impl<I> Default for NotDone<I> {
    fn default() -> Self {
        Self { not_found: Vec::new(), lost: Vec::new() }
    }
}
