//! The control channel, over which a command reports to the worker: lines of JSON.
//!
//! ```text
//! {"progress": 0.4, "message": "frame 400/1000"}
//! {"result": ...}
//! {"enqueue": {"queue": ..., "type": ..., "payload": ...}}
//! {"fail": {"message": "no such customer", "kill": true}}
//! {"retry_at": 1767225600000, "message": "too early"}
//! ```
//!
//! Any input takes bounded memory and a bounded number of lines in the log.

mod line;

use std::mem;
use std::pin::pin;
use std::time::Duration;

use protocol::job::DeliveredJob;
use protocol::number::MAX_TIME_MS;
use protocol::outcome::Failure;
use protocol::plural::plural;
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::line::{Bad, Line};
use super::output::End;
use super::{Shared, Stop, stopped};
use crate::backoff::Backoff;
use crate::client::CallError;
use crate::clock;
use crate::ctl::CONTROL_ERROR;
use crate::event::Event;
use crate::outcome::Said;
use crate::report::{JobResult, Progress};

/// The longest line: a result may be 1 MiB, and so may the payload of a new job.
const MAX_LINE: usize = 4 << 20;
/// How often progress is passed on: a job may report it as often as it likes.
const PACE: Duration = Duration::from_millis(200);
/// The longest progress message, in characters.
const MAX_MESSAGE: usize = 1_000;
/// How many characters of an unreadable line are shown.
const EXCERPT: usize = 200;

/// The control channel of one command.
#[derive(Debug)]
pub(super) struct Control<'a> {
    shared: &'a Shared,
    job: &'a DeliveredJob,
    stop: watch::Receiver<Stop>,
    pub(super) said: Said,
    /// Progress that was not passed on yet, and when it may be.
    news: Option<Progress>,
    next_news: Instant,
    /// The number of unreadable, harmless lines.
    unread: u64,
    /// How many jobs the command has enqueued.
    enqueued: u32,
}

impl<'a> Control<'a> {
    pub(super) fn new(shared: &'a Shared, job: &'a DeliveredJob, stop: watch::Receiver<Stop>) -> Self {
        let (said, next_news) = (Said::default(), Instant::now());
        Self { shared, job, stop, said, news: None, next_news, unread: 0, enqueued: 0 }
    }

    /// Reads the channel to its end. Afterwards the server has every new job, or this job fails.
    pub(super) async fn listen(&mut self, channel: Option<pipe::Receiver>, end: &End) {
        let Some(mut channel) = channel else { return };
        let (mut buffer, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
        let mut is_too_long = false;
        let mut over = pin!(end.over());
        loop {
            let n = tokio::select! {
                n = channel.read(&mut chunk) => n.unwrap_or(0),
                () = sleep_until(self.next_news), if self.news.is_some() => {
                    self.tell_news().await;
                    continue;
                }
                () = &mut over => break,
            };
            buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            let mut rest = &buffer[..];
            while let Some((line, behind)) =
                memchr::memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at))
            {
                // Only the end is left of a line that was too long.
                if !mem::take(&mut is_too_long) {
                    self.line(line).await;
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            let done = buffer.len() - rest.len();
            buffer.drain(..done);
            if buffer.len() > MAX_LINE {
                if !mem::replace(&mut is_too_long, true) {
                    self.cannot_read(line::too_long(&buffer, MAX_LINE), &buffer);
                }
                buffer.clear();
            }
            if n == 0 {
                break;
            }
        }
        if !is_too_long {
            self.line(&buffer).await;
        }
        self.tell_unread();
    }

    async fn line(&mut self, text: &[u8]) {
        if text.trim_ascii().is_empty() {
            return;
        }
        let Line { progress, message, result, enqueue, fail, retry_at, bad } = line::read(text);
        if let Some(bad) = bad {
            self.cannot_read(bad, text);
        }
        if let Some(job) = enqueue {
            self.enqueue(job).await;
        }
        if let Some(result) = result {
            self.said.result = Some(JobResult(result.to_owned()));
        }
        if fail.is_some() {
            self.said.failure = fail.map(from_now);
        }
        if retry_at.is_some() {
            let message = message.clone().unwrap_or_else(|| "the job asked to be retried later".to_owned());
            self.said.failure = Some(from_now(Failure { message, retry_at, ..Failure::default() }));
        }
        if progress.is_some() || (message.is_some() && retry_at.is_none()) {
            let news = self.news.get_or_insert_default();
            news.progress = progress.or(news.progress);
            let message = message.map(|text| text.chars().take(MAX_MESSAGE).collect());
            news.message = message.or(news.message.take());
        }
    }

    /// An unreadable line that was to decide something makes the job fail: it must not pass for a success.
    fn cannot_read(&mut self, bad: Bad, line: &[u8]) {
        let start = line.get(..line.len().min(4 * EXCERPT)).unwrap_or_default();
        let start = || String::from_utf8_lossy(start).trim().chars().take(EXCERPT).collect::<String>();
        match bad {
            Bad::Decisive(why) => {
                let message = format!("cannot read a line on the control channel: {why}: {}", start());
                let error_type = Some(CONTROL_ERROR.to_owned());
                self.said.failure.get_or_insert(Failure { message, error_type, ..Failure::default() });
            }
            Bad::Harmless(why) => {
                self.unread += 1;
                if self.unread == 1 {
                    tracing::warn!(job = %self.job.id, "cannot read a line on the control channel: {why}: {}", start());
                }
            }
        }
    }

    fn tell_unread(&self) {
        let more = self.unread.saturating_sub(1);
        if more > 0 {
            let noun = plural(more, "line", "lines");
            let more = zizq_log::grouped(more);
            tracing::warn!(job = %self.job.id, "{more} more {noun} on the control channel could not be read");
        }
    }

    async fn tell_news(&mut self) {
        self.next_news = Instant::now() + PACE;
        let Some(progress) = self.news.take() else { return };
        let event = Event::Progress { id: self.job.id, progress };
        if self.shared.events.send(event).await.is_err() {
            tracing::debug!("the pool ended before its jobs");
        }
    }

    /// Enqueues a new job, however long it takes. If the server refuses it, this job fails.
    async fn enqueue(&mut self, job: &RawValue) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut is_said = false;
        // A lost answer must not enqueue the job twice.
        self.enqueued += 1;
        let key = format!("{}-{}-{}", self.job.id, self.job.lease, self.enqueued);
        loop {
            let pause = match self.shared.client.enqueue(job, &key, self.job.trace.as_deref()).await {
                Ok(()) => return,
                Err(CallError::Refused { status, message, .. }) => {
                    let message =
                        format!("the server refused a job that this job enqueued: {status}: {message}");
                    self.said.failure = Some(Failure { message, ..Failure::default() });
                    return;
                }
                Err(e) => {
                    if !mem::replace(&mut is_said, true) {
                        tracing::warn!(job = %self.job.id, "a new job waits for the server: {e}");
                    }
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

/// Replaces the time of a retry by a delay, which does not depend on this machine's clock. The attempt counts like any
/// other, and the retry limit holds.
fn from_now(failure: Failure) -> Failure {
    let wait = |at: u64| at.min(MAX_TIME_MS).saturating_sub(clock::now_ms());
    Failure { retry_at: None, delay_ms: failure.retry_at.map(wait).or(failure.delay_ms), ..failure }
}
