//! The journal: forced onto the disk through descriptors of our own.
//!
//! fjall holds the lock of its journal while the disk works, and every commit waits for that: 10 ms for 4 MB of
//! unsynced journal, 100 ms for 64 MB. It does so whenever it flushes a memtable. What is synced here, nobody waits for.
//!
//! A sync that fails may be the only one that says so: the operating system drops what it could not write, and the next
//! sync has nothing to do and succeeds. So the first failure, whoever hears of it, ends all confirmations until the store
//! was opened anew, from a journal that was [written anew](super::synced).

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
    /// Commits so far, since the store was made.
    commits: AtomicU64,
    /// Bytes that were committed since the last sync began.
    unsynced: AtomicU64,
    /// Whether what the operating system has may be missing on the disk.
    is_doubtful: AtomicBool,
    /// Why nothing is confirmed any more: the first error.
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

    /// So many bytes were committed; says how many there are that no sync has begun with.
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

    /// It was opened: so many commits. They may be those of a process that was killed, which no sync was done for.
    ///
    /// # Errors
    /// When the disk does not take them, or that cannot be written down.
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

    /// Returns once the disk has everything that was committed before the call. Each thread brings a descriptor of its
    /// own: the operating system tells every one of them of an error, but each only once.
    ///
    /// # Errors
    /// When the disk fails, or has failed since the store was opened.
    pub(super) fn sync(&self, descriptor: &mut Descriptor) -> Result<(), StoreError> {
        self.check()?;
        self.unsynced.store(0, Ordering::Relaxed);
        // Before the journal is looked for: fjall syncs a journal before it begins the next.
        let commits = self.commits.load(Ordering::Acquire);
        let newest = descriptor.newest(&self.folder)?;
        if let Err(error) = newest.map_or(Ok(()), |file| file.sync_data()) {
            self.doubt(StoreError::of_file(&self.folder, &error));
        }
        // Somebody else's sync may have failed meanwhile.
        self.check()?;
        if let Some(synced) = &mut *self.synced.lock().unwrap_or_else(PoisonError::into_inner) {
            synced.note(commits);
        }
        Ok(())
    }

    /// From now on nothing is confirmed.
    pub(super) fn doubt(&self, error: StoreError) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_doubtful.store(true, Ordering::Release);
        failed.get_or_insert(error);
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = synced.map(synced::Writer::doubt) {
            tracing::error!(%error, folder = %self.folder.display(), "cannot write down that the disk has failed");
        }
    }
}

/// The newest journal, open for one thread.
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
                    // By now it was emptied into the tables and removed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::of_file(&newest, &error)),
                },
            }
        }
    }
}
