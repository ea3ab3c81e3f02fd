//! The journal: forced onto the disk through a descriptor of our own.
//!
//! fjall holds the lock of its journal while the disk works, and every commit waits for that: 10 ms for 4 MB of
//! unsynced journal, 100 ms for 64 MB. It does so whenever it flushes a memtable. What is synced here, nobody waits for.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::torn;

#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    newest: Mutex<Option<(PathBuf, Arc<File>)>>,
    /// Bytes that were committed since the last sync began.
    unsynced: AtomicU64,
    /// Whether what the operating system has may be missing on the disk.
    sync_failed: AtomicBool,
}

impl Journal {
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            newest: Mutex::new(None),
            unsynced: AtomicU64::new(0),
            sync_failed: AtomicBool::new(false),
        }
    }

    /// So many bytes were committed; says how many there are that no sync has begun with.
    pub(super) fn note(&self, bytes: u64) -> u64 {
        self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Whether what was written may be missing on the disk, though nobody would tell.
    pub(super) fn is_doubtful(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }

    /// It was read again from the disk.
    pub(super) fn was_read(&self) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.sync_failed.store(false, Ordering::Relaxed);
    }

    /// Returns once the disk has everything that was committed before the call.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        // fjall syncs a journal before it begins the next, so all before the newest are on the disk.
        let synced = self.newest().and_then(|newest| newest.map_or(Ok(()), |file| file.sync_data()));
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn newest(&self) -> io::Result<Option<Arc<File>>> {
        let mut open = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let newest = torn::newest_journal(&self.folder)?;
            match (&*open, newest) {
                (Some((path, file)), Some(newest)) if *path == newest => return Ok(Some(file.clone())),
                (_, None) => return Ok(None),
                (_, Some(newest)) => match File::open(&newest) {
                    Ok(file) => *open = Some((newest, Arc::new(file))),
                    // By now it was emptied into the tables and removed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
            }
        }
    }
}
