//! The worker's calls to the server, and how each answer is judged: from our server or from something else, final or not.

mod credentials;

use std::error::Error;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::error::{Code, ErrorBody, excerpt};
use protocol::id::JobId;
use protocol::lease::{HeartbeatsReply, JobHeartbeat, JobRelease, MAX_REASON_BYTES};
use protocol::outcome::{Failure, NotDone};
use protocol::trace::{PARENT, STATE, Trace};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::Access;
use crate::outcome::start_of;
use crate::report::{AfterFailure, JobResult, Left, Progress, Usage};
use crate::report::{GivenBack, Heartbeat, Lease};
use crate::{clock, proxy, retry_after, trust};
use credentials::Credentials;

const WORKER_ID: HeaderName = HeaderName::from_static("worker-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ZIZQ_LEASE: HeaderName = HeaderName::from_static("zizq-lease");

/// How long an answer may take: the contract promises one within this time.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read, far above what a server with default limits sends.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The longest progress message that is sent, in bytes.
const MAX_MESSAGE: usize = 1_024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The call may or may not have been received.
    #[error("no answer from the server{via}: {0}", via = proxy::via())]
    NoAnswer(String),
    /// Something other than our server answered, such as a proxy. The call may not have reached the server.
    #[error("something other than a Zizq server{via} answered {status}: {message}", via = proxy::via())]
    Foreign { status: StatusCode, message: String },
    /// Not now, or not in this way, independent of the job of the call.
    #[error("the server{via} answered {status}: {message}", via = proxy::via())]
    Busy { status: StatusCode, message: String, retry_after: Option<Duration> },
    /// The server does not let this worker do this; that does not pass by itself.
    #[error("the server{via} answered {status}: {message}", via = proxy::via())]
    NotAllowed { status: StatusCode, message: String },
    /// Final. Servers without error codes send no code.
    #[error("the server{via} answered {status}: {message}", via = proxy::via())]
    Refused { status: StatusCode, code: Option<Code>, message: String },
}

/// A client of the server. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    server: Url,
    credentials: Arc<Credentials>,
}

/// The parameters of a job stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take<'a> {
    pub(crate) queues: &'a str,
    pub(crate) prefetch: u16,
    pub(crate) lease: Duration,
    pub(crate) last_event_id: Option<&'a str>,
}

impl Client {
    /// A client that calls itself `worker_id`. Commands get the credentials of the server if `pass_credentials`.
    pub(crate) fn new(
        access: &Access,
        worker_id: &HeaderValue,
        pass_credentials: bool,
    ) -> Result<Self, String> {
        let credentials = Credentials::new(access, worker_id.clone(), pass_credentials)?;
        Ok(Self { server: access.url.clone(), credentials: Arc::new(credentials) })
    }

    /// Reads the files of token and certificate again whenever they change.
    pub(crate) async fn follow_files(self) {
        self.credentials.follow().await;
    }

    /// Reads them again now, if they have changed.
    pub(crate) fn read_files_again(&self) {
        self.credentials.read_again(true);
    }

    /// What is shown to the server now; another number after other files were read.
    pub(crate) fn shows(&self) -> u64 {
        self.credentials.current().number
    }

    /// The address of the server, with credentials.
    pub(crate) const fn server(&self) -> &Url {
        &self.server
    }

    /// The variables for commands that call the server.
    pub(crate) fn for_commands(&self) -> Vec<(&'static str, OsString)> {
        self.credentials.current().for_commands.clone()
    }

    fn calls(&self) -> reqwest::Client {
        self.credentials.current().calls.clone()
    }

