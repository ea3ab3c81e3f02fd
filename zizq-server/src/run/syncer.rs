//! The callers that wait for the engine, and the thread that syncs commits to the disk before some of them are
//! answered.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use crate::run::commit::CommitMode;
use crate::run::handle::{CallError, ReplyTo};
use crate::run::meters::Meters;
use crate::run::turn::Answer;
use crate::store::{Store, StoreError};

/// How many turns may wait for the disk.
const MAX_UNSYNCED: usize = 4_096;

/// The sender of a command, if it waits for an answer.
#[derive(Debug)]
pub(crate) struct Caller {
    pub reply: Option<ReplyTo>,
    pub mode: CommitMode,
    pub is_enqueue: bool,
}

impl Caller {
    pub(crate) fn answer(self, answer: Answer) {
        self.send(answer.map_err(CallError::from));
    }

    /// Refuses a command that was not executed.
    pub(crate) fn refuse(self, error: &StoreError) {
        match error {
            StoreError::Full if self.is_enqueue => self.send(Err(CallError::DiskFull)),
            error => self.fail(error),
        }
    }

    /// Reports that the store has failed. The command may or may not have been executed.
    pub(crate) fn fail(self, error: &StoreError) {
        self.send(Err(if error.may_pass() { CallError::StoreClosed } else { CallError::Stopped }));
    }

    fn send(mut self, answer: Result<crate::engine::command::Reply, CallError>) {
        if let Some(reply) = self.reply.take() {
            // The caller may have gone away.
            drop(reply.send(answer));
        }
    }
}

/// A caller dropped without an answer, because its thread ended early, is told that the store has failed.
impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            drop(reply.send(Err(CallError::StoreClosed)));
        }
    }
}

/// Answers that wait for the disk.
type Unsynced = Vec<(Caller, Answer)>;

/// Syncs commits to the disk on its own thread, so that the engine continues until its next commit (group commit):
/// answers that gather during one fsync share the next.
pub(crate) struct Syncer {
    unsynced: Sender<Unsynced>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Syncer {
    pub(crate) fn start<S: Store>(store: &S, meters: Arc<Meters>) -> std::io::Result<Self> {
        let (unsynced, receiver) = crossbeam_channel::bounded(MAX_UNSYNCED);
        let sync = store.syncer();
        let thread = thread::Builder::new().name("sync".to_owned());
        let thread = thread.spawn(move || answer_synced(&receiver, sync.as_ref(), &meters))?;
        Ok(Self { unsynced, thread })
    }

    /// Sends these answers once everything that is committed now is on the disk.
    ///
    /// # Errors
    /// When the disk has failed: [`Self::finish`] returns why.
    pub(crate) fn send(&self, unsynced: Unsynced) -> Result<(), StoreError> {
        self.unsynced.send(unsynced).map_err(|refused| {
            refused.into_inner().into_iter().for_each(|(caller, _)| caller.fail(&StoreError::Closed));
            StoreError::Closed
        })
    }

    /// Waits until everything is answered.
    ///
    /// # Errors
    /// The error of the disk.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        drop(self.unsynced);
        let panicked = || Err(StoreError::Failed("the sync thread panicked".to_owned()));
        self.thread.join().unwrap_or_else(|_| panicked())
    }
}

fn answer_synced(
    unsynced: &Receiver<Unsynced>,
    sync: &dyn Fn() -> Result<(), StoreError>,
    meters: &Meters,
) -> Result<(), StoreError> {
    while let Ok(first) = unsynced.recv() {
        let gathered = first.into_iter().chain(unsynced.try_iter().flatten()).collect::<Vec<_>>();
        let started = Instant::now();
        if let Err(error) = sync() {
            tracing::error!(%error, "cannot sync writes to the disk");
            let rest = unsynced.try_iter().flatten();
            gathered.into_iter().chain(rest).for_each(|(caller, _)| caller.fail(&error));
            return Err(error);
        }
        meters.syncs.since(started);
        gathered.into_iter().for_each(|(caller, answer)| caller.answer(answer));
    }
    Ok(())
}
