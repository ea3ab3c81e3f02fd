//! The journal (write-ahead log), synced through descriptors of our own.
//!
//! fjall holds its journal lock during a sync, and every commit waits for it: 10 ms for 4 MB of unsynced journal, 100
//! ms for 64 MB. It syncs whenever it flushes a memtable. What is synced here delays no one.
//!
//! A failed sync may be the only one to report an error: the operating system drops what it could not write, and the
//! next sync has nothing to do and succeeds. So the first failure in any thread ends all confirmations until the store
//! is reopened from a [rewritten](super::synced) journal.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::synced;
use super::torn;
use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    /// The commits since the store was created.
    commits: AtomicU64,
    /// The bytes committed since the last sync began.
    unsynced: AtomicU64,
    /// Whether the disk may lack data that the operating system has.
    is_doubtful: AtomicBool,
    /// Why nothing is confirmed: the first error.
    failed: Mutex<Option<StoreError>>,
    synced: Mutex<Option<synced::Writer>>,
}

impl Journal {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            commits: AtomicU64::new(0),
            unsynced: AtomicU64::new(0),
            is_doubtful: AtomicBool::new(false),
            failed: Mutex::new(None),
            synced: Mutex::new(None),
        }
    }

    /// The number of the next commit.
    pub(super) fn next_commit(&self) -> u64 {
        self.commits.load(Ordering::Relaxed) + 1
    }

    /// Counts committed bytes; returns how many are not covered by a sync yet.
    pub(super) fn note(&self, commit: u64, bytes: u64) -> u64 {
        self.commits.store(commit, Ordering::Release);
        self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// # Errors
    /// When a sync has failed since the store was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if !self.is_doubtful.load(Ordering::Acquire) {
            return Ok(());
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        Err(failed.clone().unwrap_or(StoreError::Poisoned))
    }

    /// Starts with the commits of an opened store, which a killed process may have left unsynced.
    ///
    /// # Errors
    /// When the disk does not take them, or that cannot be recorded.
    pub(super) fn was_read(&self, commits: u64) -> io::Result<()> {
        for (_, journal) in torn::journals(&self.folder)? {
            File::open(journal)?.sync_all()?;
        }
        self.commits.store(commits, Ordering::Release);
        let synced = synced::Writer::begin(&self.folder, commits)?;
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner) = Some(synced);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_doubtful.store(false, Ordering::Release);
        Ok(())
    }

    /// Returns once the disk has everything that was committed before the call. Each thread uses its own descriptor:
    /// the operating system reports an error once to each of them.
    ///
    /// # Errors
    /// When the disk fails, or has failed since the store was opened.
    pub(super) fn sync(&self, descriptor: &mut Descriptor) -> Result<(), StoreError> {
        self.check()?;
        self.unsynced.store(0, Ordering::Relaxed);
        // Read before the journal is looked up: fjall syncs a journal before it starts the next.
        let commits = self.commits.load(Ordering::Acquire);
        let newest = descriptor.newest(&self.folder)?;
        if let Err(error) = newest.map_or(Ok(()), |file| file.sync_data()) {
            self.doubt(StoreError::of_file(&self.folder, &error));
        }
        // Another thread's sync may have failed in the meantime.
        self.check()?;
        if let Some(synced) = &mut *self.synced.lock().unwrap_or_else(PoisonError::into_inner) {
            synced.note(commits);
        }
        Ok(())
    }

    /// Ends all confirmations.
    pub(super) fn doubt(&self, error: StoreError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_doubtful.store(true, Ordering::Release);
        failed.get_or_insert(error);
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = synced.map(synced::Writer::doubt) {
            tracing::error!(%error, folder = %self.folder.display(), "cannot record that the disk has failed");
        }
    }
}

/// The newest journal, opened by one thread.
#[derive(Debug, Default)]
pub(super) struct Descriptor(Option<(PathBuf, Arc<File>)>);

impl Descriptor {
    fn newest(&mut self, folder: &std::path::Path) -> Result<Option<Arc<File>>, StoreError> {
        loop {
            let newest = torn::newest_journal(folder).map_err(|error| StoreError::of_file(folder, &error))?;
            match (&self.0, newest) {
                (Some((path, file)), Some(newest)) if *path == newest => return Ok(Some(file.clone())),
                (_, None) => return Ok(None),
                (_, Some(newest)) => match File::open(&newest) {
                    Ok(file) => self.0 = Some((newest, Arc::new(file))),
                    // The journal was flushed to tables and removed in the meantime.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::of_file(&newest, &error)),
                },
            }
        }
    }
}
