//! Selects the jobs of a call. Everything but the jq expression is decided here.

use std::fmt;

use protocol::error::excerpt;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::{BudgetKey, JobType, QueueName};
use protocol::synonyms;
use protocol::time::{self, InvalidTime};

use super::Job;
use super::id::Stamp;

/// The conditions of a call, joined by AND. `None` accepts all. Lists are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub ids: Option<Vec<JobId>>,
    pub queues: Option<Vec<QueueName>>,
    pub types: Option<Vec<JobType>>,
    pub statuses: Option<Vec<Status>>,
    /// Budgets; a job must draw on at least one of them.
    pub budgets: Option<Vec<BudgetKey>>,
    pub priority: Option<Span>,
    pub ready_at: Option<Span>,
    pub attempts: Option<Span>,
    /// Jobs that were enqueued before the one with this id, whether there is one or not: a job's stamp is smaller.
    pub until: Option<JobId>,
    /// Who holds it, as the engine knows: the name of a worker, or of a stream. Nobody holds a job that is not in flight.
    pub worker: Option<String>,
    /// A jq expression over the payload.
    pub jq: Option<String>,
}

impl Filter {
    pub fn wants_status(&self, status: Status) -> bool {
        self.statuses.as_ref().is_none_or(|wanted| wanted.contains(&status))
            && (self.worker.is_none() || status == Status::InFlight)
    }

    /// Whether it accepts jobs with no other status.
    pub fn wants_only(&self, status: Status) -> bool {
        Status::ALL.into_iter().all(|other| other == status || !self.wants_status(other))
    }

    /// The ids of jobs that are looked up one by one, if that is how they are found. Who holds a job, only the list of all
    /// jobs in flight says.
    pub fn named(&self) -> Option<&[JobId]> {
        self.ids.as_deref().filter(|_| self.worker.is_none())
    }

    /// Whether a job is in the lists of ids, queues and types.
    pub fn lists(&self, id: &JobId, queue: &QueueName, job_type: &JobType) -> bool {
        has(self.ids.as_ref(), id) && has(self.queues.as_ref(), queue) && has(self.types.as_ref(), job_type)
    }

    /// Whether the job matches, ignoring its status, who holds it, and the jq expression.
    pub fn accepts_all_but_status(&self, job: &Job, queue: &QueueName) -> bool {
        has(self.ids.as_ref(), &job.id)
            && has(self.queues.as_ref(), queue)
            && has(self.types.as_ref(), &job.job_type)
            && self.budgets.as_ref().is_none_or(|keys| draws_on(job, keys))
            && holds(self.priority, u64::from(job.priority))
            && holds(self.ready_at, job.ready_at)
            && holds(self.attempts, u64::from(job.attempts))
            && self.until.is_none_or(|until| Stamp::of(job.id) < Stamp::of(until))
    }

    /// Whether the job matches, ignoring who holds it, and the jq expression.
    pub fn accepts(&self, job: &Job, queue: &QueueName, status: Status) -> bool {
        self.wants_status(status) && self.accepts_all_but_status(job, queue)
    }

    /// Whether it says nothing about jobs but when they were enqueued.
    pub fn is_of_all(&self) -> bool {
        *self == Self { until: self.until, ..Self::default() }
    }

    /// Whether the counts by queue and status give the number of matching jobs.
    pub fn is_of_queue_and_status(&self) -> bool {
        let Self {
            ids,
            queues: _,
            types,
            statuses: _,
            budgets,
            priority,
            ready_at,
            attempts,
            until,
            worker,
            jq,
        } = self;
        ids.is_none()
            && types.is_none()
            && budgets.is_none()
            && [priority, ready_at, attempts].into_iter().all(Option::is_none)
            && until.is_none()
            && worker.is_none()
            && jq.is_none()
    }
}

fn draws_on(job: &Job, keys: &[BudgetKey]) -> bool {
    let bindings = job.flow.as_ref().map_or(&[][..], |flow| &flow.budgets);
    bindings.iter().any(|binding| keys.binary_search(&binding.key).is_ok())
}

fn has<T: Ord>(list: Option<&Vec<T>>, value: &T) -> bool {
    list.is_none_or(|list| list.binary_search(value).is_ok())
}

fn holds(span: Option<Span>, n: u64) -> bool {
    span.is_none_or(|span| span.contains(n))
}

