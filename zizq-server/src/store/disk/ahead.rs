//! Does work ahead of fjall, which would do it while commits wait: syncs the journal and frees old memtables.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender};
use fjall::AnyTree;

use super::journal::{Descriptor, Journal};
use super::memtables::Memtables;
use crate::store::StoreError;

/// How many bytes are committed before a sync starts. At most this much is left to sync while commits wait.
const AHEAD: u64 = 1024 * 1024;
/// How often to look for memtables to free while there are old ones. After the last commit it takes a while, on a slow
/// disk a long one, until they are written.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A thread that is woken by commits. It ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    journal: Arc<Journal>,
    wake: Sender<()>,
}

impl Ahead {
    pub(super) fn start(journal: Arc<Journal>, tree: AnyTree) -> io::Result<Self> {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let ahead = Self { journal: journal.clone(), wake };
        thread::Builder::new().name("sync-ahead".to_owned()).spawn(move || {
            if let Err(error) = run(&journal, &tree, &woken) {
                // The next commit or confirmation fails with the same error.
                tracing::error!(%error, "cannot sync the journal to the disk; no further commits are confirmed");
            }
        })?;
        Ok(ahead)
    }

    /// Counts committed bytes.
    pub(super) fn note(&self, commit: u64, bytes: u64) {
        if self.journal.note(commit, bytes) >= AHEAD {
            // A thread that is already awake continues.
            self.wake.try_send(()).ok();
        }
    }
}

fn run(journal: &Journal, tree: &AnyTree, woken: &Receiver<()>) -> Result<(), StoreError> {
    let (mut memtables, mut descriptor) = (Memtables::default(), Descriptor::default());
    loop {
        let woke = if memtables.has_old() {
            woken.recv_timeout(LOOK_AGAIN)
        } else {
            woken.recv().map_err(|RecvError| RecvTimeoutError::Disconnected)
        };
        memtables.tend(tree);
        match woke {
            Ok(()) => journal.sync(&mut descriptor)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