    /// Opens a stream of jobs.
    pub(crate) async fn take(&self, take: Take<'_>) -> Result<Response, CallError> {
        let mut url = self.url(&["jobs", "take"]);
        url.query_pairs_mut()
            .append_pair("queue", take.queues)
            .append_pair("prefetch", &take.prefetch.to_string())
            .append_pair("lease_ms", &take.lease.as_millis().to_string())
            // Leases depend on heartbeats that name the jobs, because a connection outlives a frozen worker.
            .append_pair("renew", "worker");
        let mut request = self.credentials.current().streams.get(url).header(ACCEPT, "text/event-stream");
        if let Some(id) = take.last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, send(request)).await {
            Ok(answer) => checked(answer?).await,
            Err(_) => Err(CallError::NoAnswer(format!("timed out after {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    /// Reports jobs as succeeded. Returns those whose lease was not valid.
    pub(crate) async fn succeed(&self, done: &[(Lease, Option<Usage>)]) -> Result<Vec<JobId>, CallError> {
        let jobs = done.iter().map(|&(lease, usage)| Done { lease, usage }).collect();
        self.bulk("success", &Jobs { jobs }).await
    }

    /// Reports a job as succeeded, with its result.
    pub(crate) async fn succeed_with(
        &self,
        lease: Lease,
        result: &JobResult,
        usage: Option<Usage>,
    ) -> Result<(), CallError> {
        let body = WithResult { result, usage };
        done(self.report(lease, "success", &body).await?, StatusCode::NO_CONTENT).await
    }

    /// Gives jobs back. Returns those whose lease was not valid.
    pub(crate) async fn release(&self, back: &[GivenBack]) -> Result<Vec<JobId>, CallError> {
        let one = |GivenBack { lease, delay_ms, reason }: &GivenBack| JobRelease {
            id: lease.id,
            lease: Some(lease.token),
            ready_at: None,
            delay_ms: *delay_ms,
            reason: reason.as_deref().map(|text| start_of(text, MAX_REASON_BYTES).to_owned()),
        };
        self.bulk("release", &Jobs { jobs: back.iter().map(one).collect() }).await
    }

    async fn bulk(&self, verb: &str, body: &impl Serialize) -> Result<Vec<JobId>, CallError> {
        let answer = send(self.calls().post(self.url(&["jobs", verb])).json(body)).await?;
        match answer.status() {
            StatusCode::UNPROCESSABLE_ENTITY => {
                let body = whole(answer).await?;
                let Ok(NotDone { mut not_found, lost }) = serde_json::from_slice(&body) else {
                    return Err(refusal(StatusCode::UNPROCESSABLE_ENTITY, &body, None));
                };
                not_found.extend(lost);
                Ok(not_found)
            }
            status => match done(answer, StatusCode::NO_CONTENT).await {
                // The call is about many jobs, so our server never answers with the status of one.
                Err(CallError::Refused { message, .. })
                    if [StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(&status) =>
                {
                    Err(CallError::Foreign { status, message })
                }
                other => other.map(|()| Vec::new()),
            },
        }
    }

    /// Reports a failed attempt. Returns what follows, if the server says so.
    pub(crate) async fn fail(
        &self,
        lease: Lease,
        failure: &Failure,
        usage: Option<Usage>,
    ) -> Result<Option<AfterFailure>, CallError> {
        let body = WithUsage { failure, usage };
        let job = object(self.report(lease, "failure", &body).await?, StatusCode::OK).await?;
        Ok(serde_json::from_slice(&job).ok())
    }

    async fn report(&self, lease: Lease, verb: &str, body: &impl Serialize) -> Result<Response, CallError> {
        let url = self.url(&["jobs", &lease.id.to_string(), verb]);
        send(self.calls().post(url).header(ZIZQ_LEASE, lease.token.to_string()).json(body)).await
    }

    /// Appends output to the log of a job.
    pub(crate) async fn log(&self, lease: Lease, lines: Bytes) -> Result<(), CallError> {
        let url = self.url(&["jobs", &lease.id.to_string(), "log"]);
        let request = self.calls().post(url).header(ZIZQ_LEASE, lease.token.to_string());
        let request = request.header(CONTENT_TYPE, "application/x-ndjson").body(lines);
        done(send(request).await?, StatusCode::NO_CONTENT).await
    }

    /// Enqueues a job, which inherits the trace context unless it has one of its own. Repeated with the same key, it is
    /// the same job.
    pub(crate) async fn enqueue(
        &self,
        job: &RawValue,
        key: &str,
        trace: Option<&Trace>,
    ) -> Result<(), CallError> {
        let request = self.calls().post(self.url(&["jobs"])).header(CONTENT_TYPE, "application/json");
        let mut request = request.header(IDEMPOTENCY_KEY, key);
        if let Some(trace) = trace {
            request = request.header(PARENT, trace.parent.to_string());
            if let Some(state) = trace.state() {
                request = request.header(STATE, state);
            }
        }
        let answer = send(request.body(job.get().to_owned())).await?;
        // A duplicate is 200, a new job 201.
        let expected =
            if answer.status() == StatusCode::CREATED { StatusCode::CREATED } else { StatusCode::OK };
        done(answer, expected).await
    }

    /// How many jobs of these queues are ready.
    pub(crate) async fn count_ready(&self, queues: &str) -> Result<u64, CallError> {
        let mut url = self.url(&["jobs", "count"]);
        url.query_pairs_mut().append_pair("queue", queues).append_pair("status", "ready");
        let Count { count } = read(checked(send(self.calls().get(url)).await?).await?).await?;
        Ok(count)
    }

    /// Counts the jobs of these queues that are ready or wait for a retry.
    pub(crate) async fn left(&self, queues: &str) -> Result<Left, CallError> {
        let mut url = self.url(&["jobs", "count"]);
        url.query_pairs_mut()
            .append_pair("queue", queues)
            .append_pair("status", "scheduled")
            .append_pair("attempts", "1..");
        let Count { count: retries } = read(checked(send(self.calls().get(url)).await?).await?).await?;
        let mut left = Left { retries, ready: self.count_ready(queues).await?, ..Left::default() };
        if left.ready == 0 {
            return Ok(left);
        }
        for queue in queues.split(',') {
            let call = send(self.calls().get(self.url(&["queues", queue]))).await?;
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
        heartbeats: &[Heartbeat],
        timeout: Duration,
    ) -> Result<HeartbeatsReply, CallError> {
        let one = |heartbeat: &Heartbeat| {
            let Progress { progress, message } = heartbeat.progress.clone().unwrap_or_default();
            let Lease { id, token } = heartbeat.lease;
            let message = message.map(|text| start_of(&text, MAX_MESSAGE).to_owned());
            JobHeartbeat { id, lease: Some(token), lease_ms: None, progress, message }
        };
        let body = Jobs { jobs: heartbeats.iter().map(one).collect() };
        let request = self.calls().post(self.url(&["jobs", "heartbeat"])).timeout(timeout).json(&body);
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

/// One job of a bulk success. A server ignores members that it does not know.
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

/// Checks the answer to a call: the expected status and, unless it is 204, a JSON object. Something other than the server
/// may answer, such as a proxy that sends 200 and a page of HTML.
async fn done(answer: Response, expected: StatusCode) -> Result<(), CallError> {
    object(answer, expected).await.map(|_| ())
}

/// As [`done`]; returns the object, or nothing for 204.
async fn object(answer: Response, expected: StatusCode) -> Result<Bytes, CallError> {
    let answer = checked(answer).await?;
    let status = answer.status();
    // A connection is reused only after its answer was read.
    let body = whole(answer).await;
    if status == StatusCode::NO_CONTENT {
        return Ok(Bytes::new());
    }
    let body = Bytes::from(body?);
    let is_object =
        body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&body).is_ok();
    if status == expected && is_object {
        return Ok(body);
    }
    Err(CallError::Foreign { status, message: sentence(&body) })
}

async fn send(request: RequestBuilder) -> Result<Response, CallError> {
    request.send().await.map_err(|e| CallError::NoAnswer(why_unsent(&e)))
}

/// Why a request got no answer; with a hint where the server speaks TLS and the URL does not, or the reverse.
pub(crate) fn why_unsent(error: &reqwest::Error) -> String {
    let cause = cause(error);
    let hint = match cause.as_str() {
        text if text.contains("InvalidContentType") => "; it seems not to speak TLS: try http://",
        text if text.contains("invalid HTTP version") => "; it seems to speak TLS: try https://",
        _ => "",
    };
    cause + hint
}

/// The body of an answer, within the limits of our server.
async fn whole(mut answer: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| CallError::NoAnswer(cause(&e)))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(CallError::NoAnswer(format!("the answer exceeds {MAX_ANSWER_BYTES} bytes")));
        }
    }
    match protocol::body::check_nesting(&body) {
        Ok(()) => Ok(body),
        Err(error) => Err(CallError::NoAnswer(format!("the answer {error}"))),
    }
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, CallError> {
    let status = answer.status();
    let body = whole(answer).await?;
    serde_json::from_slice(&body).map_err(|_| CallError::Foreign { status, message: sentence(&body) })
}

/// Passes a successful answer through.
async fn checked(answer: Response) -> Result<Response, CallError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let pause = retry_after::pause(answer.headers(), clock::now_ms());
    let body = whole(answer).await.unwrap_or_default();
    Err(refusal(status, &body, pause))
}

/// The statuses that are about a job. All others are about the call, its caller or the server.
const OF_JOBS: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

fn refusal(status: StatusCode, body: &[u8], pause: Option<Duration>) -> CallError {
    let (code, message) = said(body);
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    if !status.is_server_error() && !busy.contains(&status) && !is_ours(body) {
        return CallError::Foreign { status, message };
    }
    if matches!(code, Some(Code::Unauthorized | Code::Forbidden)) {
        return CallError::NotAllowed { status, message };
    }
    if OF_JOBS.contains(&status) {
        return CallError::Refused { status, code, message };
    }
    CallError::Busy { status, message, retry_after: pause.map(|pause| pause.min(MAX_RETRY_AFTER)) }
}

/// Whether an error body is from our server: it has a sentence in `error`. So have the bodies of some gateways, but those
/// also repeat the status or the path, or have a number as their code.
fn is_ours(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "error")]
        _error: String,
        #[serde(rename = "code")]
        _code: Option<String>,
        status: Option<IgnoredAny>,
        path: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Body>(body).is_ok_and(|body| body.status.is_none() && body.path.is_none())
}

/// The sentence of an error body; if it is not ours, its beginning.
fn sentence(body: &[u8]) -> String {
    said(body).1
}

fn said(body: &[u8]) -> (Option<Code>, String) {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error, code, .. }) => (code, error),
        Err(_) => (None, excerpt(&String::from_utf8_lossy(body))),
    }
}

