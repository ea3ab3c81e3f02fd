//! The output of running jobs. It has its own thread and store: the engine only says which worker holds the job.
//!
//! The end of every attempt's output is kept. New output is in memory first and written within a second, so a crash
//! loses the last second, and a power failure whatever the operating system had not written: output is synced to the
//! disk only when the server stops. All of it is bounded: what waits to be taken, what is in memory, and what is kept
//! of an attempt. Readers read at their own pace from their position, and are told how much they have missed.

pub(crate) mod audit;
mod keeper;
mod shelf;
mod sweep;
mod tail;
pub(crate) mod text;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use protocol::id::JobId;
use protocol::log::MAX_LOG_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::meter::Counter;
use crate::store::StoreError;
use crate::store::disk::DiskStore;
use crate::store::record::HistoryStep;
use keeper::{Keeper, Request};
use shelf::Shelf;

/// One attempt of a job; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub id: JobId,
    pub number: u32,
}

/// A part of the output of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Excerpt {
    /// The attempt; `None` if the job has printed nothing.
    pub attempt: Option<u32>,
    /// How many bytes before it are no longer kept.
    pub missed: u64,
    /// Lines, see [`text`].
    pub text: Vec<u8>,
    /// Where it ends.
    pub end: u64,
}

/// Why output was not accepted, or cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(
        "the server's disk has less free space than --min-free-disk; output is accepted again when there is more"
    )]
    Full,
    #[error("too much output arrives at once; try again in a moment")]
    Busy,
    #[error("the server is stopping; try again in a moment")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many bytes may wait to be taken.
const ROOM: usize = 8 * 1024 * 1024;
/// The least that a piece of output counts there, because each has a fixed cost.
const MIN_PIECE: usize = 256;
/// How long to wait for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most concurrent readers.
const MAX_READERS: usize = 64;
/// The most concurrent followers of logs.
pub(crate) const MAX_FOLLOWERS: usize = 256;

/// How many entries of the audit trail may wait to be stored. Whoever makes another one waits.
const MAX_ENTRIES: usize = 1_024;

/// The handle to the output of all jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs {
    requests: Sender<Request>,
    jobs: DiskStore,
    room: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    entries: Arc<Semaphore>,
    meters: Arc<Meters>,
}

/// What has become of output, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    /// Taken in.
    pub taken: Counter,
    /// Refused or lost, because there was no space for it, or the disk failed.
    pub dropped: Counter,
}

impl Logs {
    /// Starts keeping output in this folder, for the jobs in that store.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(folder: &Path, jobs: DiskStore) -> std::io::Result<Self> {
        let (sender, requests) = crossbeam_channel::unbounded();
        let meters = Arc::<Meters>::default();
        let keeper = Keeper::new(requests, jobs.clone(), Shelf::new(folder, &jobs), meters.clone());
        std::thread::Builder::new().name("logs".to_owned()).spawn(move || keeper.run())?;
        let permits = |n| Arc::new(Semaphore::new(n));
        let (room, readers, followers) = (permits(ROOM), permits(MAX_READERS), permits(MAX_FOLLOWERS));
        let entries = permits(MAX_ENTRIES);
        Ok(Self { requests: sender, jobs, room, readers, followers, entries, meters })
    }

    /// Appends lines.
    ///
    /// # Errors
    /// [`LogError`] when the disk is full, or too much arrives at once.
    pub(crate) async fn append(&self, of: Attempt, text: Vec<u8>) -> Result<(), LogError> {
        let bytes = text.len() as u64;
        let appended = self.take_in(of, text).await;
        if appended.is_err() {
            self.meters.dropped.add(bytes);
        }
        appended
    }

    async fn take_in(&self, of: Attempt, text: Vec<u8>) -> Result<(), LogError> {
        const _: () = assert!(MAX_LOG_BYTES < ROOM);
        if self.jobs.is_full_for_output() {
            return Err(LogError::Full);
        }
        let bytes = u32::try_from(text.len().clamp(MIN_PIECE, ROOM)).unwrap_or(u32::MAX);
        let room = timeout(PATIENCE, self.room.clone().acquire_many_owned(bytes)).await;
        let room = room.map_err(|_| LogError::Busy)?.map_err(|_| LogError::Stopped)?;
        self.send(Request::Append { of, text, room })
    }

    /// Reads what is kept of an attempt after `from`; without an attempt, of the last one that has printed something.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub(crate) async fn read(&self, id: JobId, attempt: Option<u32>, from: u64) -> Result<Excerpt, LogError> {
        let _place = self.readers.acquire().await.map_err(|_| LogError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::Read { id, attempt, from, reply })?;
        Ok(answer.await.map_err(|_| LogError::Stopped)??)
    }

    /// Stores steps of the history of statistics, soon.
    pub(crate) fn keep_history(&self, steps: Vec<HistoryStep>) {
        drop(self.send(Request::KeepHistory(steps)));
    }

    /// Returns the history of statistics as far as it is stored. On a full disk it is not read: opening the store takes
    /// space.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub(crate) async fn history(&self) -> Result<Vec<HistoryStep>, LogError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::ReadHistory(reply))?;
        Ok(answer.await.map_err(|_| LogError::Stopped)??)
    }

    /// What has become of output.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Reserves a place for a follower; `None` if all are taken.
    pub(crate) fn place_to_follow(&self) -> Option<OwnedSemaphorePermit> {
        self.followers.clone().try_acquire_owned().ok()
    }

    /// Returns a channel that changes whenever the attempt prints.
    ///
    /// # Errors
    /// When the server stops.
    pub(crate) async fn watch(&self, of: Attempt) -> Result<watch::Receiver<()>, LogError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Watch { of, reply })?;
        answer.await.map_err(|_| LogError::Stopped)
    }

    /// Deletes the output of a deleted job.
    pub(crate) fn forget(&self, id: JobId) {
        drop(self.send(Request::Forget(id)));
    }

    /// Waits for room for an entry of the audit trail; none after the end.
    pub(crate) async fn audit_room(&self) -> Option<OwnedSemaphorePermit> {
        self.entries.clone().acquire_owned().await.ok()
    }

    /// The same without waiting.
    pub(crate) fn audit_room_now(&self) -> Option<OwnedSemaphorePermit> {
        self.entries.clone().try_acquire_owned().ok()
    }

    /// Adds an entry to the audit trail. It is written within a second.
    pub(crate) fn audit(&self, at: u64, entry: Vec<u8>, room: OwnedSemaphorePermit) {
        drop(self.send(Request::Audit { at, entry, room }));
    }

    /// The newest entries of the audit trail before a number.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub(crate) async fn read_audit(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<audit::Page, LogError> {
        let _place = self.readers.acquire().await.map_err(|_| LogError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::ReadAudit { before, limit, reply })?;
        Ok(answer.await.map_err(|_| LogError::Stopped)??)
    }

    /// Starts a sweep, because many jobs may have been deleted.
    pub(crate) fn sweep(&self) {
        drop(self.send(Request::Sweep));
    }

    /// Writes everything. No output is accepted after this.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.send(Request::Stop(reply)).is_ok() {
            // The keeper may have ended before.
            drop(stopped.await);
        }
    }

    fn send(&self, request: Request) -> Result<(), LogError> {
        self.requests.send(request).map_err(|_| LogError::Stopped)
    }
}

#[cfg(test)]
mod tests;
