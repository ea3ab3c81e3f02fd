//! Reads jobs without delaying the engine: other threads read the store from a snapshot, and the engine only says which
//! jobs are in flight. Changes of many jobs are read the same way, and reach the engine in slices.

mod change;
mod contents;
mod counted;
mod groups;
mod look;
mod progress;
mod sieve;
mod walk;

pub(crate) use change::{BulkChange, Changes, Matches};
pub(crate) use contents::{Contents, Excerpt, Short, Shown};
pub(crate) use groups::{By, Groups, MAX_NEWEST};
pub(crate) use progress::Progress;

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::QueueName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::board::Board;
use crate::caller::Caller;
use crate::clock;
use crate::engine::command::jobs::{CountJobs, FindInFlight, Seen};
use crate::engine::command::queues::QueueIds;
use crate::hash::{HashMap, HashSet};
use crate::job::filter::Filter;
use crate::jq::{self, Admission, Busy, Helpers, JqError};
use crate::run::handle::{CallError, Handle};
use crate::store::disk::{DiskStore, Usage};
use crate::store::record::ErrorRecord;
use crate::store::{Store, StoreError, view};
use counted::{Counted, Entries, For};
use look::{Look, Queues, Start};

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] CallError),
    #[error(transparent)]
    Jq(#[from] JqError),
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Nobody waits for the result.
    #[error("the call was given up")]
    Stopped,
}

/// How many scans run at a time; more would take the CPU from the engine.
const MAX_SCANS: usize = 4;
/// How many calls change jobs by a filter at a time.
const MAX_CHANGES: usize = 2;

/// Reads the store alongside the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    store: Arc<DiskStore>,
    engine: Handle,
    board: Board,
    /// A permit per running scan.
    scans: Arc<Semaphore>,
    /// A permit per running change of many jobs.
    changes: Arc<Semaphore>,
    /// The permit for the slice of such a change that the engine handles.
    slices: Arc<Semaphore>,
    jq: Arc<Helpers>,
    entries: Arc<Entries>,
}

/// A part of the list of jobs that match a filter.
#[derive(Debug, Clone)]
pub(crate) struct JobList {
    pub filter: Filter,
    /// Begins after this id.
    pub from: Option<JobId>,
    pub descending: bool,
    /// The most jobs.
    pub limit: usize,
    /// The most time, in milliseconds: then the list ends with what was found.
    pub within: Option<u64>,
    pub contents: Contents,
}

/// The permission for a scan: a place among the others, or its own helper.
enum Turn {
    Plain(OwnedSemaphorePermit),
    Jq {
        admission: Admission,
        /// Whether the expression must return booleans, because it selects jobs to change.
        is_strict: bool,
    },
}

impl Reader {
    pub(crate) fn new(store: DiskStore, engine: Handle, board: Board, filters: jq::Limits) -> Self {
        let permits = |n| Arc::new(Semaphore::new(n));
        Self {
            store: Arc::new(store),
            engine,
            board,
            scans: permits(MAX_SCANS),
            changes: permits(MAX_CHANGES),
            slices: permits(1),
            jq: Helpers::new(filters),
            entries: Arc::default(),
        }
    }

