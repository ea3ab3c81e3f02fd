//! Removes the output of deleted jobs. Readers of a log look up its job first, so the sweep only frees space and may be
//! slow: it walks through all logs when about as much has been written as there is to walk through, and every hour.

use std::time::{Duration, Instant};

use protocol::id::JobId;

use super::shelf::Shelf;
use crate::store::disk::DiskStore;
use crate::store::{Snapshot, Store, StoreError, view};

/// How many jobs are looked up at a time.
const SLICE: usize = 64;
const EVERY: Duration = Duration::from_secs(3_600);
/// The least number of chunks between sweeps.
const MIN_WRITTEN: usize = 16_384;

pub(super) struct Sweep {
    /// The next job to look up; `None` between sweeps.
    next: Option<JobId>,
    /// How many jobs still existed, in this sweep or the last.
    alive: usize,
    /// How many chunks have been written since.
    written: usize,
    due_at: Instant,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Self { next: None, alive: 0, written: 0, due_at: Instant::now() }
    }

    pub(super) fn count_written(&mut self, chunks: usize) {
        self.written += chunks;
        if self.written >= MIN_WRITTEN.max(self.alive) {
            self.begin();
        }
    }

    /// Begins a sweep; restarts one that is under way.
    pub(super) fn begin(&mut self) {
        (self.next, self.alive, self.written) = (Some(JobId::from_u128(0)), 0, 0);
        self.due_at = Instant::now() + EVERY;
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// When the next sweep is due.
    pub(super) const fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Looks up the next jobs, and removes the output of deleted ones. Pauses if a store fails.
    pub(super) fn go_on(&mut self, shelf: &mut Shelf, jobs: &DiskStore) {
        if let Some(from) = self.next.take() {
            match self.slice(from, shelf, jobs) {
                Ok(next) => self.next = next,
                Err(error) => tracing::debug!(%error, "cannot remove the output of deleted jobs now"),
            }
        }
    }

    fn slice(
        &mut self,
        mut from: JobId,
        shelf: &mut Shelf,
        jobs: &DiskStore,
    ) -> Result<Option<JobId>, StoreError> {
        let mut ids = Vec::with_capacity(SLICE);
        while ids.len() < SLICE
            && let Some(id) = shelf.next_job(from)?
        {
            ids.push(id);
            from = JobId::from_u128(id.to_u128().saturating_add(1));
        }
        let is_last = ids.len() < SLICE;
        // A job exists before it prints, so one that has output but is not in this snapshot was deleted.
        let snapshot = jobs.snapshot();
        let mut gone = Vec::new();
        for id in ids {
            if is_gone(&snapshot, id)? { gone.push(id) } else { self.alive += 1 }
        }
        shelf.remove(&gone)?;
        Ok(Some(from).filter(|_| !is_last))
    }
}

/// Whether the job was deleted.
///
/// # Errors
/// When that cannot be determined at the moment.
pub(super) fn is_gone<S: Snapshot>(jobs: &S, id: JobId) -> Result<bool, StoreError> {
    match view::find(jobs, id) {
        Ok(job) => Ok(job.is_none()),
        // A damaged record exists, if only to be set aside.
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
