//! `zizq-worker tail`: follows the output of a job over the server's event stream, across broken connections.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use protocol::frame::sse::{Decoder, Item};
use protocol::log::{Line, Output};
use protocol::plural::plural;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::server::{Server, refused};
use super::{CliError, Target, distance, print};
use crate::backoff::Backoff;
use crate::client::{ANSWER_TIMEOUT, cause};
use crate::values::number;

/// The largest event: a log line is at most 64 KiB, and JSON turns one byte into at most six.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// A server that is silent for this long is gone: it sends a heartbeat every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// The job whose output to follow.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// The id of the job
    job: String,
    /// The attempt to follow [default: the running or next one; for a job that has ended, the last]
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    attempt: Option<u32>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Deserialize)]
struct End {
    attempt: u64,
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lagged {
    missed_bytes: u64,
}

/// How far the log was read.
struct Position {
    last: String,
    end: Option<End>,
}

impl Tail {
    pub(super) async fn run(self) -> Result<ExitCode, CliError> {
        let server = self.target.connect()?;
        let mut at = Position { last: String::new(), end: None };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut give_up = Instant::now();
        while at.end.is_none() {
            let broken = match self.open(&server, &at.last).await {
                Ok(Some(answer)) => {
                    let broken = self.follow(answer, &mut at).await?;
                    give_up = Instant::now() + SILENCE;
                    broken
                }
                Ok(None) => break,
                Err(CliError::NoServer(e) | CliError::Lost(e)) if Instant::now() < give_up => e,
                Err(e) => return Err(e),
            };
            if at.end.is_none() {
                note(&format!("the connection broke ({broken}); reconnecting"));
                tokio::time::sleep(backoff.next()).await;
            }
        }
        self.conclude(&server, at.end).await
    }

    /// Opens the log at the last position. `None`: nothing more will come.
    async fn open(&self, server: &Server, last: &str) -> Result<Option<Response>, CliError> {
        let attempt = self.attempt.map(|attempt| attempt.to_string());
        let query: Vec<_> = attempt.iter().map(|attempt| ("attempt", attempt.as_str())).collect();
        let mut request = server.request(Method::GET, &["jobs", &self.job, "log"], &query);
        request = request.header(ACCEPT, "text/event-stream");
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        let answer = timeout(ANSWER_TIMEOUT, server.open(request)).await;
        let answer = answer.map_err(|_| CliError::NoServer("no answer from the server".to_owned()))??;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NO_CONTENT => Ok(None),
            status => {
                let body = answer.bytes().await.unwrap_or_default();
                Err(refused(status, &serde_json::from_slice(&body).unwrap_or_default()))
            }
        }
    }

    /// Prints until the attempt or the connection ends. Returns why the connection ended.
    async fn follow(&self, mut answer: Response, at: &mut Position) -> Result<String, CliError> {
        let mut decoder = Decoder::new(MAX_EVENT_BYTES);
        loop {
            let bytes = match timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Ok("the server closed it".to_owned()),
                Ok(Err(e)) => return Ok(cause(&e)),
                Err(_) => return Ok("the server is silent".to_owned()),
            };
            decoder.push(&bytes);
            while let Some(item) = decoder.next().map_err(|e| CliError::Failed(e.to_string()))? {
                if let Item::Event { event, data, id } = item {
                    if !id.is_empty() {
                        at.last = id;
                    }
                    self.show(&event, &data, at)?;
                }
            }
        }
    }

    fn show(&self, event: &str, data: &str, at: &mut Position) -> Result<(), CliError> {
        let unclear = |e| CliError::Failed(format!("cannot read the server's event: {e}: {data}"));
        match event {
            "message" if self.target.json => print(&format!("{data}\n"))?,
            "message" => {
                let Line { stream, line } = serde_json::from_str(data).map_err(unclear)?;
                match stream {
                    Output::Stdout => print(&(shown(&line, io::stdout().is_terminal()) + "\n"))?,
                    Output::Stderr => note(&shown(&line, io::stderr().is_terminal())),
                }
            }
            "lagged" => {
                let Lagged { missed_bytes } = serde_json::from_str(data).map_err(unclear)?;
                let are = plural(missed_bytes, "byte of output is", "bytes of output are");
                note(&format!("({missed_bytes} {are} no longer kept)"));
            }
            "end" => at.end = Some(serde_json::from_str(data).map_err(unclear)?),
            _ => {}
        }
        Ok(())
    }

    /// Prints the status of the job. The exit code tells it as well.
    async fn conclude(&self, server: &Server, end: Option<End>) -> Result<ExitCode, CliError> {
        let (status, answer) = server.ask(server.request(Method::GET, &["jobs", &self.job], &[])).await?;
        let of = |member: &str| answer.get(member).and_then(Value::as_str);
        let now = of("status").or(end.as_ref().and_then(|end| end.status.as_deref()));
        let attempt = end.as_ref().map_or_else(String::new, |end| format!("attempt {} ended; ", end.attempt));
        let what = match now {
            _ if status == StatusCode::NOT_FOUND => "the job is gone: completed or deleted".to_owned(),
            Some("scheduled") => {
                let at = answer.get("ready_at").and_then(Value::as_u64).unwrap_or(0);
                format!("the job is retried in {}", distance(at))
            }
            Some(now) => format!("the job is {now}"),
            None => "the server does not give the status of the job".to_owned(),
        };
        if !self.target.json {
            note(&format!("{attempt}{what}"));
        }
        let is_well = status == StatusCode::NOT_FOUND || now == Some("completed");
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Prints a note beside the job's output.
fn note(text: &str) {
    // Without a reader there is nothing to be done.
    drop(writeln!(io::stderr(), "{text}"));
}

/// A line of a job; on a terminal without control characters.
fn shown(line: &str, on_terminal: bool) -> String {
    if on_terminal {
        line.chars().filter(|&c| c == '\t' || !c.is_control()).collect()
    } else {
        line.to_owned()
    }
}
