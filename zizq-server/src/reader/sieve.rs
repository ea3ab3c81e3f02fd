//! Sifting jobs by a jq expression: while the helper looks at one batch of payloads, the next is read.

use std::time::Duration;

use super::ReadError;
use crate::engine::command::jobs::Seen;
use crate::jq::{Admission, Session};

/// The first batch is small, so that what is wrong with an expression shows soon. The following ones grow as long as
/// they take the helper less than this time, up to these limits.
const FIRST: usize = 64;
const LONG: Duration = Duration::from_millis(20);
const MAX_JOBS: usize = 8_192;
const MAX_BYTES: usize = 1024 * 1024;

pub(super) struct Sieve {
    session: Session,
    /// Gathers for the next batch.
    next: Vec<Seen>,
    bytes: usize,
    /// What the helper has at hand.
    running: Vec<Seen>,
    size: usize,
}

impl Sieve {
    /// # Errors
    /// When the expression is none, or has to be a condition and is not.
    pub(super) fn open(admission: Admission, expression: &str, is_strict: bool) -> Result<Self, ReadError> {
        let session = admission.compile(expression, is_strict)?;
        Ok(Self { session, next: Vec::new(), bytes: 0, running: Vec::new(), size: FIRST })
    }

    /// Takes jobs in, and gives those back that match, in their order; all of them with the last ones.
    ///
    /// # Errors
    /// When the expression is stopped, or is no condition where it has to be one.
    pub(super) fn pass(&mut self, jobs: Vec<Seen>, last: bool) -> Result<Vec<Seen>, ReadError> {
        self.bytes += jobs.iter().map(|seen| seen.job.payload.bytes().len()).sum::<usize>();
        self.next.extend(jobs);
        if !last && self.next.len() < self.size && self.bytes < MAX_BYTES {
            return Ok(Vec::new());
        }
        let mut matching = self.collect()?;
        self.running = std::mem::take(&mut self.next);
        self.bytes = 0;
        if !self.running.is_empty() {
            self.session.begin(self.running.iter().map(|seen| &seen.job.payload))?;
        }
        if last {
            matching.extend(self.collect()?);
        }
        Ok(matching)
    }

    fn collect(&mut self) -> Result<Vec<Seen>, ReadError> {
        if self.running.is_empty() {
            return Ok(Vec::new());
        }
        let (matches, took) = self.session.finish()?;
        if took < LONG {
            self.size = (self.size * 2).min(MAX_JOBS);
        }
        let jobs = std::mem::take(&mut self.running).into_iter().zip(matches);
        Ok(jobs.filter_map(|(seen, matches)| matches.then_some(seen)).collect())
    }
}
