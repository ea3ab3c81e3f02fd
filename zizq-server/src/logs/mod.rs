//! What running jobs print. It has a thread and a store of its own: the engine only says whose word counts.
//!
//! Of every attempt the end is kept. What comes in is in memory first and written down within a second, so a crash loses
//! the last second of output, and a loss of power what the operating system had not written: it is never forced onto
//! the disk before the server stops. All of it is bounded: what waits to be taken up, what is in memory, and what is
//! kept of an attempt. Readers take what they can, from where they are, and hear how much they have missed.

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

use crate::store::StoreError;
use crate::store::disk::DiskStore;
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
    /// Of which attempt; none where the job has printed nothing.
    pub attempt: Option<u32>,
    /// How many bytes before it are not kept any more.
    pub missed: u64,
    /// Lines, see [`text`].
    pub text: Vec<u8>,
    /// Where it ends.
    pub end: u64,
}

/// Why output was not taken, or is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("the disk of the server is full; output is taken again when there is space")]
    Full,
    #[error("too much output comes at once; try again in a moment")]
    Busy,
    #[error("the server is stopping; try again in a moment")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may wait to be taken up, in bytes.
const ROOM: usize = 8 * 1024 * 1024;
/// The least that a piece of output takes there: it has a price of its own.
const MIN_PIECE: usize = 256;
/// How long it may take until there is room.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many read at a time.
const MAX_READERS: usize = 64;
/// How many can follow a log at a time.
pub(crate) const MAX_FOLLOWERS: usize = 256;

/// The way to the output of all jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs {
    requests: Sender<Request>,
    jobs: DiskStore,
    room: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Logs {
    /// Starts to keep output in this folder, of jobs in that store.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(folder: &Path, jobs: DiskStore) -> std::io::Result<Self> {
        let (sender, requests) = crossbeam_channel::unbounded();
        let keeper = Keeper::new(requests, jobs.clone(), Shelf::new(folder, &jobs));
        std::thread::Builder::new().name("logs".to_owned()).spawn(move || keeper.run())?;
        let permits = |n| Arc::new(Semaphore::new(n));
        let (room, readers, followers) = (permits(ROOM), permits(MAX_READERS), permits(MAX_FOLLOWERS));
        Ok(Self { requests: sender, jobs, room, readers, followers })
    }

    /// Takes lines in.
    ///
    /// # Errors
    /// [`LogError`] when the disk is full, or too much comes at once.
    pub(crate) async fn append(&self, of: Attempt, text: Vec<u8>) -> Result<(), LogError> {
        const _: () = assert!(MAX_LOG_BYTES < ROOM);
        if self.jobs.is_full_for_output() {
            return Err(LogError::Full);
        }
        let bytes = u32::try_from(text.len().clamp(MIN_PIECE, ROOM)).unwrap_or(u32::MAX);
        let room = timeout(PATIENCE, self.room.clone().acquire_many_owned(bytes)).await;
        let room = room.map_err(|_| LogError::Busy)?.map_err(|_| LogError::Stopped)?;
        self.send(Request::Append { of, text, room })
    }

    /// Reads what is kept of an attempt behind `from`; of the last one that has printed something, if none is named.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub(crate) async fn read(&self, id: JobId, attempt: Option<u32>, from: u64) -> Result<Excerpt, LogError> {
        let _place = self.readers.acquire().await.map_err(|_| LogError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::Read { id, attempt, from, reply })?;
        Ok(answer.await.map_err(|_| LogError::Stopped)??)
    }

    /// A place among those who follow; none if all are taken.
    pub(crate) fn place_to_follow(&self) -> Option<OwnedSemaphorePermit> {
        self.followers.clone().try_acquire_owned().ok()
    }

    /// Something that changes whenever the attempt prints.
    ///
    /// # Errors
    /// When the server stops.
    pub(crate) async fn watch(&self, of: Attempt) -> Result<watch::Receiver<()>, LogError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Watch { of, reply })?;
        answer.await.map_err(|_| LogError::Stopped)
    }

    /// A job is gone, and its output with it.
    pub(crate) fn forget(&self, id: JobId) {
        drop(self.send(Request::Forget(id)));
    }

    /// Many jobs may be gone.
    pub(crate) fn sweep(&self) {
        drop(self.send(Request::Sweep));
    }

    /// Writes everything down. Nothing is taken any more after this.
    pub(crate) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        if self.send(Request::Stop(reply)).is_ok() {
            // Nobody answers who has ended before.
            drop(stopped.await);
        }
    }

    fn send(&self, request: Request) -> Result<(), LogError> {
        self.requests.send(request).map_err(|_| LogError::Stopped)
    }
}

#[cfg(test)]
mod tests;
