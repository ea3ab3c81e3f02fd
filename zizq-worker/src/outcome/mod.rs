//! From what a job left behind to what that means.
//!
//! A runner says what happened ([`Fact`]); the table of its route ([`Rules`]) says what follows ([`Outcome`]).

mod rules;
mod signals;

use std::fmt;
use std::time::Duration;

use protocol::outcome::Failure;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use rules::{Action, Kind, Rules};
pub(crate) use signals::name_of as signal_name;

/// The longest message of a failure, in bytes; what is behind it is in the backtrace or in the log.
const MAX_MESSAGE: usize = 1024;

/// The shortest pause before something is tried again, whatever the other side says.
pub(crate) const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A length of time in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What became of the run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A command ended by itself.
    Exit(u8),
    /// A command was ended by a signal that this worker did not send.
    Signal(i32),
    /// A command was ended because it used more memory than it may.
    OutOfMemory,
    /// A command used more CPU time than it may.
    OutOfCpuTime,
    /// It took longer than it may.
    TimedOut(Duration),
    /// This worker could not even start it.
    CannotStart(String),
    /// The program that the job itself names could not be started.
    NoSuchProgram(String),
    /// The payload does not give what the route makes of it.
    BadJob(String),
    /// An endpoint answered; `pause` is what its `Retry-After` says.
    Status { status: StatusCode, pause: Option<Duration> },
    /// An endpoint did not answer.
    NoAnswer(String),
    /// The worker was told to end it.
    Stopped,
}

/// What a job said of itself, over the control channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) result: Option<JobResult>,
    pub(crate) failure: Option<Failure>,
}

/// What a job produced: JSON as it came, comparable by its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct JobResult(pub(crate) Box<RawValue>);

impl PartialEq for JobResult {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for JobResult {}

/// How the run of a job ended, for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it should.
    Success(Option<JobResult>),
    /// It failed.
    Failure(Failure),
    /// Somebody is too busy for it: it is given back, and no attempt is counted.
    Release {
        reason: String,
        /// How long it wants to be left alone, if it said so. What that comes to is the business of the pool.
        pause: Option<Duration>,
    },
    /// This worker is at fault: the job is given back, and its route rests for a while.
    BackOff { reason: String },
    /// The job failed in a way that can be the fault of this worker, too: so it is if other jobs fail in the same way.
    Suspect(Failure),
    /// It was ended because the worker was told to.
    Stopped,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(126) => f.write_str("exited with code 126: a command cannot be executed"),
            Self::Exit(127) => f.write_str("exited with code 127: a command was not found"),
            Self::Exit(code @ 129..=192) => {
                let signal = signal_name(i32::from(*code) - 128);
                write!(f, "exited with code {code}, as a shell does after {signal}")
            }
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => write!(f, "killed by {}", signal_name(*number)),
            Self::OutOfMemory => f.write_str("killed for want of memory"),
            Self::OutOfCpuTime => f.write_str("killed because it used up its CPU time"),
            Self::TimedOut(after) => write!(f, "took longer than {}", humantime::format_duration(*after)),
            Self::CannotStart(why) | Self::NoSuchProgram(why) => write!(f, "could not be started: {why}"),
            Self::BadJob(why) => write!(f, "does not fit its route: {why}"),
            Self::Status { status, .. } => write!(f, "the endpoint answered {status}"),
            Self::NoAnswer(why) => write!(f, "the endpoint gave no answer: {why}"),
            Self::Stopped => f.write_str("was ended"),
        }
    }
}

impl Fact {
    /// The class of the error, as programs tell it apart.
    const fn error_type(&self) -> &'static str {
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
    /// What follows from what happened. `detail` is the end of a command's standard error, or the start of a body.
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

/// The last line that a command printed and how it ended, or how an endpoint answered and what.
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

/// As much of the text as fits into `max` bytes.
pub(crate) fn start_of(text: &str, max: usize) -> &str {
    let end = (0..=max).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
    if text.len() <= max { text } else { text.get(..end).unwrap_or_default() }
}

#[cfg(test)]
mod tests;
