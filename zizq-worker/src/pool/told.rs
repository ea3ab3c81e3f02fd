//! The log line about the outcome of each job. It is complete in itself, because people may read no other.

use std::fmt;
use std::time::Duration;

use protocol::id::JobId;
use protocol::job::{DeliveredJob, Status};
use protocol::name::{JobType, QueueName};

use tokio::time::Instant;

use super::Pool;
use crate::logging::{SUCCESS, is_for_people, one_line};
use crate::outcome::{Outcome, millis};
use crate::report::{AfterFailure, Usage};
use crate::stats::rounded;
use crate::{clock, thin};

/// What identifies a job for people.
#[derive(Debug, Clone)]
pub(super) struct About {
    queue: QueueName,
    job_type: JobType,
    /// Counted from 1.
    attempt: u32,
}

/// The log target of everything but successes.
const OTHERS: &str = module_path!();
/// How long a line waits for the server's answer about what follows.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.queue, self.job_type)
    }
}

impl About {
    pub(super) fn of(job: &DeliveredJob) -> Self {
        let (queue, job_type) = (job.queue.clone(), job.job_type.clone());
        Self { queue, job_type, attempt: job.attempts.saturating_add(1) }
    }

    /// The line about a run with this outcome.
    pub(super) fn line(self, outcome: &Outcome, ms: u64, usage: Option<Usage>) -> Line {
        let (kind, message) = match outcome {
            Outcome::Success(_) => (Kind::Succeeded, ""),
            Outcome::Failure(failure) | Outcome::Suspect(failure) => {
                let kind = if failure.kill == Some(true) { Kind::Dead } else { Kind::Failed };
                (kind, failure.message.as_str())
            }
            Outcome::Release { reason, .. } => (Kind::GivenBack, reason.as_str()),
            Outcome::BackOff { reason } => (Kind::NotRun, reason.as_str()),
            Outcome::Stopped => (Kind::Stopped, ""),
        };
        Line { about: self, kind, message: one_line(message), ms, usage, since: Instant::now() }
    }
}

/// How a run ended, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Succeeded,
    Failed,
    Dead,
    GivenBack,
    NotRun,
    Stopped,
}

/// A line that waits until it is known what follows.
#[derive(Debug)]
pub(super) struct Line {
    about: About,
    kind: Kind,
    message: String,
    ms: u64,
    usage: Option<Usage>,
    since: Instant,
}

impl Line {
    /// Whether the server decides what follows.
    const fn waits(&self) -> bool {
        matches!(self.kind, Kind::Failed | Kind::Dead)
    }

    /// Logs it. When jobs come faster than people read, successes are only counted.
    fn tell(self, job: JobId, next: Next) {
        let Next { is_dead, retry_limit, again } = next;
        let kind = if is_dead { Kind::Dead } else { self.kind };
        if kind == Kind::Succeeded && thin::is_on() {
            return;
        }
        let Self { about, message, ms, usage, .. } = self;
        let of = retry_limit.map_or_else(String::new, |limit| format!(" of {}", u64::from(limit) + 1));
        let more = match (kind, again) {
            (Kind::Succeeded | Kind::Stopped, _) => format!(", {ms} ms"),
            (Kind::Failed | Kind::GivenBack | Kind::NotRun, Some(time)) => {
                format!(", retry in {}", rounded(time))
            }
            _ => String::new(),
        };
        let colon = if message.is_empty() { "" } else { ": " };
        let word = match kind {
            Kind::Succeeded => "succeeded",
            Kind::Failed => "failed",
            Kind::Dead => "failed for good",
            Kind::GivenBack => "given back",
            Kind::NotRun => "could not be run, given back",
            Kind::Stopped => "stopped",
        };
        let text = format!("{about} {word} (attempt {}{of}{more}){colon}{message}", about.attempt);
        let cpu_ms = usage.map(|usage| usage.cpu_ms);
        let peak_bytes = usage.and_then(|usage| usage.peak_bytes);
        let again_in_ms = again.map(millis);
        let About { queue, job_type, attempt } = about;
        macro_rules! say {
            ($level:ident, $target:expr) => {
                if is_for_people() {
                    tracing::$level!(target: $target, %job, "{text}");
                } else {
                    tracing::$level!(
                        target: $target, %job, %queue, %job_type, attempt, ms, cpu_ms, peak_bytes, again_in_ms, "{text}"
                    );
                }
            };
        }
        match kind {
            Kind::Succeeded => say!(info, SUCCESS),
            Kind::NotRun => say!(error, OTHERS),
            Kind::Failed | Kind::Dead | Kind::GivenBack | Kind::Stopped => say!(warn, OTHERS),
        }
    }
}

/// What happens to the job next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next {
    is_dead: bool,
    /// The job's own retry limit, if it has one.
    retry_limit: Option<u32>,
    again: Option<Duration>,
}

impl Next {
    fn of(after: Option<AfterFailure>) -> Self {
        let Some(AfterFailure { status, ready_at, retry_limit }) = after else { return Self::default() };
        let is_dead = status == Status::Dead;
        let again = Duration::from_millis(ready_at.saturating_sub(clock::now_ms()));
        Self { is_dead, retry_limit, again: (!is_dead).then_some(again) }
    }

    /// What the worker itself decides: the pause of a job that is given back.
    fn of_pause(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Release { pause, .. } => Self { again: *pause, ..Self::default() },
            _ => Self::default(),
        }
    }
}

impl Pool {
    /// Logs a line, or holds it until the server has said what follows.
    pub(super) fn tell(&mut self, id: JobId, line: Line, outcome: &Outcome) {
        if line.waits() {
            if let Some(earlier) = self.untold.insert(id, line) {
                earlier.tell(id, Next::default());
            }
        } else {
            line.tell(id, Next::of_pause(outcome));
        }
    }

    /// Logs the held line of a job whose report was answered.
    pub(super) fn tell_next(&mut self, id: JobId, after: Option<AfterFailure>) {
        if let Some(line) = self.untold.remove(&id) {
            line.tell(id, Next::of(after));
        }
    }

    /// Logs lines that were held for too long: the server may be away.
    pub(super) fn tell_late(&mut self, patience: Duration) {
        for (id, line) in self.untold.extract_if(|_, line| line.since.elapsed() >= patience) {
            line.tell(id, Next::default());
        }
    }

    /// Remembers what the exit code depends on.
    pub(super) fn note(&mut self, id: JobId, outcome: &Outcome) {
        if !self.until.is_batch() {
            return;
        }
        self.given_back.remove(&id);
        match outcome {
            Outcome::Success(_) => _ = self.failing.remove(&id),
            Outcome::Failure(_) | Outcome::Suspect(_) => _ = self.failing.insert(id),
            Outcome::Release { pause, .. } => {
                _ = self.given_back.insert(id, Instant::now() + pause.unwrap_or_default());
            }
            Outcome::BackOff { .. } | Outcome::Stopped => {}
        }
    }
}
