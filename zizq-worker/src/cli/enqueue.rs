//! `zizq-worker enqueue`: puts jobs into a queue in bulk calls, and repeats a call only when that is safe.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use protocol::error::Code;
use protocol::name::{JobType, QueueName};
use protocol::trace::{PARENT, STATE, Trace};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

use super::server::{Server, code, refused};
use super::source::{Coming, Item, Source, is_interactive};
use super::{CliError, Target, jobs, print};
use crate::backoff::Backoff;
use crate::ctl::time;
use crate::values::number;

/// The maximum number of jobs per call.
const MAX_JOBS: usize = 1000;
/// A call is full at this many bytes of payloads.
const FULL: usize = 4 << 20;
/// When no other line comes for this long, the lines so far are sent.
const GATHER: Duration = Duration::from_millis(200);
/// How long to retry an unreachable server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The jobs to enqueue, and their queue.
#[derive(Debug, clap::Args)]
pub struct Enqueue {
    /// The queue; the first job creates it
    queue: QueueName,
    /// The type of the jobs: a name for the work, such as send_email
    #[arg(long = "type", value_name = "TYPE")]
    job_type: JobType,
    /// Enqueue one job with this payload, any JSON value
    #[arg(long, value_name = "JSON", conflicts_with_all = ["each", "text"])]
    payload: Option<String>,
    /// Enqueue one job per file, with the payload {"file": "/its/path"}
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "text")]
    each: Vec<PathBuf>,
    /// Take each line of the standard input as a string, not as JSON
    #[arg(long)]
    text: bool,
    /// From 0 to 65535; lower runs first [default: 32768]
    #[arg(long, value_name = "N", value_parser = number::<u16>)]
    priority: Option<u16>,
    /// Do not run before: a duration (10m), a time (2027-01-01T12:00:00Z), or milliseconds since 1970
    #[arg(long, value_name = "WHEN", value_parser = time)]
    at: Option<u64>,
    /// How often a job is retried after its first attempt: 3 are 4 attempts in all; 0: never [default: the server's, 25]
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    retry_limit: Option<u32>,
    /// Enqueue only if no job with this key is waiting (deduplication); for one job
    #[arg(long, value_name = "KEY", conflicts_with_all = ["each", "text"])]
    unique_key: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Serialize)]
struct Bulk<'a> {
    jobs: Vec<NewJob<'a>>,
}

#[derive(Serialize)]
struct NewJob<'a> {
    queue: &'a QueueName,
    #[serde(rename = "type")]
    job_type: &'a JobType,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_key: Option<&'a str>,
}

/// What the server has accepted so far.
#[derive(Default)]
struct Taken {
    jobs: u64,
    /// How many of these were already there.
    duplicates: u64,
    /// The last job.
    last: Value,
    /// Where the jobs of the call in progress begin, if there is one.
    sending: Option<String>,
}

