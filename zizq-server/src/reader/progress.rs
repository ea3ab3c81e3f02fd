//! How far a scan has come, and whether it is to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;

use super::ReadError;

/// Shared between a scan and those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stopped: Arc<AtomicBool>,
    looked_at: AtomicU64,
    matched: AtomicU64,
    changed: AtomicU64,
}

/// Numbers of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Figures {
    pub looked_at: u64,
    pub matched: u64,
    pub changed: u64,
}

impl Progress {
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

    pub(super) fn look(&self) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn find(&self, jobs: u64) {
        self.matched.fetch_add(jobs, Ordering::Relaxed);
    }

    pub(super) fn change(&self, jobs: u64) {
        self.changed.fetch_add(jobs, Ordering::Relaxed);
    }
}
