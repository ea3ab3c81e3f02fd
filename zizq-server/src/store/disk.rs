//! The store on disk: one keyspace of [fjall](https://docs.rs/fjall). The only file that knows fjall.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};

use super::batch::Batch;
use super::keys::Key;
use super::{Entry, Snapshot, Store, StoreError, torn};

/// How much is gathered in memory before it is sorted out to disk, in bytes. Larger makes enqueuing faster and the
/// replay after a crash longer.
const MEMTABLE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
pub struct DiskStore {
    database: Database,
    jobs: Keyspace,
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Locked,
            fjall::Error::Poisoned => Self::Poisoned,
            error => Self::Failed(error.to_string()),
        }
    }
}

impl DiskStore {
    /// Opens the store in `folder`, or makes one there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let database = match open_database(folder, cache_bytes) {
            Err(error) if is_of_the_journal(&error) => {
                let cut = torn::cut_end(folder).map_err(|e| StoreError::Failed(e.to_string()))?;
                if cut { open_database(folder, cache_bytes)? } else { return Err(error.into()) }
            }
            opened => opened?,
        };
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let jobs = database.keyspace("jobs", options)?;
        sync_folders(folder).map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self { database, jobs })
    }
}

/// Whether the journal cannot be read.
const fn is_of_the_journal(error: &fjall::Error) -> bool {
    use fjall::Error::{Decompress, InvalidTag, InvalidTrailer, JournalRecovery};
    matches!(error, JournalRecovery(_) | Decompress(_) | InvalidTag(_) | InvalidTrailer)
}

fn open_database(folder: &Path, cache_bytes: u64) -> fjall::Result<Database> {
    Database::builder(folder).cache_size(cache_bytes).open()
}

/// Forces the names of what was just made onto the disk: fjall does so for contents and for most folders, but a
/// keyspace whose folder is forgotten in a loss of power is lost with everything in it.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

impl Store for DiskStore {
    type Snapshot = DiskSnapshot;

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let writes = batch.into_writes();
        let mut atomic = OwnedWriteBatch::with_capacity(self.database.clone(), writes.len())
            .durability(Some(PersistMode::Buffer));
        for (key, value) in writes {
            match value {
                Some(value) => atomic.insert(&self.jobs, key.as_slice(), &value[..]),
                None => atomic.remove(&self.jobs, key.as_slice()),
            }
        }
        Ok(atomic.commit()?)
    }

    /// fjall holds the lock of its journal while the disk works, and so the next commit waits for this one. A descriptor
    /// of our own would not: but then a loss of power can leave a torn batch behind the synced ones that is longer than
    /// a page, and fjall 3.1 does not open a journal with such an end.
    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let database = self.database.clone();
        Box::new(move || Ok(database.persist(PersistMode::SyncData)?))
    }

    fn snapshot(&self) -> DiskSnapshot {
        DiskSnapshot { snapshot: std::sync::Arc::new(self.database.snapshot()), jobs: self.jobs.clone() }
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        Ok(self.jobs.clear()?)
    }
}

#[derive(Clone)]
pub struct DiskSnapshot {
    snapshot: std::sync::Arc<fjall::Snapshot>,
    jobs: Keyspace,
}

impl Snapshot for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.get(&self.jobs, key)?.map(Bytes::from_owner))
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let range = self.snapshot.range(&self.jobs, from.to_vec()..to.to_vec());
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner()?;
            Ok((Bytes::from_owner(key), Bytes::from_owner(value)))
        };
        if descending { Box::new(range.rev().map(read)) } else { Box::new(range.map(read)) }
    }
}
