//! The one table that maps how a run ended to what follows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;

use super::{Fact, signals};

/// What follows from how a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// The job succeeded.
    Success,
    /// The attempt failed; the server, or `Retry-After`, decides when to retry.
    Retry,
    /// The job is dead (dead-lettered): a retry would be useless.
    Dead,
    /// Not now: the job is given back for later, without counting an attempt.
    Release,
    /// This worker is at fault: the job is given back without counting an attempt, and the route rests with exponential
    /// backoff.
    BackOff,
    /// The attempt failed, unless other jobs fail in the same way: then this worker is at fault.
    #[serde(skip)]
    Suspect,
}

/// The condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// Exit codes, or HTTP statuses.
    Code(RangeInclusive<u16>),
    /// One signal, or any.
    Signal(Option<i32>),
    OutOfMemory,
    OutOfCpuTime,
    TimedOut,
    CannotStart,
    NoSuchProgram,
    BadJob,
    NoAnswer,
}

/// What runs the jobs of a route, which decides what codes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Command,
    Http,
}

/// The rules of a route: its own first, then the defaults. The first match counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    own: Vec<(When, Action)>,
    defaults: Vec<(When, Action)>,
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is not a possible outcome on this route; write {expected}")]
pub(crate) struct RuleError {
    key: String,
    expected: &'static str,
}

/// The default rules. 75 is EX_TEMPFAIL of sysexits.h; its neighbours are permanent errors.
fn defaults(kind: Kind) -> Vec<(When, Action)> {
    let codes = |first, last, action| (When::Code(first..=last), action);
    let mut table = match kind {
        Kind::Command => vec![
            codes(0, 0, Action::Success),
            codes(75, 75, Action::Retry),
            codes(64, 78, Action::Dead),
            codes(126, 127, Action::Suspect),
        ],
        Kind::Http => vec![
            codes(200, 299, Action::Success),
            codes(408, 408, Action::Retry),
            codes(425, 425, Action::Retry),
            codes(429, 429, Action::Release),
            codes(503, 503, Action::Release),
            codes(400, 499, Action::Dead),
        ],
    };
    table.push((When::NoSuchProgram, Action::Suspect));
    table.push((When::CannotStart, Action::BackOff));
    table.push((When::BadJob, Action::Dead));
    table
}

impl Rules {
    /// The defaults.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { own: Vec::new(), defaults: defaults(kind) }
    }

    /// The defaults, and the rules of a route over them.
    pub(crate) fn with(kind: Kind, own: &BTreeMap<String, Action>) -> Result<Self, RuleError> {
        let line = |(key, action): (&String, &Action)| Ok((When::read(kind, key)?, *action));
        let mut own = own.iter().map(line).collect::<Result<Vec<_>, _>>()?;
        // The narrower rule wins, whatever the order in the file.
        own.sort_by_key(|(when, _)| match when {
            When::Code(codes) => codes.end() - codes.start(),
            When::Signal(None) => 1,
            _ => 0,
        });
        Ok(Self { own, ..Self::new(kind) })
    }

    /// What follows. Without a matching rule, a retry.
    pub(super) fn action(&self, fact: &Fact) -> Action {
        let lines = self.own.iter().chain(&self.defaults);
        lines.into_iter().find(|(when, _)| when.is(fact)).map_or(Action::Retry, |(_, action)| *action)
    }
}

impl When {
    fn read(kind: Kind, key: &str) -> Result<Self, RuleError> {
        let expected = match kind {
            Kind::Command => {
                "an exit code (`3`, `10-19`), `signal`, a name such as `SIGSEGV`, `out_of_memory`, `out_of_cpu_time`, \
                 `timed_out`, `cannot_start` or `bad_job`"
            }
            Kind::Http => "a status (`404`, `5xx`, `500-599`), `no_answer`, `timed_out` or `bad_job`",
        };
        let range = match kind {
            Kind::Command => 0..=255,
            Kind::Http => 100..=599,
        };
        let found = match (kind, key) {
            (_, "timed_out") => Some(Self::TimedOut),
            (_, "bad_job") => Some(Self::BadJob),
            (Kind::Http, "no_answer") => Some(Self::NoAnswer),
            (Kind::Command, "out_of_memory") => Some(Self::OutOfMemory),
            (Kind::Command, "out_of_cpu_time") => Some(Self::OutOfCpuTime),
            (Kind::Command, "cannot_start") => Some(Self::CannotStart),
            (Kind::Command, "signal") => Some(Self::Signal(None)),
            (Kind::Command, name) if name.starts_with("SIG") => {
                signals::number_of(name).map(|number| Self::Signal(Some(number)))
            }
            (_, codes) => self::codes(codes)
                .filter(|codes| range.contains(codes.start()) && range.contains(codes.end()))
                .map(Self::Code),
        };
        found.ok_or_else(|| RuleError { key: key.to_owned(), expected })
    }

    fn is(&self, fact: &Fact) -> bool {
        match (self, fact) {
            (Self::Code(codes), Fact::Exit(code)) => codes.contains(&u16::from(*code)),
            (Self::Code(codes), Fact::Status { status, .. }) => codes.contains(&status.as_u16()),
            (Self::Signal(Some(one)), Fact::Signal(number)) => one == number,
            (Self::Signal(None), Fact::Signal(_))
            | (Self::OutOfMemory, Fact::OutOfMemory)
            | (Self::OutOfCpuTime, Fact::OutOfCpuTime)
            | (Self::TimedOut, Fact::TimedOut(_))
            | (Self::CannotStart, Fact::CannotStart(_) | Fact::NoSuchProgram(_))
            | (Self::NoSuchProgram, Fact::NoSuchProgram(_))
            | (Self::BadJob, Fact::BadJob(_))
            | (Self::NoAnswer, Fact::NoAnswer(_)) => true,
            _ => false,
        }
    }
}

/// Reads `3`, `10-19` or `5xx`.
fn codes(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(hundreds) = text.strip_suffix("xx") {
        let first = hundreds.parse::<u16>().ok()?.checked_mul(100)?;
        return Some(first..=first + 99);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let codes = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!codes.is_empty()).then_some(codes)
}
