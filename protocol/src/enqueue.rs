//! `POST /jobs` and `POST /jobs/bulk`: reads and checks the jobs to enqueue.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::body::{Malformed, opt_name, refuse_translated, tolerant_members};
use crate::budget::{KeyedBindingRequest, NewBinding, Policy, check_bindings};
use crate::flow::{Batch, Flow, Key, Unique, UniqueWhile};
use crate::job::{Backoff, DEFAULT_PRIORITY, Retention};
use crate::media::Format;
use crate::name::{BudgetKey, JobType, QueueName};
use crate::number::opt_integer;
use crate::object::{Heard, Object};
use crate::payload::Payload;
use crate::time::{self, opt_time};
use crate::trace::{Trace, TraceMembers};
use crate::{json, msgpack};

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The queue.
    pub queue: QueueName,
    /// The type.
    pub job_type: JobType,
    /// Any JSON value.
    pub payload: Payload,
    /// Lower runs first.
    pub priority: u16,
    /// When it becomes ready, in milliseconds since the Unix epoch; absent: now.
    pub ready_at: Option<u64>,
    /// How often it is retried after its first attempt; 0: never; absent: the server's default.
    pub retry_limit: Option<u32>,
    /// Its own backoff; absent: the server's default.
    pub backoff: Option<Backoff>,
    /// Its own retention; absent: the server's default.
    pub retention: Option<Retention>,
    /// The options that few jobs use.
    pub flow: Option<Box<Flow>>,
    /// Budgets to create, if they do not exist.
    pub create_budgets: Vec<(BudgetKey, Policy)>,
}

impl NewJob {
    /// The trace context, if it has one.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.flow.as_ref()?.trace.as_deref()
    }

    /// Gives it the trace context of its call, unless it has one of its own.
    pub fn inherit(&mut self, trace: &Trace) {
        let flow = self.flow.get_or_insert_default();
        flow.trace.get_or_insert_with(|| Box::new(trace.clone()));
    }
}

/// Why an enqueue was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The body is wrong (400).
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The body is well-formed, but asks for something impossible (422).
    #[error("{0}")]
    NotAllowed(String),
}

impl EnqueueError {
    /// Prepends the place in the body.
    fn inside(self, place: &str) -> Self {
        match self {
            Self::Malformed(Malformed(e)) => Self::Malformed(Malformed(format!("{place}{e}"))),
            Self::NotAllowed(e) => Self::NotAllowed(format!("{place}{e}")),
        }
    }
}

fn malformed<T>(error: impl Into<String>) -> Result<T, EnqueueError> {
    Err(Malformed(error.into()).into())
}

/// A parsed job.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The job.
    pub job: NewJob,
    /// The unknown members, such as `meta` or `backoff.factor`; a newer version may know them.
    pub ignored: Vec<String>,
}

/// The parsed jobs of a bulk call.
#[derive(Debug, Clone, Default)]
pub struct ParsedBulk {
    /// The jobs.
    pub jobs: Vec<NewJob>,
    /// The unknown members of jobs, by the index of the job.
    pub ignored_of_jobs: Vec<(usize, Vec<String>)>,
    /// The unknown members beside `jobs`.
    pub ignored: Vec<String>,
}

/// The members of a job.
pub const MEMBERS: [&str; 15] = [
    "queue",
    "type",
    "payload",
    "priority",
    "ready_at",
    "delay_ms",
    "retry_limit",
    "backoff",
    "retention",
    "unique_key",
    "unique_while",
    "batch",
    "budgets",
    "timeout_ms",
    "trace",
];

/// Reads the body of `POST /jobs`, at the time `now` in milliseconds since the Unix epoch.
///
/// # Errors
/// [`EnqueueError`], in one sentence that names the field.
pub fn parse_job(format: Format, body: &Bytes, now: u64) -> Result<Parsed, EnqueueError> {
    if is_array(format, body) {
        return malformed(
            "the body: expected an object; POST /jobs/bulk takes several jobs: {\"jobs\": [...]}",
        );
    }
    match format {
        Format::Json => {
            json::check(body)?;
            let Heard { value, unknown } = tolerant::<Request<&RawValue>>(format, body)?;
            let payload = Payload::from_json(body, value.payload.get())?;
            value.parsed(payload, unknown, now)
        }
        Format::MessagePack => {
            let spans = msgpack::payload_of_job(body)?;
            let Heard { value, unknown } = tolerant::<Request<IgnoredAny>>(format, body)?;
            let span = spans.into_iter().next().unwrap_or_default();
            let payload = Payload::from_checked(format, body.slice(span));
            value.parsed(payload, unknown, now)
        }
    }
}

