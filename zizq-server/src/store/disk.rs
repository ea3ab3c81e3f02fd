//! The store on disk: one keyspace of [fjall](https://docs.rs/fjall). Only what is here and `store/torn.rs` knows fjall.

mod ahead;
mod begun;
mod journal;
mod memtables;
mod reclaim;
mod removal;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};

use ahead::Ahead;
use journal::Journal;
use reclaim::Reclaim;
use removal::Removal;

use super::batch::Batch;
use super::keys::Key;
use super::space::Space;
use super::{Entry, Snapshot, Store, StoreError, torn};

/// The size of a table, in bytes. The last table of a compaction is synced while nothing else can read or write.
const TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Threads that flush and compact. The first of them does not compact: while the others do, it spins (fjall 3.1).
const WORKERS: usize = 3;

/// How much memory a store takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// For what was read from disk.
    pub cache: u64,
    /// For what is gathered before it is sorted out to disk. Larger makes writing cheaper, the replay after a crash
    /// longer, and takes up to three times as much memory.
    pub gathered: u64,
}

impl Memory {
    /// That of a store of jobs.
    #[must_use]
    pub const fn for_jobs(cache: u64) -> Self {
        Self { cache, gathered: 24 * 1024 * 1024 }
    }
}

/// Clones are the same store: what one of them opens again is open for all.
#[derive(Clone)]
pub struct DiskStore {
    at: Arc<At>,
    open: Arc<RwLock<Option<Open>>>,
}

/// Where it lies.
struct At {
    folder: PathBuf,
    memory: Memory,
    space: Space,
    journal: Arc<Journal>,
    reclaim: Reclaim,
}

#[derive(Clone)]
struct Open {
    database: Database,
    jobs: Keyspace,
    ahead: Ahead,
    _removal: Option<Arc<Removal>>,
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Locked,
            fjall::Error::Poisoned => Self::Poisoned,
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl DiskStore {
    /// The store in `folder`, not opened yet. It is full when fewer than `min_free` bytes are left on its disk; if not
    /// given, a fitting number.
    #[must_use]
    pub fn new(folder: &Path, memory: Memory, min_free: Option<u64>) -> Self {
        let space = Space::new(folder, min_free);
        let (folder, reclaim) = (folder.to_owned(), Reclaim::default());
        let journal = Arc::new(Journal::new(folder.clone()));
        let at = At { folder, memory, space, journal, reclaim };
        Self { at: Arc::new(at), open: Arc::default() }
    }

    /// Opens the store in `folder`, or makes one there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let mut store = Self::new(folder, Memory::for_jobs(cache_bytes), None);
        store.reopen()?;
        Ok(store)
    }

    fn opened(&self) -> Result<Open, StoreError> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Closed)
    }

    /// What works in the background does not say why it failed. Most often it found no space.
    fn reason(&self, error: fjall::Error) -> StoreError {
        match StoreError::from(error) {
            StoreError::Poisoned if self.is_full() || self.at.space.free() < self.at.memory.gathered => {
                StoreError::Full
            }
            error => error,
        }
    }

    fn set(&self, open: Option<Open>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
    }
}

impl Open {
    fn at(at: &At) -> Result<Self, StoreError> {
        begun::take_away(&at.folder)?;
        if at.journal.is_doubtful() {
            torn::write_anew(&at.folder)?;
        }
        let database = match open_database(at) {
            Err(error) if is_of_the_journal(&error) => {
                if torn::cut_end(&at.folder)? {
                    open_database(at)?
                } else {
                    return Err(error.into());
                }
            }
            opened => opened?,
        };
        let compaction = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
        let options = || {
            let options = KeyspaceCreateOptions::default().max_memtable_size(at.memory.gathered);
            options.compaction_strategy(compaction.clone())
        };
        let jobs = database.keyspace("jobs", options)?;
        sync_folders(&at.folder)?;
        at.journal.was_read();
        let ahead = Ahead::start(at.journal.clone(), jobs.tree.clone())?;
        let removal = Removal::watch(&[at.folder.clone(), jobs.path().join("tables")]);
        let removal = removal.inspect_err(|error| {
            tracing::warn!(%error, "cannot watch the files of the store; freeing their space may take long at once");
        });
        Ok(Self { database, jobs, ahead, _removal: removal.ok().map(Arc::new) })
    }
}

/// Whether the journal cannot be read.
const fn is_of_the_journal(error: &fjall::Error) -> bool {
    use fjall::Error::{Decompress, InvalidTag, InvalidTrailer, JournalRecovery};
    matches!(error, JournalRecovery(_) | Decompress(_) | InvalidTag(_) | InvalidTrailer)
}

fn open_database(at: &At) -> fjall::Result<Database> {
    Database::builder(&at.folder).cache_size(at.memory.cache).worker_threads(WORKERS).open()
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
        let Open { database, jobs, ahead, .. } = self.opened()?;
        let writes = batch.writes();
        let mut atomic =
            OwnedWriteBatch::with_capacity(database, writes.len()).durability(Some(PersistMode::Buffer));
        let (mut removed, mut bytes) = (0, 0);
        for (key, value) in writes {
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            match value {
                Some(value) => atomic.insert(&jobs, key.as_slice(), value),
                None => {
                    removed += 1;
                    atomic.remove(&jobs, key.as_slice());
                }
            }
        }
        self.at.reclaim.note_removed(removed);
        atomic.commit().map_err(|error| self.reason(error))?;
        ahead.note(bytes as u64);
        Ok(())
    }

    fn syncer(&self) -> Box<dyn Fn() -> Result<(), StoreError> + Send> {
        let journal = self.at.journal.clone();
        Box::new(move || Ok(journal.sync()?))
    }

    fn snapshot(&self) -> DiskSnapshot {
        let open = self.opened().ok();
        DiskSnapshot(open.map(|open| (Arc::new(open.database.snapshot()), open.jobs)))
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        Ok(self.opened()?.jobs.clear()?)
    }

    fn is_full(&self) -> bool {
        self.at.space.is_low()
    }

    fn make_space(&self) {
        self.reclaim();
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        // What is half made for want of space, fjall does not always open again. And until then readers can read.
        if !self.at.space.is_enough_to_open() {
            return Err(StoreError::Full);
        }
        self.set(None);
        self.set(Some(Open::at(&self.at)?));
        Ok(())
    }
}

/// Empty where the store was closed.
#[derive(Clone)]
pub struct DiskSnapshot(Option<(Arc<fjall::Snapshot>, Keyspace)>);

impl Snapshot for DiskSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let (snapshot, jobs) = self.0.as_ref().ok_or(StoreError::Closed)?;
        Ok(snapshot.get(jobs, key)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        descending: bool,
    ) -> Box<dyn Iterator<Item = Result<Entry, StoreError>> + Send> {
        let Some((snapshot, jobs)) = self.0.as_ref() else {
            return Box::new(std::iter::once(Err(StoreError::Closed)));
        };
        if from >= to {
            return Box::new(std::iter::empty());
        }
        let range = snapshot.range(jobs, from.to_vec()..to.to_vec());
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner()?;
            // A copy: what fjall gives is a part of a block, and would keep all of it in memory.
            Ok((Key::from_slice(&key), Bytes::copy_from_slice(&value)))
        };
        if descending { Box::new(range.rev().map(read)) } else { Box::new(range.map(read)) }
    }
}