impl Enqueue {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let server = self.target.connect()?;
        let source = self.source()?;
        let bar = bar(source.total);
        let mut taken = Taken::default();
        let mut interrupted = signal(SignalKind::interrupt())
            .map_err(|e| CliError::Failed(format!("cannot catch signals: {e}")))?;
        let sent = tokio::select! {
            sent = self.send_all(&server, source.start(MAX_JOBS), &bar, &mut taken) => Some(sent),
            _ = interrupted.recv() => None,
        };
        bar.finish_and_clear();
        let were = format!("{} {} enqueued", jobs(taken.jobs), if taken.jobs == 1 { "was" } else { "were" });
        let Some(sent) = sent else {
            let unknown = match &taken.sending {
                None => String::new(),
                Some(place) if place.is_empty() => {
                    "; it is unknown whether the server accepted the job".to_owned()
                }
                Some(place) => format!("; it is unknown whether the server accepted those from {place} on"),
            };
            return Err(CliError::Interrupted(format!("interrupted: {were}{unknown}")));
        };
        if sent.is_err() && taken.jobs > 0 {
            drop(writeln!(io::stderr(), "{were}: everything before the place named in the error"));
        }
        sent.and_then(|()| self.conclude(&taken))
    }

    async fn send_all(
        &self,
        server: &Server,
        mut coming: Coming,
        bar: &ProgressBar,
        taken: &mut Taken,
    ) -> Result<(), CliError> {
        // Makes the calls of this run idempotent: a server carries out a call with the same key once.
        let run = format!("{:016x}", fastrand::u64(..));
        let (mut part, mut size) = (Vec::new(), 0);
        loop {
            let next = if part.is_empty() {
                Some(coming.recv().await)
            } else {
                // The next line may come late or never.
                timeout(GATHER, coming.recv()).await.ok()
            };
            let goes_on = matches!(next, Some(Some(Ok(_))));
            if (!goes_on || part.len() == MAX_JOBS || size >= FULL) && !part.is_empty() {
                let key = format!("{run}-{}", taken.jobs);
                taken.sending = part.first().map(|first: &Item| first.place.clone());
                self.send(server, &part, &key, bar, taken).await?;
                taken.sending = None;
                bar.set_position(taken.jobs);
                (part, size) = (Vec::new(), 0);
            }
            match next {
                Some(None) => return Ok(()),
                Some(Some(item)) => {
                    let item = item?;
                    size += item.payload.get().len();
                    part.push(item);
                }
                None => {}
            }
        }
    }

    fn source(&self) -> Result<Source, CliError> {
        match &self.payload {
            Some(json) => Source::one(json),
            None if !self.each.is_empty() => Source::files(&self.each),
            None if is_interactive() && !self.text => Ok(Source::null()),
            None => Ok(Source::lines(self.text)),
        }
    }

    /// Sends some jobs, of which the server accepts all or none, and retries while it is away. Jobs that it may already
    /// have accepted are sent again only if it is certain to accept them once.
    async fn send(
        &self,
        server: &Server,
        part: &[Item],
        key: &str,
        bar: &ProgressBar,
        taken: &mut Taken,
    ) -> Result<(), CliError> {
        let bulk = Bulk { jobs: part.iter().map(|item| self.job(item)).collect() };
        let body = serde_json::to_vec(&bulk).map_err(|e| CliError::Failed(e.to_string()))?;
        let begin = part.first().map_or("", |item| item.place.as_str());
        let from = if begin.is_empty() { String::new() } else { format!(" (from {begin} on)") };
        let unknown = |why: String| {
            let say =
                "it is unknown whether the server accepted these jobs; zizq-worker status shows its queues";
            CliError::Lost(format!("{why}{from}; {say}"))
        };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let give_up = Instant::now() + PATIENCE;
        // Why the first answer was lost.
        let mut lost = None;
        loop {
            let error = match ask(server, &body, key, lost.is_some()).await {
                Ok(Some((status, answer))) if status.is_success() => return self.note(answer, taken),
                // The server is still carrying out the call whose answer was lost.
                Ok(Some((status, answer)))
                    if lost.is_some() && code(&answer) == Some(Code::IdempotencyKeyInUse) =>
                {
                    CliError::NoServer(refused(status, &answer).to_string())
                }
                Ok(Some((status, answer))) if status.is_client_error() => {
                    return Err(refusal(part, status, &answer));
                }
                Ok(Some((status, answer))) => refused(status, &answer),
                Ok(None) => return Err(unknown(lost.unwrap_or_default())),
                Err(e) => e,
            };
            let pause = backoff.next();
            let may_wait = Instant::now() + pause < give_up;
            match error {
                CliError::Lost(e) if may_wait => lost = lost.or(Some(e)),
                // Before the first answer there may be no server at all.
                CliError::NoServer(_) if may_wait && (lost.is_some() || taken.jobs > 0) => {}
                CliError::NoServer(e) if lost.is_none() => return Err(CliError::NoServer(e + &from)),
                error @ CliError::Lost(_) => return Err(unknown(error.to_string())),
                error if lost.is_some() => return Err(unknown(error.to_string())),
                error => return Err(error),
            }
            bar.set_message("waiting for the server");
            tokio::time::sleep(pause).await;
            bar.set_message("");
        }
    }

    fn job<'a>(&'a self, item: &'a Item) -> NewJob<'a> {
        NewJob {
            queue: &self.queue,
            job_type: &self.job_type,
            payload: &item.payload,
            priority: self.priority,
            ready_at: self.at,
            retry_limit: self.retry_limit,
            unique_key: self.unique_key.as_deref(),
        }
    }

    /// Counts the accepted jobs, and prints them for programs.
    fn note(&self, mut answer: Value, taken: &mut Taken) -> Result<(), CliError> {
        let Some(Value::Array(mut jobs)) = answer.get_mut("jobs").map(Value::take) else {
            return Err(CliError::Failed("the server's answer has no `jobs`".to_owned()));
        };
        if self.target.json {
            let lines: Vec<String> = jobs.iter().map(|job| format!("{job}\n")).collect();
            print(&lines.concat())?;
        }
        taken.jobs += jobs.len() as u64;
        taken.duplicates +=
            jobs.iter().filter(|job| job.get("duplicate") == Some(&Value::Bool(true))).count() as u64;
        taken.last = jobs.pop().unwrap_or_default();
        Ok(())
    }

    fn conclude(&self, taken: &Taken) -> Result<ExitCode, CliError> {
        if taken.jobs == 0 {
            let what = "nothing to enqueue: the standard input is empty; --payload JSON enqueues one job";
            return Err(CliError::Usage(what.to_owned()));
        }
        if self.target.json {
            return Ok(ExitCode::SUCCESS);
        }
        let queue = &self.queue;
        let member = |name: &str| taken.last.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match (taken.jobs, taken.duplicates) {
            (1, 0) => {
                let at = self.at.filter(|_| member("status") == "scheduled").and_then(shown);
                let at = at.map_or_else(String::new, |at| format!(" for {at}"));
                format!("{} is in queue {queue}, {}{at}\n", member("id"), member("status"))
            }
            (1, _) => format!("{} was already enqueued: {}\n", member("id"), member("status")),
            (n, _) => format!("{} are in queue {queue}\n", jobs(n)),
        };
        print(&line)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A time in milliseconds since 1970, as people write it.
fn shown(ms: u64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The trace context of the environment, to which the jobs belong, such as that of a job whose command enqueues them.
fn trace() -> Option<Trace> {
    let [parent, state] = ["TRACEPARENT", "TRACESTATE"].map(|name| std::env::var(name).ok());
    Trace::of_headers([parent?.as_bytes()], state.as_deref().map(str::as_bytes))
}

/// Sends jobs. `None`: they were sent before, and the server might accept them twice.
async fn ask(
    server: &Server,
    body: &[u8],
    key: &str,
    is_again: bool,
) -> Result<Option<(StatusCode, Value)>, CliError> {
    let trace = trace();
    let request = |key: &str| {
        let mut request = server.request(Method::POST, &["jobs", "bulk"], &[]);
        if let Some(trace) = &trace {
            request = request.header(PARENT, trace.parent.to_string());
            if let Some(state) = trace.state() {
                request = request.header(STATE, state);
            }
        }
        request.header("content-type", "application/json").header("idempotency-key", key)
    };
    if is_again {
        // A probe without jobs and with an empty key: a server that knows keys refuses it, any other does nothing.
        let (status, answer) = server.ask(request("\"\"").body(r#"{"jobs":[]}"#)).await?;
        match status {
            _ if code(&answer) == Some(Code::InvalidIdempotencyKey) => {}
            StatusCode::SERVICE_UNAVAILABLE => return Err(refused(status, &answer)),
            _ => return Ok(None),
        }
    }
    server.ask(request(key).body(body.to_vec())).await.map(Some)
}

/// Names the job that the server refuses.
fn refusal(part: &[Item], status: StatusCode, answer: &Value) -> CliError {
    let error = refused(status, answer).to_string();
    let named = error.strip_prefix("jobs[").and_then(|rest| rest.split_once("]: "));
    let found = named.and_then(|(n, why)| Some((part.get(n.parse::<usize>().ok()?)?, why)));
    let begin = part.first().map_or("", |item| item.place.as_str());
    CliError::Failed(match found {
        Some((item, why)) if item.place.is_empty() => why.to_owned(),
        Some((item, why)) => format!("{}: {why}; nothing from {begin} on was enqueued", item.place),
        None => error,
    })
}

/// The progress bar, on a terminal.
fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{wide_bar} {human_pos} of {human_len} jobs, {eta} to go {msg}")
        }
        None => (ProgressBar::no_length(), "{human_pos} jobs, {per_sec} {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