    /// Runs blocking disk access on a thread where it delays no one.
    async fn blocking<T: Send + 'static>(
        &self,
        what: For,
        progress: &Arc<Progress>,
        read: impl FnOnce(&Look) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let look = Look {
            snapshot: Counted::new(self.store.snapshot(), self.entries.clone(), what),
            engine: self.engine.clone(),
            board: self.board.clone(),
            runtime: tokio::runtime::Handle::current(),
            now: clock::now().wall,
            progress: progress.clone(),
        };
        let _stop = StopScan(progress.clone());
        let result = tokio::task::spawn_blocking(move || read(&look)).await;
        result.unwrap_or_else(|_| Err(StoreError::Failed("the read was aborted".to_owned()).into()))
    }

    /// Waits until a scan may run. Scans with jq can be slow, so they wait only for each other.
    async fn turn(
        &self,
        caller: Caller,
        filter: &Filter,
        places: &Arc<Semaphore>,
        is_strict: bool,
    ) -> Result<Turn, ReadError> {
        if filter.jq.is_some() {
            return Ok(Turn::Jq { admission: self.jq.admit_soon(caller).await?, is_strict });
        }
        let place = places.clone().acquire_owned().await;
        Ok(Turn::Plain(place.map_err(|_| CallError::Stopped)?))
    }

    /// Reads the job with this id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn job(&self, id: JobId) -> Result<Option<Seen>, ReadError> {
        // Ask the engine before the store: a job that ends in between is then missing, rather than wrongly ready.
        match self.engine.ask(FindInFlight { ids: vec![id], worker: None }).await?.pop() {
            Some(seen) if seen.job.left_bytes == 0 => Ok(Some(seen)),
            Some(seen) => self.blocking(For::Job, &Arc::default(), move |look| look.whole(seen)).await,
            None => self.blocking(For::Job, &Arc::default(), move |look| look.job(id)).await,
        }
    }

    /// Reads those of these jobs that exist, in any order. Payloads of jobs in flight may be left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn jobs(&self, ids: Vec<JobId>) -> Result<Vec<Seen>, ReadError> {
        let mut found = self.engine.ask(FindInFlight { ids: ids.clone(), worker: None }).await?;
        let held: HashSet<JobId> = found.iter().map(|seen| seen.job.id).collect();
        let others: Vec<JobId> = ids.into_iter().filter(|id| !held.contains(id)).collect();
        if others.is_empty() {
            return Ok(found);
        }
        let read = move |look: &Look| others.iter().filter_map(|id| look.job(*id).transpose()).collect();
        found.extend(self.blocking::<Vec<Seen>>(For::Job, &Arc::default(), read).await?);
        Ok(found)
    }

    /// Returns where to start, with the first jobs in flight and where the jobs of all queues lie. A job that leaves the
    /// engine after this is found in the store.
    async fn start(
        &self,
        filter: &Filter,
        mut from: Option<JobId>,
        descending: bool,
    ) -> Result<Start, ReadError> {
        if descending {
            from = from.into_iter().chain(filter.until).min();
        }
        let queues = match (filter.named(), &filter.queues) {
            // No queue is walked: jobs and the names of their queues are looked up one by one.
            (Some(_), _) => Queues::These(Vec::new()),
            // The engine knows them all.
            _ if filter.wants_only(Status::InFlight) => Queues::These(Vec::new()),
            (None, Some(names)) => Queues::These(self.engine.ask(QueueIds(names.clone())).await?),
            (None, None) => Queues::All(self.board.known().await?),
        };
        let mut start = Start { from, descending, queues, held: Vec::new() };
        if filter.wants_status(Status::InFlight) && filter.named().is_none() {
            start.held = self.engine.ask(start.list_in_flight(filter)).await?;
        }
        Ok(start)
    }

    /// A page of jobs after `from`, of about `most` bytes, and after which job the list goes on, if there may be more.
    /// `most` is called when the page is about to be read.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn list(
        &self,
        caller: Caller,
        list: JobList,
        most: impl FnOnce() -> usize,
    ) -> Result<(Vec<Shown>, Option<JobId>), ReadError> {
        let JobList { filter, from, descending, limit, within, contents } = list;
        let turn = self.turn(caller, &filter, &self.scans, false).await?;
        let most = most();
        let start = self.start(&filter, from, descending).await?;
        self.blocking(For::List, &Arc::new(Progress::within(within)), move |look| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            look.select(&filter, turn, start, limit + 1, |seen| {
                let seen = if contents.needs_payload() { look.whole(seen)? } else { Some(seen) };
                if let Some(seen) = seen {
                    let shown = contents.of(seen);
                    bytes += shown.weight();
                    page.push(shown);
                }
                Ok(page.len() <= limit && (bytes <= most || page.len() == 1))
            })?;
            let more = page.len() > limit || (page.len() > 1 && bytes > most);
            if !more {
                return Ok((page, look.progress.left_at()));
            }
            page.pop();
            let last = page.last().map(|shown: &Shown| shown.seen.job.id);
            Ok((page, last))
        })
        .await
    }

    /// Counts the jobs that match a filter, up to `at_most`, and says whether these are all.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn count(
        &self,
        caller: Caller,
        filter: Filter,
        at_most: u64,
    ) -> Result<(u64, bool), ReadError> {
        if filter.is_of_queue_and_status() {
            let counted = self.engine.ask(CountJobs { queues: filter.queues.clone() }).await?;
            let count = counted.counts.of_all(|status| filter.wants_status(status));
            return Ok((count.min(at_most), count <= at_most));
        }
        let turn = self.turn(caller, &filter, &self.scans, false).await?;
        let start = self.start(&filter, None, false).await?;
        self.blocking(For::Count, &Arc::default(), move |look| {
            let (mut count, mut exact) = (0, true);
            look.select(&filter, turn, start, usize::MAX, |_| {
                exact = count < at_most;
                count += u64::from(exact);
                Ok(exact)
            })?;
            Ok((count, exact))
        })
        .await
    }

    /// For each of these queues: since when its oldest ready job by enqueue order has been ready.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn oldest_ready(
        &self,
        queues: &[QueueName],
    ) -> Result<HashMap<QueueName, u64>, ReadError> {
        let _place = self.scans.acquire().await.map_err(|_| CallError::Stopped)?;
        let ids = self.engine.ask(QueueIds(queues.to_vec())).await?;
        self.blocking(For::OldestReady, &Arc::default(), move |look| look.oldest_ready(&ids)).await
    }

    /// How many entries of the store were read, by what for.
    pub(crate) fn entries(&self) -> impl IntoIterator<Item = (&'static str, u64)> {
        self.entries.get()
    }

    /// How many filters ended how.
    pub(crate) fn jq_runs(&self) -> &jq::Runs {
        self.jq.runs()
    }

    /// The space that the jobs take on the disk, and what is left there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn disk(&self) -> Result<Usage, ReadError> {
        let store = self.store.clone();
        let usage = tokio::task::spawn_blocking(move || store.usage()).await;
        Ok(usage.map_err(|_| CallError::Stopped)??)
    }

    /// Whether so little space is left that no new jobs are accepted.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.store.is_full()
    }

    /// Some failed attempts of a job, of about `most` bytes, and whether there are more; `None` if the job does not
    /// exist.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn errors(
        &self,
        id: JobId,
        most: usize,
        attempts: impl FnOnce(u32) -> Vec<u32> + Send + 'static,
    ) -> Result<Option<(Vec<(u32, ErrorRecord)>, bool)>, ReadError> {
        self.blocking(For::Errors, &Arc::default(), move |look| {
            let Some(seen) = look.job(id)? else { return Ok(None) };
            let (mut errors, mut bytes) = (Vec::new(), 0);
            for attempt in attempts(seen.job.attempts) {
                let Some(error) = readable(view::error(&look.snapshot, id, attempt))? else { continue };
                bytes += error.weight();
                if bytes > most && !errors.is_empty() {
                    return Ok(Some((errors, true)));
                }
                errors.push((attempt, error));
            }
            Ok(Some((errors, false)))
        })
        .await
    }
}

/// Skips a damaged record. The engine sets it aside when it reads it.
fn readable<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!("{error}; the record is skipped");
            Ok(None)
        }
        read => read,
    }
}

/// Ends the scan of an abandoned request.
struct StopScan(Arc<Progress>);

impl Drop for StopScan {
    fn drop(&mut self) {
        self.0.stop();
    }
}