/// Reads the body of `POST /jobs/bulk`, at the time `now`. An error about a job begins with `jobs[i]: `.
///
/// # Errors
/// [`EnqueueError`] for the first bad job.
pub fn parse_bulk(format: Format, body: &Bytes, now: u64) -> Result<ParsedBulk, EnqueueError> {
    if is_array(format, body) {
        return malformed("the body: expected an object, not an array: {\"jobs\": [...]}");
    }
    match format {
        Format::Json => {
            json::check(body)?;
            let bulk = tolerant::<Bulk<&RawValue>>(format, body)?;
            collect(bulk, now, |_, request| Payload::from_json(body, request.payload.get()))
        }
        Format::MessagePack => {
            let spans = msgpack::payloads_of_bulk(body)?;
            let bulk = tolerant::<Bulk<IgnoredAny>>(format, body)?;
            collect(bulk, now, |i, _| {
                let span = spans.get(i).cloned().unwrap_or_default();
                Ok(Payload::from_checked(format, body.slice(span)))
            })
        }
    }
}

fn is_array(format: Format, body: &[u8]) -> bool {
    match format {
        Format::Json => body.trim_ascii_start().first() == Some(&b'['),
        Format::MessagePack => matches!(body.first(), Some(0x90..=0x9f | 0xdc | 0xdd)),
    }
}

fn tolerant<'a, T: Deserialize<'a>>(format: Format, body: &'a [u8]) -> Result<Heard<T>, Malformed> {
    tolerant_members(format, body).map_err(|refused| refused.explain(&MEMBERS))
}

