//! `POST /jobs` and `POST /jobs/bulk`.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body::{Malformed, members};
use crate::job::{Backoff, DEFAULT_PRIORITY, Retention};
use crate::media::Format;
use crate::name::{JobType, QueueName};
use crate::number::{opt_integer, opt_time};
use crate::object::Object;
use crate::payload::Payload;
use crate::{json, msgpack};

/// A job that somebody wants to have done.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The queue.
    pub queue: QueueName,
    /// What it is about.
    pub job_type: JobType,
    /// Any JSON value.
    pub payload: Payload,
    /// Lower runs first.
    pub priority: u16,
    /// When it shall be ready, in milliseconds since the Unix epoch; absent: now.
    pub ready_at: Option<u64>,
    /// Failures after which it is dead; absent: the server's default.
    pub retry_limit: Option<u32>,
    /// Its own backoff; absent: the server's default.
    pub backoff: Option<Backoff>,
    /// Its own retention; absent: the server's default.
    pub retention: Option<Retention>,
}

/// Why an enqueue was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The body is wrong (400).
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The body asks for what the server does not do yet (422).
    #[error("{0}")]
    NotSupported(String),
}

/// Reads the body of `POST /jobs`.
///
/// # Errors
/// [`EnqueueError`], in one sentence that names the field.
pub fn parse_job(format: Format, body: &Bytes) -> Result<NewJob, EnqueueError> {
    match format {
        Format::Json => {
            json::check(body)?;
            let request: Request<&RawValue> = members(format, body)?;
            let payload = Payload::from_json(body, request.payload.get())?;
            request.into_job(payload).map_err(EnqueueError::NotSupported)
        }
        Format::MessagePack => {
            let spans = msgpack::payload_of_job(body)?;
            let request: Request<IgnoredAny> = members(format, body)?;
            let span = spans.into_iter().next().unwrap_or_default();
            let payload = Payload::from_checked(format, body.slice(span));
            request.into_job(payload).map_err(EnqueueError::NotSupported)
        }
    }
}

/// Reads the body of `POST /jobs/bulk`. A message about one of the jobs begins with `jobs[i]: `.
///
/// # Errors
/// [`EnqueueError`] for the first bad job.
pub fn parse_bulk(format: Format, body: &Bytes) -> Result<Vec<NewJob>, EnqueueError> {
    match format {
        Format::Json => {
            json::check(body)?;
            let bulk: Bulk<&RawValue> = members(format, body)?;
            collect(bulk, |_, request| Payload::from_json(body, request.payload.get()))
        }
        Format::MessagePack => {
            let spans = msgpack::payloads_of_bulk(body)?;
            let bulk: Bulk<IgnoredAny> = members(format, body)?;
            collect(bulk, |i, _| {
                let span = spans.get(i).cloned().unwrap_or_default();
                Ok(Payload::from_checked(format, body.slice(span)))
            })
        }
    }
}

