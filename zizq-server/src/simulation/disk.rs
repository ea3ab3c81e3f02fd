//! A store in memory that fails at a given commit, as a process does that dies in the middle of a turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::store::batch::Batch;
use crate::store::memory::{MemorySnapshot, MemoryStore};
use crate::store::{Store, StoreError};

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub memory: MemoryStore,
    /// How many commits are still to succeed, plus one; 0: all.
    dies_in: Arc<AtomicU32>,
}

impl Disk {
    pub(super) fn new(memory: MemoryStore) -> Self {
        Self { memory, dies_in: Arc::default() }
    }

    /// Lets a few more commits succeed, and the one behind them fail.
    pub(super) fn die_after(&self, commits: u32) {
        self.dies_in.store(commits + 1, Ordering::Relaxed);
    }

    /// The turn did not commit as often as that.
    pub(super) fn live_on(&self) {
        self.dies_in.store(0, Ordering::Relaxed);
    }

    fn count(&self) -> Result<(), StoreError> {
        match self.dies_in.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(StoreError::Failed("as the simulation wants it".to_owned())),
            more => {
                self.dies_in.store(more - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

impl Store for Disk {
    type Snapshot = MemorySnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.count()?;
        self.memory.commit(batch)
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        self.memory.syncer()
    }

    fn snapshot(&self) -> MemorySnapshot {
        self.memory.snapshot()
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.count()?;
        self.memory.clear()
    }
}
