//! How far a scan has come, and whether it is to go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use protocol::id::JobId;
use serde::Serialize;

use super::ReadError;
use crate::clock;

/// Shared between a scan and those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stopped: Arc<AtomicBool>,
    looked_at: AtomicU64,
    matched: AtomicU64,
    changed: AtomicU64,
    /// When the scan is to end with what it has found, by the monotonic clock.
    until: Option<u64>,
    /// The last job that it looked at, if it ended so.
    left_at: OnceLock<JobId>,
}

/// Numbers of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures {
    pub looked_at: u64,
    pub matched: u64,
    pub changed: u64,
}

impl Progress {
    /// For a scan that ends with what it has found within so many milliseconds.
    pub(super) fn within(ms: Option<u64>) -> Self {
        Self { until: ms.map(|ms| clock::now().up.saturating_add(ms)), ..Self::default() }
    }

    pub(crate) fn figures(&self) -> Figures {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Figures { looked_at: of(&self.looked_at), matched: of(&self.matched), changed: of(&self.changed) }
    }

    /// Ends the scan soon: nobody needs its result.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What says whether it was stopped.
    pub(super) fn stopped(&self) -> Arc<AtomicBool> {
        self.stopped.clone()
    }

    /// # Errors
    /// [`ReadError::Stopped`].
    pub(super) fn check(&self) -> Result<(), ReadError> {
        if self.is_stopped() { Err(ReadError::Stopped) } else { Ok(()) }
    }

    /// Counts a job that was looked at, and says whether the scan goes on after it.
    pub(super) fn look(&self, id: JobId) -> bool {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        let goes_on = self.until.is_none_or(|until| clock::now().up < until);
        if !goes_on {
            self.left_at.get_or_init(|| id);
        }
        goes_on
    }

    /// Where a scan whose time was over ended.
    pub(super) fn left_at(&self) -> Option<JobId> {
        self.left_at.get().copied()
    }

    pub(super) fn find(&self, jobs: u64) {
        self.matched.fetch_add(jobs, Ordering::Relaxed);
    }

    pub(super) fn change(&self, jobs: u64) {
        self.changed.fetch_add(jobs, Ordering::Relaxed);
    }
}