/// The last cause of an error, which is the helpful one: those before it only name the layers that passed it on.
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
    fn only_what_our_server_says_about_a_job_settles_anything() {
        let word = |status: u16, body: &str| match refusal(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            None,
        ) {
            CallError::Refused { .. } => "refused",
            CallError::Busy { .. } => "busy",
            CallError::NotAllowed { .. } => "not allowed",
            CallError::Foreign { .. } => "foreign",
            CallError::NoAnswer(_) => "no answer",
        };
        for ours in [
            r#"{"error":"no such job"}"#,
            r#"{"error":"no such job","code":"not_in_flight"}"#,
            r#"{"error":"no such job","code":"of_a_newer_server"}"#,
        ] {
            for status in [400, 404, 409, 413, 422] {
                assert_eq!(word(status, ours), "refused", "{status} {ours}");
            }
            for status in [401, 403, 405, 406, 408, 415, 421, 429, 500, 502, 503, 504] {
                assert_eq!(word(status, ours), "busy", "{status} {ours}");
            }
        }
        for (status, code) in [(401, "unauthorized"), (403, "forbidden")] {
            let body = format!(r#"{{"error":"no","code":"{code}"}}"#);
            assert_eq!(word(status, &body), "not allowed");
        }
        for status in [301, 302, 307, 400, 401, 403, 404, 409, 410, 413, 422] {
            for body in [
                "",
                "404 page not found",
                "<html>sign in</html>",
                "{}",
                r#"{"message":"Not Found"}"#,
                r#"{"error":{"code":404}}"#,
                r#"{"timestamp":1,"status":404,"error":"Not Found","path":"/jobs/success"}"#,
                r#"{"error":"Not Found","code":404}"#,
                r#"["error"]"#,
                r#"{"error":"cut"#,
            ] {
                assert_eq!(word(status, body), "foreign", "{status} {body}");
            }
        }
    }

    #[test]
    fn an_error_body_is_read_and_anything_else_is_shortened() {
        assert_eq!(said(br#"{"error":"no"}"#), (None, "no".to_owned()));
        assert_eq!(said(br#"{"error":"no","code":"lease_lost"}"#), (Some(Code::LeaseLost), "no".to_owned()));
        assert_eq!(said(br#"{"error":"no","code":"of_a_newer_server"}"#), (None, "no".to_owned()));
        assert_eq!(sentence(b"<html>"), "<html>");
        assert!(sentence(&[b'x'; 1000]).len() < 100);
    }
}
