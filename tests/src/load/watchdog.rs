//! An end to waiting for a server that does not go on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};

const PATIENCE_SECONDS: u32 = 30;

/// A counter that moves as long as all is well.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Rc<Cell<u64>>);

impl Progress {
    pub(super) fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }

    /// Waits for the work as long as the counter moves now and then.
    pub(super) async fn watch<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.stalled() => {
                bail!("{what}: nothing happened for {PATIENCE_SECONDS} s after {} jobs", self.get())
            }
        }
    }

    async fn stalled(&self) {
        let (mut last, mut still) = (self.get(), 0);
        while still < PATIENCE_SECONDS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            still = if self.get() == last { still + 1 } else { 0 };
            last = self.get();
        }
    }
}
