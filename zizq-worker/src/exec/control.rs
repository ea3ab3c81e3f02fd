//! What a command says over its control channel: lines of JSON.
//!
//! ```text
//! {"progress": 0.4, "message": "frame 400/1000"}
//! {"result": ...}
//! {"enqueue": {"queue": ..., "type": ..., "payload": ...}}
//! {"fail": {"message": "no such customer", "kill": true}}
//! {"retry_at": 1767225600000, "message": "too early"}
//! ```

use std::time::Duration;

use protocol::job::DeliveredJob;
use protocol::outcome::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::output::End;
use super::{Shared, Stop, stopped};
use crate::backoff::Backoff;
use crate::client::CallError;
use crate::event::{Event, Progress};
use crate::outcome::{JobResult, Said};

/// The longest line: a result may have 1 MiB, and so may the payload of a new job.
const MAX_LINE: usize = 4 << 20;

/// One line. Members that stand for different things may stand together.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    progress: Option<f64>,
    message: Option<String>,
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default, borrow)]
    enqueue: Option<&'a RawValue>,
    fail: Option<Fail>,
    retry_at: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Fail {
    Message(String),
    Whole(Failure),
}

/// Listens to one command.
#[derive(Debug)]
pub(super) struct Control<'a> {
    pub(super) shared: &'a Shared,
    pub(super) job: &'a DeliveredJob,
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) said: Said,
}

impl Control<'_> {
    /// Reads the channel to its end. When this is over, every new job is with the server, or this one fails.
    pub(super) async fn listen(&mut self, channel: Option<pipe::Receiver>, end: &End) {
        let Some(mut channel) = channel else { return };
        let (mut buffer, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let n = tokio::select! {
                n = channel.read(&mut chunk) => n.unwrap_or(0),
                () = end.over() => break,
            };
            buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            while let Some(at) = memchr::memchr(b'\n', &buffer) {
                let line: Vec<u8> = buffer.drain(..=at).collect();
                self.line(&line).await;
            }
            if buffer.len() > MAX_LINE {
                tracing::warn!(job = %self.job.id, "a line on the control channel is longer than {MAX_LINE} bytes; dropped");
                buffer.clear();
            }
            if n == 0 {
                break;
            }
        }
        if !buffer.is_empty() {
            self.line(&buffer).await;
        }
    }

    async fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let Line { progress, message, result, enqueue, fail, retry_at } = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(e) => {
                let line = String::from_utf8_lossy(line.get(..line.len().min(200)).unwrap_or_default());
                tracing::warn!(job = %self.job.id, "a line on the control channel cannot be read ({e}): {}", line.trim_end());
                return;
            }
        };
        if let Some(job) = enqueue {
            self.enqueue(job).await;
        }
        if let Some(result) = result {
            self.said.result = Some(JobResult(result.to_owned()));
        }
        if let Some(fail) = fail {
            self.said.failure = Some(match fail {
                Fail::Message(message) => Failure { message, ..Failure::default() },
                Fail::Whole(failure) => failure,
            });
        }
        if retry_at.is_some() {
            let message =
                message.clone().unwrap_or_else(|| "the job asked to be tried again later".to_owned());
            self.said.failure = Some(Failure { message, retry_at, ..Failure::default() });
        }
        if progress.is_some() || (message.is_some() && retry_at.is_none()) {
            self.progress(Progress { progress: progress.filter(|p| (0.0..=1.0).contains(p)), message }).await;
        }
    }

    async fn progress(&self, progress: Progress) {
        let event = Event::Progress { id: self.job.id, progress };
        if self.shared.events.send(event).await.is_err() {
            tracing::debug!("the pool has ended before its jobs");
        }
    }

    /// Puts a new job into its queue, for as long as that takes. Where the server does not want it, this job fails.
    async fn enqueue(&mut self, job: &RawValue) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let pause = match self.shared.client.enqueue(job).await {
                Ok(()) => return,
                Err(CallError::Refused { status, message }) => {
                    let message = format!("a job that it enqueued was refused with {status}: {message}");
                    self.said.failure = Some(Failure { message, ..Failure::default() });
                    return;
                }
                Err(e) => {
                    tracing::warn!(job = %self.job.id, "a new job waits for the server: {e}");
                    backoff.next()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut self.stop) => return,
            }
        }
    }
}