fn collect<P>(
    bulk: Bulk<P>,
    payload: impl Fn(usize, &Request<P>) -> Result<Payload, Malformed>,
) -> Result<Vec<NewJob>, EnqueueError> {
    let mut jobs = Vec::with_capacity(bulk.jobs.len());
    for (i, Object(request)) in bulk.jobs.into_iter().enumerate() {
        let payload = payload(i, &request).map_err(|Malformed(e)| Malformed(format!("jobs[{i}]: {e}")))?;
        let job =
            request.into_job(payload).map_err(|e| EnqueueError::NotSupported(format!("jobs[{i}]: {e}")))?;
        jobs.push(job);
    }
    Ok(jobs)
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
struct Bulk<P> {
    jobs: Vec<Object<Request<P>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
struct Request<P> {
    queue: QueueName,
    #[serde(rename = "type")]
    job_type: JobType,
    payload: P,
    #[serde(default, deserialize_with = "opt_integer")]
    priority: Option<u16>,
    #[serde(default, deserialize_with = "opt_time")]
    ready_at: Option<u64>,
    #[serde(default, deserialize_with = "opt_integer")]
    retry_limit: Option<u32>,
    #[serde(default)]
    backoff: Option<Object<Backoff>>,
    #[serde(default)]
    retention: Option<Object<Retention>>,
    #[serde(default)]
    unique_key: Option<IgnoredAny>,
    #[serde(default)]
    unique_while: Option<IgnoredAny>,
    #[serde(default)]
    batch: Option<IgnoredAny>,
    #[serde(default)]
    budgets: Option<IgnoredAny>,
    #[serde(default)]
    timeout_ms: Option<IgnoredAny>,
}

impl<P> Request<P> {
    fn into_job(self, payload: Payload) -> Result<NewJob, String> {
        let features = [
            ("unique_key", &self.unique_key),
            ("unique_while", &self.unique_while),
            ("batch", &self.batch),
            ("budgets", &self.budgets),
            ("timeout_ms", &self.timeout_ms),
        ];
        if let Some((name, _)) = features.iter().find(|(_, used)| used.is_some()) {
            return Err(format!("{name} is not supported yet"));
        }
        Ok(NewJob {
            queue: self.queue,
            job_type: self.job_type,
            payload,
            priority: self.priority.unwrap_or(DEFAULT_PRIORITY),
            ready_at: self.ready_at,
            retry_limit: self.retry_limit,
            backoff: self.backoff.map(|Object(b)| b),
            retention: self.retention.map(|Object(r)| r),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::MAX_NESTING;
    use serde_json::json;

    fn refusal(body: &serde_json::Value) -> String {
        let json = parse_bulk(Format::Json, &Bytes::from(body.to_string())).unwrap_err().to_string();
        let packed =
            parse_bulk(Format::MessagePack, &Bytes::from(rmp_serde::to_vec(body).unwrap())).unwrap_err();
        assert_eq!(json, packed.to_string());
        json
    }

    #[test]
    fn payload_is_kept_to_the_byte_and_null_is_a_payload() {
        let body = Bytes::from_static(br#"{"queue":"q","type":"t","payload": {"a" : 1.0} ,"priority":7.0}"#);
        let job = parse_job(Format::Json, &body).unwrap();
        assert_eq!(&job.payload.bytes()[..], br#"{"a" : 1.0}"#);
        assert_eq!(job.priority, 7);
        let body = Bytes::from_static(br#"{"queue":"q","type":"t","payload":null,"backoff":null}"#);
        assert_eq!(&parse_job(Format::Json, &body).unwrap().payload.bytes()[..], b"null");
        let body =
            Bytes::from(rmp_serde::to_vec(&json!({"queue": "q", "type": "t", "payload": null})).unwrap());
        assert_eq!(&parse_job(Format::MessagePack, &body).unwrap().payload.bytes()[..], [0xc0]);
    }

    #[test]
    fn refusals_are_the_same_in_both_formats() {
        let good = json!({"queue": "q", "type": "t", "payload": 1});
        let with = |member: &str, value: serde_json::Value| {
            let mut job = good.clone();
            job[member] = value;
            json!({"jobs": [good, job]})
        };
        assert_eq!(
            refusal(&json!({"jobs": [{"queue": "q", "type": "t"}]})),
            "jobs[0]: missing field `payload`"
        );
        assert_eq!(refusal(&with("queue", json!(""))), "jobs[1]: queue: a name must not be empty");
        assert_eq!(
            refusal(&with("priority", json!(65_536))),
            "jobs[1]: priority: 65536 is out of range 0 to 65535"
        );
        assert_eq!(refusal(&with("unique_key", json!("k"))), "jobs[1]: unique_key is not supported yet");
        assert_eq!(refusal(&with("batch", json!({}))), "jobs[1]: batch is not supported yet");
    }

    #[test]
    fn nesting_counts_from_the_body() {
        let deep =
            |n: usize| format!(r#"{{"queue":"q","type":"t","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse_job(Format::Json, &Bytes::from(deep(MAX_NESTING - 1))).is_ok());
        assert!(parse_job(Format::Json, &Bytes::from(deep(MAX_NESTING))).is_err());
    }
}
