//! An end to waiting for a server that does not go on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};

const PATIENCE_SECONDS: u32 = 30;

/// A counter that moves as long as all is well.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Rc<Cell<u32>>);

impl Progress {
    pub(super) fn add(&self, jobs: usize) {
        self.0.set(self.0.get().saturating_add(u32::try_from(jobs).unwrap_or(u32::MAX)));
    }

    pub(super) fn get(&self) -> u32 {
        self.0.get()
    }

    /// Waits for the work as long as the counter moves now and then.
    pub(super) async fn watch<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.watch_both(&Self::default(), what, work).await
    }

    /// Waits for the work as long as one of two counters moves now and then.
    pub(super) async fn watch_both<T>(
        &self,
        other: &Self,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.stalled(other) => {
                let jobs = self.get().max(other.get());
                bail!("{what}: nothing happened for {PATIENCE_SECONDS} s after {jobs} jobs")
            }
        }
    }

    async fn stalled(&self, other: &Self) {
        let (mut last, mut still) = (0, 0);
        while still < PATIENCE_SECONDS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = u64::from(self.get()) + u64::from(other.get());
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
    }
}