/// A range of integers, both ends included: `N`, `A..B`, `..B`, `A..`, `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from: Option<u64>,
    to: Option<u64>,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpan {
    #[error("a range is written N, A..B, A.. or ..B, with integers{0}")]
    Malformed(String),
    #[error("the range ends before it begins")]
    Reversed,
    #[error("{end} is out of range 0 to {highest}")]
    Beyond { end: String, highest: u64 },
    #[error(transparent)]
    Time(#[from] InvalidTime),
}

impl Span {
    pub fn contains(self, n: u64) -> bool {
        self.from.is_none_or(|from| from <= n) && self.to.is_none_or(|to| n <= to)
    }

    /// Parses a range of a field whose values go up to `highest`.
    ///
    /// # Errors
    /// [`InvalidSpan`].
    pub fn parse(text: &str, highest: u64) -> Result<Self, InvalidSpan> {
        Self::of_ends(text, |digits| {
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidSpan::malformed(text));
            }
            let n = digits.parse().ok().filter(|n| *n <= highest);
            n.ok_or_else(|| InvalidSpan::Beyond { end: excerpt(digits), highest })
        })
    }

    /// Parses a range of times, in milliseconds or in RFC 3339 format.
    ///
    /// # Errors
    /// [`InvalidSpan`].
    pub fn parse_times(text: &str) -> Result<Self, InvalidSpan> {
        Self::of_ends(text, |end| Ok(time::parse(end)?))
    }

    fn of_ends(text: &str, end: impl Fn(&str) -> Result<u64, InvalidSpan>) -> Result<Self, InvalidSpan> {
        let end = |text: &str| if text.is_empty() { Ok(None) } else { end(text).map(Some) };
        let Some((from, to)) = text.split_once("..") else {
            let n = end(text)?.ok_or_else(|| InvalidSpan::malformed(text))?;
            return Ok(Self { from: Some(n), to: Some(n) });
        };
        let span = Self { from: end(from)?, to: end(to)? };
        match (span.from, span.to) {
            (Some(from), Some(to)) if from > to => Err(InvalidSpan::Reversed),
            _ => Ok(span),
        }
    }
}

impl InvalidSpan {
    fn malformed(text: &str) -> Self {
        Self::Malformed(
            synonyms::range(text).map_or_else(String::new, |range| format!("; did you mean {range}?")),
        )
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(from), true) = (self.from, self.from == self.to) {
            return write!(f, "{from}");
        }
        self.from.iter().try_for_each(|from| write!(f, "{from}"))?;
        f.write_str("..")?;
        self.to.iter().try_for_each(|to| write!(f, "{to}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_parsed() {
        for (text, inside, outside) in [
            ("5", vec![5], vec![4, 6]),
            ("2..4", vec![2, 3, 4], vec![1, 5]),
            ("..3", vec![0, 3], vec![4]),
            ("3..", vec![3, u64::MAX], vec![2]),
            ("..", vec![0, u64::MAX], vec![]),
        ] {
            let span = Span::parse(text, u64::MAX).unwrap();
            assert_eq!(span.to_string(), text);
            assert!(inside.into_iter().all(|n| span.contains(n)), "{text}");
            assert!(!outside.into_iter().any(|n| span.contains(n)), "{text}");
        }
        for bad in ["", "x", "-1", "1..x", "1.5", "1...2", "1,2", "+1", " 1"] {
            assert!(matches!(Span::parse(bad, 9), Err(InvalidSpan::Malformed(_))), "{bad}");
        }
        for (meant, range) in [
            (">3", "4.."),
            (">=3", "3.."),
            ("<3", "..2"),
            ("<= 3", "..3"),
            ("=3", "3"),
            ("1-5", "1..5"),
            ("1...5", "1..5"),
            ("1..=5", "1..5"),
        ] {
            let error = Span::parse(meant, 9).unwrap_err().to_string();
            assert!(error.ends_with(&format!("; did you mean {range}?")), "{meant}: {error}");
        }
        assert_eq!(Span::parse("4..2", 9), Err(InvalidSpan::Reversed));
        assert!(Span::parse("7..9", 9).is_ok());
        for beyond in ["10", "10..", "..10", "3..10", "99999999999999999999999"] {
            let invalid = Span::parse(beyond, 9);
            assert!(matches!(invalid, Err(InvalidSpan::Beyond { highest: 9, .. })), "{beyond}: {invalid:?}");
        }
    }
}
