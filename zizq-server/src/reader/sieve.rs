//! Filters jobs by a jq expression: the next batch is read while the helper evaluates the present one.

use std::time::Duration;

use super::ReadError;
use crate::engine::command::jobs::Seen;
use crate::jq::{Admission, Session};

/// The first batch is small, so that errors in an expression show early. Batches grow while the helper takes less than
/// this time for one, up to these limits.
const FIRST: usize = 64;
const LONG: Duration = Duration::from_millis(20);
const MAX_JOBS: usize = 8_192;
const MAX_BYTES: usize = 1024 * 1024;

pub(super) struct Sieve {
    session: Session,
    /// The jobs gathered for the next batch.
    next: Vec<Seen>,
    bytes: usize,
    /// The batch that the helper evaluates.
    running: Vec<Seen>,
    size: usize,
}

impl Sieve {
    /// # Errors
    /// When the expression is invalid, or must be a condition and is not.
    pub(super) fn open(admission: Admission, expression: &str, is_strict: bool) -> Result<Self, ReadError> {
        let session = admission.compile(expression, is_strict)?;
        Ok(Self { session, next: Vec::new(), bytes: 0, running: Vec::new(), size: FIRST })
    }

    /// Takes jobs and returns those that match, in order; with the last call, all of the remaining ones.
    ///
    /// # Errors
    /// When the expression is stopped, or must be a condition and is not.
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
