//! Judges how the run of a job ended.
//!
//! A runner states what happened ([`Fact`]); the table of its route ([`Rules`]) decides what follows ([`Outcome`]), which
//! the table of jobs turns into the [`Verdict`](crate::report::Verdict) that is reported.

mod rules;
mod signals;

use std::fmt;
use std::time::Duration;

use protocol::outcome::Failure;
use reqwest::StatusCode;

use crate::report::JobResult;

pub(crate) use rules::{Action, Kind, Rules};
pub(crate) use signals::name_of as signal_name;

/// The longest message of a failure, in bytes; the rest is in the backtrace or the log.
const MAX_MESSAGE: usize = 1024;

/// The shortest pause before a retry, whatever the other side asks for.
pub(crate) const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A duration in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How the run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A command exited with this code.
    Exit(u8),
    /// A command was killed by a signal that this worker did not send.
    Signal(i32),
    /// A command was killed because it exceeded its memory limit.
    OutOfMemory,
    /// A command was killed because it exceeded its CPU time limit.
    OutOfCpuTime,
    /// It exceeded its timeout.
    TimedOut(Duration),
    /// This worker could not start it.
    CannotStart(String),
    /// The program that the job itself names could not be started.
    NoSuchProgram(String),
    /// The payload does not fit the templates of the route.
    BadJob(String),
    /// An endpoint answered; `pause` is its `Retry-After`.
    Status { status: StatusCode, pause: Option<Duration> },
    /// An endpoint did not answer.
    NoAnswer(String),
    /// This worker stopped it, as it was told to.
    Stopped,
}

/// What a job reported about itself over the control channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) result: Option<JobResult>,
    pub(crate) failure: Option<Failure>,
}

/// What follows from how the run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It succeeded.
    Success(Option<JobResult>),
    /// It failed.
    Failure(Failure),
    /// The command or endpoint is too busy: the job is given back without counting an attempt.
    Release {
        reason: String,
        /// The pause it asked for. The pool decides the actual one.
        pause: Option<Duration>,
    },
    /// This worker is at fault: the job is given back, and its route rests.
    BackOff { reason: String },
    /// The job failed in a way that may be this worker's fault: it is, if other jobs fail in the same way.
    Suspect(Failure),
    /// This worker stopped it.
    Stopped,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(126) => f.write_str("exited with code 126: a command is not executable"),
            Self::Exit(127) => f.write_str("exited with code 127: a command was not found"),
            Self::Exit(code @ 129..=192) => {
                let signal = signal_name(i32::from(*code) - 128);
                write!(f, "exited with code {code}, as a shell does after {signal}")
            }
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => write!(f, "killed by {}", signal_name(*number)),
            Self::OutOfMemory => f.write_str("killed: out of memory"),
            Self::OutOfCpuTime => f.write_str("killed: out of CPU time"),
            Self::TimedOut(after) => write!(f, "timed out after {}", humantime::format_duration(*after)),
            Self::CannotStart(why) | Self::NoSuchProgram(why) => write!(f, "could not be started: {why}"),
            Self::BadJob(why) => write!(f, "the job does not fit its route: {why}"),
            Self::Status { status, .. } => write!(f, "the endpoint answered {status}"),
            Self::NoAnswer(why) => write!(f, "no answer from the endpoint: {why}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl Fact {
    /// The `error_type`, for programs.
    pub(crate) const fn error_type(&self) -> &'static str {
        match self {
            Self::Exit(_) => "exit_code",
            Self::Signal(_) => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::OutOfCpuTime => "out_of_cpu_time",
            Self::TimedOut(_) => "timed_out",
            Self::CannotStart(_) | Self::NoSuchProgram(_) => "cannot_start",
            Self::BadJob(_) => "bad_job",
            Self::Status { .. } => "http_status",
            Self::NoAnswer(_) => "http_error",
            Self::Stopped => "stopped",
        }
    }

    const fn is_of_command(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::NoAnswer(_))
    }
}

impl Rules {
    /// Decides what follows. `detail` is the end of a command's standard error, or the start of a response body.
    pub(crate) fn judge(&self, fact: &Fact, detail: &str, said: Said) -> Outcome {
        if *fact == Fact::Stopped {
            return Outcome::Stopped;
        }
        let action = self.action(fact);
        let gives_back = matches!(action, Action::BackOff | Action::Suspect | Action::Release);
        if let Some(failure) = said.failure.filter(|_| !gives_back) {
            return Outcome::Failure(failure);
        }
        let pause = match fact {
            Fact::Status { pause, .. } => *pause,
            _ => None,
        };
        match action {
            Action::Success => Outcome::Success(said.result),
            Action::Retry => {
                let delay_ms = pause.map(|pause| millis(pause.max(LEAST_PAUSE)));
                Outcome::Failure(Failure { delay_ms, ..failure(fact, detail) })
            }
            Action::Dead => Outcome::Failure(Failure { kill: Some(true), ..failure(fact, detail) }),
            Action::Release => Outcome::Release { reason: message(fact, detail), pause },
            Action::BackOff => Outcome::BackOff { reason: message(fact, detail) },
            Action::Suspect => Outcome::Suspect(failure(fact, detail)),
        }
    }
}

fn failure(fact: &Fact, detail: &str) -> Failure {
    Failure {
        message: message(fact, detail),
        error_type: Some(fact.error_type().to_owned()),
        backtrace: (fact.is_of_command() && !detail.trim().is_empty()).then(|| detail.to_owned()),
        ..Failure::default()
    }
}

/// A command's last line and how it ended, or an endpoint's status and body.
fn message(fact: &Fact, detail: &str) -> String {
    let how = fact.to_string();
    let how = start_of(&how, MAX_MESSAGE);
    if fact.is_of_command() {
        return match detail.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty()) {
            Some(line) => format!("{} ({how})", start_of(line, MAX_MESSAGE)),
            None => how.to_owned(),
        };
    }
    match detail.trim() {
        "" => how.to_owned(),
        body => format!("{how}: {}", start_of(body, MAX_MESSAGE)),
    }
}

/// The start of a text that fits into `max` bytes.
pub(crate) fn start_of(text: &str, max: usize) -> &str {
    let end = (0..=max).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
    if text.len() <= max { text } else { text.get(..end).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
