//! The store on disk: one keyspace of [fjall](https://docs.rs/fjall). The only file that knows fjall.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};

use super::batch::Batch;
use super::keys::Key;
use super::{Entry, Snapshot, Store, StoreError};

/// How much is gathered in memory before it is sorted out to disk, in bytes. Larger makes enqueuing faster and the
/// replay after a crash longer.
const MEMTABLE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
pub struct DiskStore {
    folder: PathBuf,
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
        let database = Database::builder(folder).cache_size(cache_bytes).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let jobs = database.keyspace("jobs", options)?;
        sync_folders(folder).map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self { folder: folder.to_owned(), database, jobs })
    }
}

/// The journal that is written to: the file `N.jnl` with the greatest number.
fn newest_journal(folder: &Path) -> std::io::Result<File> {
    loop {
        let mut newest: Option<(u64, PathBuf)> = None;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path
                .extension()
                .filter(|e| *e == "jnl")
                .and_then(|_| path.file_stem()?.to_str()?.parse().ok());
            newest = newest.max(number.map(|number| (number, path)));
        }
        let Some((_, path)) = newest else { return Err(ErrorKind::NotFound.into()) };
        match File::open(path) {
            // A later one was begun in between.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
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

    /// fjall's own `persist` holds the lock of the journal while the disk works, and with it up every commit. A commit
    /// has handed its bytes to the operating system, so any descriptor of the file will do; journals before the newest
    /// one were forced onto the disk when it was begun.
    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let folder = self.folder.clone();
        Box::new(move || {
            let synced = newest_journal(&folder).and_then(|journal| journal.sync_data());
            synced.map_err(|e| StoreError::Failed(e.to_string()))
        })
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
