//! A store in memory that fails at a given call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;

use crate::store::batch::Batch;
use crate::store::keys::Key;
use crate::store::memory::{MemorySnapshot, MemoryStore};
use crate::store::{Entry, Snapshot, Store, StoreError};

/// What goes wrong, and when. From then on every call fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// The number of calls that succeed first.
    pub after: u32,
    /// Whether reads count, or writes alone.
    pub reads: bool,
    /// Whether a write that fails still takes effect: the disk has it, and only its answer got lost.
    pub written: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub memory: MemoryStore,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    /// The number of calls that will still succeed, plus one; 0: all.
    left: AtomicU32,
    reads: AtomicBool,
    written: AtomicBool,
    syncs: AtomicBool,
}

impl Faults {
    fn check(&self, is_read: bool) -> Result<(), StoreError> {
        match self.left.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err(failed()),
            more => {
                if !is_read || self.reads.load(Ordering::Relaxed) {
                    self.left.store(more - 1, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }
}

fn failed() -> StoreError {
    StoreError::Failed("as the simulation wants it".to_owned())
}

impl Disk {
    pub(super) fn new(memory: MemoryStore) -> Self {
        Self { memory, faults: Arc::default() }
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.faults.reads.store(fault.reads, Ordering::Relaxed);
        self.faults.written.store(fault.written, Ordering::Relaxed);
        self.faults.left.store(fault.after + 1, Ordering::Relaxed);
    }

    /// Makes the next sync fail.
    pub(super) fn fail_sync(&self) {
        self.faults.syncs.store(true, Ordering::Relaxed);
    }

    /// Makes everything work again.
    pub(super) fn mend(&self) {
        self.faults.left.store(0, Ordering::Relaxed);
    }

    /// Writes, perhaps with effect although it fails.
    fn write(
        &mut self,
        write: impl FnOnce(&mut MemoryStore) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.faults.check(false) {
            if self.faults.written.swap(false, Ordering::Relaxed) {
                write(&mut self.memory)?;
            }
            return Err(error);
        }
        write(&mut self.memory)
    }
}

impl Store for Disk {
    type Snapshot = DiskSnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.write(|memory| memory.commit(batch))
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let (sync, faults) = (self.memory.syncer(), self.faults.clone());
        Box::new(move || if faults.syncs.swap(false, Ordering::Relaxed) { Err(failed()) } else { sync() })
    }

    fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot { memory: self.memory.snapshot(), faults: self.faults.clone() }
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.write(MemoryStore::clear)
    }
}

#[derive(Debug, Clone)]
pub(super) struct DiskSnapshot {
    memory: MemorySnapshot,
    faults: Arc<Faults>,
}

impl Snapshot for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.faults.check(true)?;
        self.memory.get(key)
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        let faults = self.faults.clone();
        let entries = self.memory.scan(from, to, descending);
        Box::new(entries.map(move |entry| faults.check(true).and(entry)))
    }
}
