//! What is done ahead of fjall, which would do it while commits wait: the journal is synced, and old memtables are freed.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use fjall::AnyTree;

use super::journal::{Descriptor, Journal};
use super::memtables::Memtables;
use crate::store::StoreError;

/// How much is committed before the disk is told, in bytes. It is what may be left to do while commits wait.
const AHEAD: u64 = 1024 * 1024;
/// After the last commit, when to look once more for memtables that can be freed: the disk has them by then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A thread that is woken while there are commits. It ends with the last clone.
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
                // Whoever commits or confirms next hears of it, too.
                tracing::error!(%error, "cannot force the journal onto the disk; nothing is confirmed any more");
            }
        })?;
        Ok(ahead)
    }

    /// So many bytes were committed.
    pub(super) fn note(&self, commit: u64, bytes: u64) {
        if self.journal.note(commit, bytes) >= AHEAD {
            // Where it is awake already, it goes on.
            self.wake.try_send(()).ok();
        }
    }
}

fn run(journal: &Journal, tree: &AnyTree, woken: &Receiver<()>) -> Result<(), StoreError> {
    let (mut memtables, mut descriptor) = (Memtables::default(), Descriptor::default());
    for mut woke in woken.iter().map(Ok) {
        while woke.is_ok() {
            memtables.tend(tree);
            journal.sync(&mut descriptor)?;
            woke = woken.recv_timeout(LOOK_AGAIN);
        }
        memtables.tend(tree);
    }
    Ok(())
}
