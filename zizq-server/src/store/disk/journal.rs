//! The journal: forced onto the disk through a descriptor of our own.
//!
//! fjall holds the lock of its journal while the disk works, and every commit waits for that: 10 ms for 4 MB of
//! unsynced journal, 100 ms for 64 MB. It does so whenever it flushes a memtable. What is synced here, nobody waits for.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use fjall::AnyTree;

use super::memtables::Memtables;
use crate::store::torn;

/// How much is committed before the disk is told, in bytes. It is what may be left to do while commits wait.
const AHEAD: u64 = 1024 * 1024;
/// After the last commit, when to look once more for memtables that can be freed: the disk has them by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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

/// What need not be done while somebody waits for a commit, done again and again while there are commits: the journal is
/// synced, so that little is left to do when fjall syncs it, and old memtables are freed.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    journal: Arc<Journal>,
    wake: Sender<()>,
}

impl Ahead {
    pub(super) fn start(journal: Arc<Journal>, tree: AnyTree) -> io::Result<Self> {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let ahead = Self { journal: journal.clone(), wake };
        thread::Builder::new().name("sync-ahead".to_owned()).spawn(move || run(&journal, &tree, &woken))?;
        Ok(ahead)
    }

    /// So many bytes were committed.
    pub(super) fn note(&self, bytes: u64) {
        if self.journal.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes >= AHEAD {
            // Where it is awake already, it goes on.
            self.wake.try_send(()).ok();
        }
    }
}

fn run(journal: &Journal, tree: &AnyTree, woken: &Receiver<()>) {
    let mut memtables = Memtables::default();
    let mut idle = true;
    loop {
        memtables.tend(tree);
        let woke = if idle {
            woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            woken.recv_timeout(LOOK_AGAIN)
        };
        idle = woke.is_err();
        match woke {
            Ok(()) => {
                if let Err(error) = journal.sync() {
                    tracing::error!(%error, "cannot force the journal onto the disk");
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