fn collect<P>(
    bulk: Heard<Bulk<P>>,
    now: u64,
    payload: impl Fn(usize, &Request<P>) -> Result<Payload, Malformed>,
) -> Result<ParsedBulk, EnqueueError> {
    let Heard { value: bulk, unknown: ignored } = bulk;
    if let Some(name) = ignored.iter().find(|name| MEMBERS.contains(&name.as_str())) {
        return malformed(format!("{name}: it belongs in each of the jobs, not beside them"));
    }
    let (mut jobs, mut ignored_of_jobs) = (Vec::with_capacity(bulk.jobs.len()), Vec::new());
    for (i, Heard { value, unknown }) in bulk.jobs.into_iter().enumerate() {
        let job = payload(i, &value).map_err(EnqueueError::from);
        let parsed = job.and_then(|payload| value.parsed(payload, unknown, now));
        let Parsed { job, ignored } = parsed.map_err(|e| e.inside(&format!("jobs[{i}]: ")))?;
        jobs.push(job);
        if !ignored.is_empty() {
            ignored_of_jobs.push((i, ignored));
        }
    }
    Ok(ParsedBulk { jobs, ignored_of_jobs, ignored })
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
struct Bulk<P> {
    jobs: Vec<Heard<Request<P>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
#[serde(deny_unknown_fields)]
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
    delay_ms: Option<u64>,
    #[serde(default, deserialize_with = "opt_integer")]
    retry_limit: Option<u32>,
    #[serde(default)]
    backoff: Option<Object<Backoff>>,
    #[serde(default)]
    retention: Option<Object<Retention>>,
    #[serde(default)]
    unique_key: Option<Key>,
    #[serde(default, deserialize_with = "opt_name")]
    unique_while: Option<UniqueWhile>,
    #[serde(default)]
    batch: Option<Object<Batch>>,
    #[serde(default)]
    budgets: Option<Vec<Object<KeyedBindingRequest>>>,
    #[serde(default, deserialize_with = "opt_integer")]
    timeout_ms: Option<u64>,
    #[serde(default)]
    trace: Option<Object<TraceMembers>>,
}

impl<P> Request<P> {
    fn parsed(self, payload: Payload, ignored: Vec<String>, now: u64) -> Result<Parsed, EnqueueError> {
        refuse_translated(&ignored, &MEMBERS)?;
        Ok(Parsed { job: self.into_job(payload, now)?, ignored })
    }

    fn into_job(self, payload: Payload, now: u64) -> Result<NewJob, EnqueueError> {
        let ready_at = time::resolve(self.ready_at, "ready_at", self.delay_ms, now).map_err(Malformed)?;
        if self.batch.is_some() && self.unique_key.is_some() {
            return malformed("batch: it cannot be used together with unique_key");
        }
        if self.timeout_ms == Some(0) {
            return malformed("timeout_ms: 0 would leave no time to run; leave it out for no timeout");
        }
        let unique = match (self.unique_key, self.unique_while) {
            (None, Some(_)) => return malformed("unique_while: it needs unique_key"),
            (None, None) => None,
            (Some(key), scope) => Some(Unique { key, scope: scope.unwrap_or_default() }),
        };
        let bindings = check_bindings(self.budgets.unwrap_or_default()).map_err(EnqueueError::NotAllowed)?;
        let create = |new: &NewBinding| Some((new.binding.key.clone(), new.create_with?));
        let create_budgets = bindings.iter().filter_map(create).collect();
        let budgets = bindings.into_iter().map(|new| new.binding).collect();
        let flow = Flow {
            timeout_ms: self.timeout_ms,
            unique,
            batch: self.batch.map(|Object(b)| b),
            budgets,
            trace: self.trace.map(|Object(trace)| Box::new(trace.into())),
        };
        Ok(NewJob {
            queue: self.queue,
            job_type: self.job_type,
            payload,
            priority: self.priority.unwrap_or(DEFAULT_PRIORITY),
            ready_at,
            retry_limit: self.retry_limit,
            backoff: self.backoff.map(|Object(b)| b),
            retention: self.retention.map(|Object(r)| r),
            flow: flow.boxed(),
            create_budgets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::MAX_NESTING;
    use serde_json::json;

    fn refusal(body: &serde_json::Value) -> String {
        let json = parse_bulk(Format::Json, &Bytes::from(body.to_string()), 0).unwrap_err().to_string();
        let packed =
            parse_bulk(Format::MessagePack, &Bytes::from(rmp_serde::to_vec(body).unwrap()), 0).unwrap_err();
        assert_eq!(json, packed.to_string());
        json
    }

    #[test]
    fn payload_is_kept_to_the_byte_and_null_is_a_payload() {
        let body = Bytes::from_static(br#"{"queue":"q","type":"t","payload": {"a" : 1.0} ,"priority":7.0}"#);
        let Parsed { job, .. } = parse_job(Format::Json, &body, 0).unwrap();
        assert_eq!(&job.payload.bytes()[..], br#"{"a" : 1.0}"#);
        assert_eq!(job.priority, 7);
        let body = Bytes::from_static(br#"{"queue":"q","type":"t","payload":null,"backoff":null}"#);
        assert_eq!(&parse_job(Format::Json, &body, 0).unwrap().job.payload.bytes()[..], b"null");
        let body =
            Bytes::from(rmp_serde::to_vec(&json!({"queue": "q", "type": "t", "payload": null})).unwrap());
        assert_eq!(&parse_job(Format::MessagePack, &body, 0).unwrap().job.payload.bytes()[..], [0xc0]);
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
        assert_eq!(refusal(&with("unique_key", json!(""))), "jobs[1]: unique_key: a key must not be empty");
        assert_eq!(
            refusal(&with("unique_while", json!("active"))),
            "jobs[1]: unique_while: it needs unique_key"
        );
        for (wrong, shown) in [(json!(5), "integer `5`"), (json!({"active": null}), "map")] {
            assert_eq!(
                refusal(&with("unique_while", wrong)),
                format!("jobs[1]: unique_while: invalid type: {shown}, expected a string")
            );
        }
        assert!(
            refusal(&with("unique_while", json!("x")))
                .starts_with("jobs[1]: unique_while: `x` is none of queued, active, exists")
        );
        assert_eq!(
            refusal(&with("timeout_ms", json!(0))),
            "jobs[1]: timeout_ms: 0 would leave no time to run; leave it out for no timeout"
        );
        assert_eq!(refusal(&with("batch", json!({"key": "k"}))), "jobs[1]: batch: missing field `when`");
        let batch = |key: &str, when: &str| json!({"key": key, "when": when, "fold": "$new"});
        assert_eq!(refusal(&with("batch", batch("", "true"))), "jobs[1]: batch.key: a key must not be empty");
        let long = refusal(&with("batch", batch("k", &"x".repeat(20_000))));
        assert!(long.starts_with("jobs[1]: batch.when: an expression has at most 16384 bytes"), "{long}");
        let mut both = with("batch", batch("k", "true"));
        both["jobs"][1]["unique_key"] = json!("u");
        assert_eq!(refusal(&both), "jobs[1]: batch: it cannot be used together with unique_key");
    }

    #[test]
    fn a_bad_trace_is_refused_by_its_member() {
        let good = json!({"queue": "q", "type": "t", "payload": 1});
        let with = |member: &str, value: serde_json::Value| {
            let mut job = good.clone();
            job[member] = value;
            json!({"jobs": [good, job]})
        };
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (trace, expected) in [
            (json!(parent), format!("trace: invalid type: string \"{parent}\", expected an object")),
            (json!({}), "trace: missing field `traceparent`".to_owned()),
            (
                json!({"traceparent": 1}),
                "trace.traceparent: invalid type: integer `1`, expected a string".to_owned(),
            ),
            (
                json!({"traceparent": parent.replacen("00-", "ff-", 1)}),
                "trace.traceparent: version ff of traceparent is not allowed".to_owned(),
            ),
            (
                json!({"traceparent": parent, "tracestate": "a"}),
                "trace.tracestate: `a` is no member of a tracestate; expected KEY=VALUE".to_owned(),
            ),
        ] {
            assert_eq!(refusal(&with("trace", trace)), format!("jobs[1]: {expected}"));
        }
    }

    /// The ignored members, the same in both formats.
    fn ignored(job: &serde_json::Value) -> Result<Vec<String>, String> {
        let read = |format, body: Vec<u8>| {
            let parsed = parse_job(format, &Bytes::from(body), 0).map_err(|e| e.to_string())?;
            assert_eq!(parsed.job.queue.as_str(), "q");
            Ok(parsed.ignored)
        };
        let json = read(Format::Json, job.to_string().into_bytes());
        assert_eq!(json, read(Format::MessagePack, rmp_serde::to_vec(job).unwrap()));
        json
    }

    #[test]
    fn unknown_members_are_listed_and_those_of_other_queues_refused() {
        let with = |name: &str, value: serde_json::Value| {
            let mut job = json!({"queue": "q", "type": "t", "payload": {"delay": 1}});
            job[name] = value;
            ignored(&job)
        };
        assert_eq!(with("priority", json!(1)), Ok(vec![]));
        assert_eq!(with("trace_id", json!({"queue": 1})), Ok(vec!["trace_id".to_owned()]));
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let later = json!({"traceparent": parent, "tracestate": null, "baggage": {"traceparent": 1}});
        assert_eq!(with("trace", later), Ok(vec!["trace.baggage".to_owned()]));
        assert_eq!(
            with("traceparent", json!(parent)),
            Err("traceparent: there is no such member here; did you mean `trace`?".to_owned())
        );
        let backoff = json!({"base_ms": 1, "exponent": 2, "jitter_ms": 0, "factor": [2]});
        assert_eq!(with("backoff", backoff), Ok(vec!["backoff.factor".to_owned()]));
        let budgets = json!([]);
        assert_eq!(with("budgets", budgets), Ok(vec![]));
        assert_eq!(
            with("runAt", json!(5)),
            Err("runAt: there is no such member here; did you mean `ready_at`?".to_owned())
        );
        let args = json!({"queue": "q", "type": "t", "args": [1]});
        assert_eq!(
            ignored(&args),
            Err("args: there is no such member here; did you mean `payload`?".to_owned()),
            "what is missing may be there under another name"
        );
        let bulk = json!({"jobs": [{"queue": "q", "type": "t", "payload": 1}, args]});
        assert_eq!(refusal(&bulk), "jobs[1]: args: there is no such member here; did you mean `payload`?");
        assert_eq!(
            refusal(&json!({"jobs": [], "queue": "q"})),
            "queue: it belongs in each of the jobs, not beside them"
        );
        let body = json!({"jobs": [{"queue": "q", "type": "t", "payload": 1, "a": 1}], "atomic": true});
        let parsed = parse_bulk(Format::Json, &Bytes::from(body.to_string()), 0).unwrap();
        assert_eq!(parsed.ignored, ["atomic"]);
        assert_eq!(parsed.ignored_of_jobs, [(0, vec!["a".to_owned()])]);
    }

    #[test]
    fn nesting_counts_from_the_body() {
        let deep =
            |n: usize| format!(r#"{{"queue":"q","type":"t","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse_job(Format::Json, &Bytes::from(deep(MAX_NESTING - 1)), 0).is_ok());
        assert!(parse_job(Format::Json, &Bytes::from(deep(MAX_NESTING)), 0).is_err());
    }
}
