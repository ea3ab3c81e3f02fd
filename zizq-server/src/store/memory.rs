//! A store in memory for tests and fuzz targets. It can lose what was not synced, as in a power failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::batch::Batch;
use super::keys::Key;
use super::{Entry, Snapshot, Store, StoreError};

type Entries = BTreeMap<Vec<u8>, Bytes>;

/// A store in memory. The server itself does not use it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    /// The entries of new snapshots, copied on write.
    entries: Arc<Entries>,
    /// What would exist after a power failure.
    durable: Arc<Mutex<Arc<Entries>>>,
    written: Arc<Mutex<Arc<Entries>>>,
}

impl MemoryStore {
    /// Creates a store with these entries.
    pub fn of(entries: impl IntoIterator<Item = (Vec<u8>, Bytes)>) -> Self {
        Self::holding(Arc::new(entries.into_iter().collect()))
    }

    /// The store as the next process finds it after a crash.
    pub fn after_crash(&self) -> Self {
        Self::holding(self.entries.clone())
    }

    /// The store after a power failure: without what was not synced.
    pub fn after_power_loss(&self) -> Self {
        Self::holding(self.durable.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn holding(entries: Arc<Entries>) -> Self {
        let shared = || Arc::new(Mutex::new(entries.clone()));
        Self { durable: shared(), written: shared(), entries }
    }

    fn publish(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = self.entries.clone();
    }
}

impl Store for MemoryStore {
    type Snapshot = MemorySnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        let entries = Arc::make_mut(&mut self.entries);
        for (key, value) in batch.writes() {
            match value {
                Some(value) => drop(entries.insert(key.to_vec(), Bytes::copy_from_slice(value))),
                None => drop(entries.remove(key.as_slice())),
            }
        }
        self.publish();
        Ok(())
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let (written, durable) = (self.written.clone(), self.durable.clone());
        Box::new(move || {
            let written = written.lock().unwrap_or_else(PoisonError::into_inner).clone();
            *durable.lock().unwrap_or_else(PoisonError::into_inner) = written;
            Ok(())
        })
    }

    fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.entries.clone())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.entries = Arc::default();
        self.publish();
        Ok(())
    }
}

/// The entries at one moment.
#[derive(Debug, Clone)]
pub struct MemorySnapshot(Arc<Entries>);

impl Snapshot for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        // One entry at a time, because callers stop after a few.
        let (entries, mut from, mut to) = (self.0.clone(), from.to_vec(), to.to_vec());
        Box::new(std::iter::from_fn(move || {
            let mut range = if from < to { entries.range(from.clone()..to.clone()) } else { return None };
            let (key, value) = if descending { range.next_back() } else { range.next() }?;
            if descending {
                to.clone_from(key);
            } else {
                from.clone_from(key);
                from.push(0);
            }
            Some(Ok((Key::from_slice(key), value.clone())))
        }))
    }
}
