//! One line about what became of each job. It says everything, for it may be the only one that is read.

use std::fmt;

use protocol::id::JobId;
use protocol::job::DeliveredJob;
use protocol::name::{JobType, QueueName};

use super::Pool;
use crate::exec::Usage;
use crate::logging::{SUCCESS, is_for_people};
use crate::outcome::Outcome;
use crate::thin;

/// What a job is known by.
#[derive(Debug, Clone)]
pub(super) struct About {
    queue: QueueName,
    job_type: JobType,
    /// Counted from 1.
    attempt: u32,
}

/// The target of all that is no success.
const FAILURE: &str = module_path!();
/// How much of what a job says of itself is said again, in characters.
const MAX_MESSAGE: usize = 1_000;

/// The start of a message, in one line.
pub(crate) fn one_line(message: &str) -> String {
    let mut chars = message.trim().chars();
    let mut line: String =
        chars.by_ref().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

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

    /// Says what became of a run. Where jobs come faster than people read, a success is only counted.
    pub(super) fn tell(&self, job: JobId, outcome: &Outcome, ms: u64, usage: Option<Usage>) {
        let Self { queue, job_type, attempt } = self;
        let cpu_ms = usage.map(|usage| usage.cpu_ms);
        let peak_bytes = usage.and_then(|usage| usage.peak_bytes);
        macro_rules! say {
            ($level:ident, $target:expr, $($text:tt)+) => {
                if is_for_people() {
                    tracing::$level!(target: $target, %job, $($text)+);
                } else {
                    tracing::$level!(
                        target: $target, %job, %queue, %job_type, attempt, ms, cpu_ms, peak_bytes, $($text)+
                    );
                }
            };
        }
        match outcome {
            Outcome::Success(_) if thin::is_on() => {}
            Outcome::Success(_) => say!(info, SUCCESS, "{self} succeeded (attempt {attempt}, {ms} ms)"),
            Outcome::Failure(failure) | Outcome::Suspect(failure) if failure.kill == Some(true) => {
                say!(
                    warn,
                    FAILURE,
                    "{self} failed for good (attempt {attempt}): {}",
                    one_line(&failure.message)
                );
            }
            Outcome::Failure(failure) | Outcome::Suspect(failure) => {
                say!(warn, FAILURE, "{self} failed (attempt {attempt}): {}", one_line(&failure.message))
            }
            Outcome::Release { reason, .. } => {
                say!(warn, FAILURE, "{self} given back for later (attempt {attempt}): {}", one_line(reason));
            }
            Outcome::BackOff { reason } => {
                say!(
                    error,
                    FAILURE,
                    "{self} could not be run, given back (attempt {attempt}): {}",
                    one_line(reason)
                );
            }
            Outcome::Stopped => say!(warn, FAILURE, "{self} was ended (attempt {attempt}, {ms} ms)"),
        }
    }
}

impl Pool {
    /// Keeps in mind what matters for the exit code.
    pub(super) fn note(&mut self, id: JobId, outcome: &Outcome) {
        if !self.until.is_batch() {
            return;
        }
        match outcome {
            Outcome::Success(_) => _ = self.failing.remove(&id),
            Outcome::Failure(_) | Outcome::Suspect(_) => _ = self.failing.insert(id),
            Outcome::Release { .. } | Outcome::BackOff { .. } | Outcome::Stopped => {}
        }
    }
}
