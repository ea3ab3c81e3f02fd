//! The calls to the server.

use std::error::Error;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use protocol::error::{ErrorBody, excerpt};
use protocol::id::JobId;
use protocol::lease::{HeartbeatsReply, JobHeartbeat, JobRelease};
use protocol::outcome::{Failure, NotDone};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{ClientBuilder, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::Config;
use crate::event::{Left, Progress};
use crate::exec::Usage;
use crate::outcome::JobResult;
use crate::report::{Beat, Lease};
use crate::{clock, proxy, retry_after, trust};

const WORKER_ID: HeaderName = HeaderName::from_static("worker-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ZIZQ_LEASE: HeaderName = HeaderName::from_static("zizq-lease");

/// How long an answer may take: the contract promises one within this time.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that a server is left alone because it says so.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody knows whether the call was received.
    #[error("no answer from the server{via}: {0}", via = proxy::via())]
    NoAnswer(String),
    /// Not now.
    #[error("the server{via} answered {status}: {message}", via = proxy::via())]
    Busy { status: StatusCode, message: String, retry_after: Option<Duration> },
    /// Never.
    #[error("the server{via} answered {status}: {message}", via = proxy::via())]
    Refused { status: StatusCode, message: String },
}

/// The server, to whoever calls it. A clone shares its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    server: Url,
    /// What commands are told of it.
    for_commands: Arc<[(&'static str, OsString)]>,
    calls: reqwest::Client,
    streams: reqwest::Client,
}

/// Where a stream is to begin, and what it may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a> {
    pub(crate) queues: &'a str,
    pub(crate) prefetch: u16,
    pub(crate) lease: Duration,
    pub(crate) last_event_id: Option<&'a str>,
}

impl Client {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let headers = HeaderMap::from_iter([(WORKER_ID, config.worker_id.clone())]);
        let builder = || Ok::<_, String>(config.access.builder()?.default_headers(headers.clone()));
        let built = |builder: ClientBuilder| builder.build().map_err(|e| cause(&e));
        Ok(Self {
            server: config.access.url.clone(),
            for_commands: config.access.variables(config.pass_credentials).into(),
            calls: built(builder()?.timeout(ANSWER_TIMEOUT))?,
            streams: built(builder()?.pool_max_idle_per_host(0))?,
        })
    }

    /// The address of the server, with what it takes to get in.
    pub(crate) const fn server(&self) -> &Url {
        &self.server
    }

    /// The variables by which commands find it.
    pub(crate) fn for_commands(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.for_commands.iter().map(|(name, value)| (*name, value))
    }

    /// Opens a stream of jobs.
    pub(crate) async fn take(&self, take: Take<'_>) -> Result<Response, CallError> {
        let mut url = self.url(&["jobs", "take"]);
        url.query_pairs_mut()
            .append_pair("queue", take.queues)
            .append_pair("prefetch", &take.prefetch.to_string())
            .append_pair("lease_ms", &take.lease.as_millis().to_string());
        let mut request = self.streams.get(url).header(ACCEPT, "text/event-stream");
        if let Some(id) = take.last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, send(request)).await {
            Ok(answer) => checked(answer?).await,
            Err(_) => Err(CallError::NoAnswer("it takes too long".to_owned())),
        }
    }

    /// Reports jobs as done; answers which of them were not this worker's to report.
    pub(crate) async fn succeed(&self, done: &[(Lease, Option<Usage>)]) -> Result<Vec<JobId>, CallError> {
        let jobs = done.iter().map(|&(lease, usage)| Done { lease, usage }).collect();
        self.bulk("success", &Jobs { jobs }).await
    }

    /// Reports a job as done, with what it produced.
    pub(crate) async fn succeed_with(
        &self,
        lease: Lease,
        result: &JobResult,
        usage: Option<Usage>,
    ) -> Result<(), CallError> {
        self.report(lease, "success", &WithResult { result, usage }).await
    }

    /// Gives jobs back; answers which of them were not this worker's to give back.
    pub(crate) async fn release(&self, leases: &[(Lease, Option<u64>)]) -> Result<Vec<JobId>, CallError> {
        let one = |&(lease, ready_at): &(Lease, _)| JobRelease {
            id: lease.id,
            lease: Some(lease.token),
            ready_at,
            delay_ms: None,
        };
        self.bulk("release", &Jobs { jobs: leases.iter().map(one).collect() }).await
    }

    async fn bulk(&self, verb: &str, body: &impl Serialize) -> Result<Vec<JobId>, CallError> {
        let answer = send(self.calls.post(self.url(&["jobs", verb])).json(body)).await?;
        if answer.status() == StatusCode::UNPROCESSABLE_ENTITY {
            let NotDone { mut not_found, lost } = read(answer).await?;
            not_found.extend(lost);
            return Ok(not_found);
        }
        checked(answer).await.map(|_| Vec::new())
    }

    /// Reports a failed attempt.
    pub(crate) async fn fail(
        &self,
        lease: Lease,
        failure: &Failure,
        usage: Option<Usage>,
    ) -> Result<(), CallError> {
        self.report(lease, "failure", &WithUsage { failure, usage }).await
    }

    async fn report(&self, lease: Lease, verb: &str, body: &impl Serialize) -> Result<(), CallError> {
        let url = self.url(&["jobs", &lease.id.to_string(), verb]);
        let request = self.calls.post(url).header(ZIZQ_LEASE, lease.token.to_string()).json(body);
        done(request).await
    }

    /// Adds what a job printed to its log.
    pub(crate) async fn log(&self, lease: Lease, lines: String) -> Result<(), CallError> {
        let url = self.url(&["jobs", &lease.id.to_string(), "log"]);
        let request = self.calls.post(url).header(ZIZQ_LEASE, lease.token.to_string());
        done(request.header(CONTENT_TYPE, "application/x-ndjson").body(lines)).await
    }

    /// Puts a job into its queue. Said again with the same key, it is the same job.
    pub(crate) async fn enqueue(&self, job: &RawValue, key: &str) -> Result<(), CallError> {
        let request = self.calls.post(self.url(&["jobs"])).header(CONTENT_TYPE, "application/json");
        done(request.header(IDEMPOTENCY_KEY, key).body(job.get().to_owned())).await
    }

    /// How many jobs of these queues are ready.
    pub(crate) async fn count_ready(&self, queues: &str) -> Result<u64, CallError> {
        let mut url = self.url(&["jobs", "count"]);
        url.query_pairs_mut().append_pair("queue", queues).append_pair("status", "ready");
        let Count { count } = read(checked(send(self.calls.get(url)).await?).await?).await?;
        Ok(count)
    }

    /// What is left in these queues, where that is ready or waits for its next attempt.
    pub(crate) async fn left(&self, queues: &str) -> Result<Left, CallError> {
        let mut url = self.url(&["jobs", "count"]);
        url.query_pairs_mut()
            .append_pair("queue", queues)
            .append_pair("status", "scheduled")
            .append_pair("attempts", "1..");
        let Count { count: retries } = read(checked(send(self.calls.get(url)).await?).await?).await?;
        let mut left = Left { retries, ready: self.count_ready(queues).await?, ..Left::default() };
        if left.ready == 0 {
            return Ok(left);
        }
        for queue in queues.split(',') {
            let call = send(self.calls.get(self.url(&["queues", queue]))).await?;
            let Queue { paused, counts } = read(checked(call).await?).await?;
            if paused && counts.ready > 0 {
                left.held += counts.ready;
                left.paused.push(queue.to_owned());
            }
        }
        Ok(left)
    }

    /// Renews leases.
    pub(crate) async fn heartbeat(
        &self,
        beats: &[Beat],
        timeout: Duration,
    ) -> Result<HeartbeatsReply, CallError> {
        let one = |beat: &Beat| {
            let Progress { progress, message } = beat.progress.clone().unwrap_or_default();
            let Lease { id, token } = beat.lease;
            JobHeartbeat { id, lease: Some(token), lease_ms: None, progress, message }
        };
        let body = Jobs { jobs: beats.iter().map(one).collect() };
        let request = self.calls.post(self.url(&["jobs", "heartbeat"])).timeout(timeout).json(&body);
        read(checked(send(request).await?).await?).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.clone();
        // A URL with a host has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

#[derive(Debug, Serialize)]
struct Jobs<T> {
    jobs: Vec<T>,
}

/// Members that this server does not know yet are ignored by it.
#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    lease: Lease,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Debug, Serialize)]
struct WithResult<'a> {
    result: &'a JobResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Debug, Serialize)]
struct WithUsage<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Queue {
    paused: bool,
    counts: Counts,
}

#[derive(Debug, Deserialize)]
struct Counts {
    ready: u64,
}

/// Makes a call whose answer matters only by its status.
async fn done(request: RequestBuilder) -> Result<(), CallError> {
    let answer = checked(send(request).await?).await?;
    // A connection is only used again when its answer was read.
    drop(answer.bytes().await);
    Ok(())
}

async fn send(request: RequestBuilder) -> Result<Response, CallError> {
    request.send().await.map_err(|e| {
        let cause = cause(&e);
        let hint = match cause.as_str() {
            text if text.contains("InvalidContentType") => "; it seems not to speak TLS: try http://",
            text if text.contains("invalid HTTP version") => "; it seems to speak TLS: try https://",
            _ => "",
        };
        CallError::NoAnswer(cause + hint)
    })
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, CallError> {
    let status = answer.status();
    let body = answer.bytes().await.map_err(|e| CallError::NoAnswer(cause(&e)))?;
    serde_json::from_slice(&body).map_err(|_| CallError::Refused { status, message: sentence(&body) })
}

/// Lets through what went well.
async fn checked(answer: Response) -> Result<Response, CallError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let now = clock::now_ms();
    let retry_at = retry_after::at(answer.headers(), now);
    let body = answer.bytes().await.unwrap_or_default();
    let message = sentence(&body);
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if !status.is_server_error() && !later.contains(&status) {
        return Err(CallError::Refused { status, message });
    }
    let retry_after = retry_at.map(|at| Duration::from_millis(at.saturating_sub(now)).min(MAX_RETRY_AFTER));
    Err(CallError::Busy { status, message, retry_after })
}

/// What an error body says, or where it is not ours, how it begins.
fn sentence(body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => excerpt(&String::from_utf8_lossy(body)),
    }
}

/// What is behind an error: its last cause is the one that helps, those before it say which layer passed it on.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(sentence) = trust::sentence(cause) {
            return sentence;
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_is_read_and_anything_else_is_shortened() {
        assert_eq!(sentence(br#"{"error":"no"}"#), "no");
        assert_eq!(sentence(b"<html>"), "<html>");
        assert!(sentence(&[b'x'; 1000]).len() < 100);
    }
}
