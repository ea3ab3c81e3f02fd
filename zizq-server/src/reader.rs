//! Reading jobs without holding up the engine: the store is read on other threads, from a snapshot; the engine only
//! says which of the jobs are in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::{JobType, QueueName};
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;

use crate::clock;
use crate::engine::command::{Command, Reply};
use crate::engine::id::{QueueId, Stamp};
use crate::engine::job::Job;
use crate::handle::{CallError, Handle};
use crate::store::disk::{DiskSnapshot, DiskStore};
use crate::store::record::{self, ErrorRecord, QueueRecord};
use crate::store::view::{self, Run};
use crate::store::{Store, StoreError};

/// A job as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub job: Arc<Job>,
    pub queue: QueueName,
    pub status: Status,
}

/// Which jobs are asked for. None of a kind means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub ids: Option<Vec<JobId>>,
    pub queues: Option<Vec<QueueName>>,
    pub types: Option<Vec<JobType>>,
    pub statuses: Option<Vec<Status>>,
}

impl Filter {
    fn wants_status(&self, status: Status) -> bool {
        self.statuses.as_ref().is_none_or(|wanted| wanted.contains(&status))
    }

    fn accepts(&self, shown: &Shown) -> bool {
        self.wants_status(shown.status)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&shown.job.id))
            && self.queues.as_ref().is_none_or(|queues| queues.contains(&shown.queue))
            && self.types.as_ref().is_none_or(|types| types.contains(&shown.job.job_type))
    }
}

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] CallError),
}

/// How many jobs are asked about at a time.
const CHUNK: usize = 256;
/// A page of large jobs ends before its limit, at about this many bytes.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// How many scans run at a time; others wait, so that they do not take the machine away from the engine.
const MAX_SCANS: usize = 4;

/// Reads the store beside the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    store: Arc<DiskStore>,
    engine: Handle,
    /// One for each scan that may run at a time.
    scans: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(store: DiskStore, engine: Handle) -> Self {
        Self { store: Arc::new(store), engine, scans: Arc::new(Semaphore::new(MAX_SCANS)) }
    }

    /// Runs something that waits for the disk where it holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Look) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let look = Look {
            snapshot: self.store.snapshot(),
            engine: self.engine.clone(),
            runtime: tokio::runtime::Handle::current(),
            now: clock::now(),
            abandoned: Arc::default(),
        };
        let _stop = StopScan(look.abandoned.clone());
        let result = tokio::task::spawn_blocking(move || read(&look)).await;
        result.unwrap_or_else(|_| Err(StoreError::Failed("reading broke off".to_owned()).into()))
    }

    /// The job of this id.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn job(&self, id: JobId) -> Result<Option<Shown>, ReadError> {
        // First the engine, then the store: a job that ends in between is gone, and not ready.
        let Reply::InFlight(mut held) = self.engine.call(Command::Inspect(vec![id])).await? else {
            return Ok(None);
        };
        let held = held.pop();
        self.blocking(move |look| look.job(id, held)).await
    }

    /// A page of jobs behind `from`, and whether there are more.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn list(
        &self,
        filter: Filter,
        from: Option<JobId>,
        descending: bool,
        limit: usize,
    ) -> Result<(Vec<Shown>, bool), ReadError> {
        let _permit = self.scans.acquire().await;
        self.blocking(move |look| {
            let mut page = look.list(&filter, from, descending, limit + 1)?;
            let bytes: usize = page.iter().map(|shown| shown.job.weight()).sum();
            let more = page.len() > limit || (page.len() > 1 && bytes > MAX_PAGE_BYTES);
            if more {
                page.pop();
            }
            Ok((page, more))
        })
        .await
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn count(&self, filter: Filter) -> Result<u64, ReadError> {
        let _permit = self.scans.acquire().await;
        self.blocking(move |look| look.count(&filter)).await
    }

    /// The names of the queues that have jobs, sorted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn queues(&self) -> Result<Vec<QueueName>, ReadError> {
        self.blocking(|look| {
            let queues = view::queues(&look.snapshot)?.into_iter();
            let mut names: Vec<_> =
                queues.filter(|(_, q)| q.counts.total() > 0).map(|(_, q)| q.name).collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    /// Some failed attempts of a job; none where there is no such job.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn errors(
        &self,
        id: JobId,
        attempts: impl FnOnce(u32) -> Vec<u32> + Send + 'static,
    ) -> Result<Option<Vec<(u32, ErrorRecord)>>, ReadError> {
        self.blocking(move |look| {
            let Some(shown) = look.job(id, None)? else { return Ok(None) };
            let mut errors = Vec::new();
            for attempt in attempts(shown.job.attempts) {
                errors.extend(view::error(&look.snapshot, id, attempt)?.map(|error| (attempt, error)));
            }
            Ok(Some(errors))
        })
        .await
    }
}

/// One look at the store, on a thread that may wait.
struct Look {
    snapshot: DiskSnapshot,
    engine: Handle,
    runtime: tokio::runtime::Handle,
    now: u64,
    /// Nobody waits for the result any more.
    abandoned: Arc<AtomicBool>,
}

/// Ends the scan of a request that is given up.
struct StopScan(Arc<AtomicBool>);

impl Drop for StopScan {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type QueueNames = FxHashMap<QueueId, QueueName>;

impl Look {
    fn ask(&self, command: Command) -> Result<Reply, ReadError> {
        Ok(self.runtime.block_on(self.engine.call(command))?)
    }

    /// The job of this id; `held` is what the engine knows of it, if it is in flight.
    fn job(&self, id: JobId, held: Option<Arc<Job>>) -> Result<Option<Shown>, ReadError> {
        let status = held.is_some().then_some(Status::InFlight);
        let job = match held {
            Some(job) => job,
            None => match view::find(&self.snapshot, id)?.filter(|job| !job.is_gone(self.now)) {
                Some(job) => Arc::new(job),
                None => return Ok(None),
            },
        };
        let queue = self.name(&mut QueueNames::default(), job.queue)?;
        Ok(queue.map(|queue| Shown { queue, status: status.unwrap_or(job.status), job }))
    }

    /// The jobs of these ids that exist, in the order of the ids.
    fn jobs(&self, ids: &[JobId]) -> Result<Vec<Shown>, ReadError> {
        let mut names = QueueNames::default();
        let mut jobs = Vec::new();
        for id in ids {
            let Some(job) = view::find(&self.snapshot, *id)?.filter(|job| !job.is_gone(self.now)) else {
                continue;
            };
            if let Some(queue) = self.name(&mut names, job.queue)? {
                jobs.push((Arc::new(job), queue));
            }
        }
        self.show(jobs)
    }

    fn name(&self, names: &mut QueueNames, id: QueueId) -> Result<Option<QueueName>, ReadError> {
        if let Some(name) = names.get(&id) {
            return Ok(Some(name.clone()));
        }
        let name = view::queue(&self.snapshot, id)?.map(|queue| queue.name);
        names.extend(name.clone().map(|name| (id, name)));
        Ok(name)
    }

    /// Puts what the engine knows over what the store says.
    fn show(&self, jobs: Vec<(Arc<Job>, QueueName)>) -> Result<Vec<Shown>, ReadError> {
        let ready = jobs.iter().filter(|(job, _)| job.status == Status::Ready).map(|(job, _)| job.id);
        let ids: Vec<JobId> = ready.collect();
        let mut in_flight = FxHashMap::default();
        if !ids.is_empty()
            && let Reply::InFlight(held) = self.ask(Command::Inspect(ids))?
        {
            in_flight.extend(held.into_iter().map(|job| (job.id, job)));
        }
        let shown = jobs.into_iter().map(|(job, queue)| match in_flight.remove(&job.id) {
            Some(job) => Shown { job, queue, status: Status::InFlight },
            None => Shown { status: job.status, job, queue },
        });
        Ok(shown.collect())
    }

    fn list(
        &self,
        filter: &Filter,
        from: Option<JobId>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Shown>, ReadError> {
        if let Some(ids) = &filter.ids {
            return self.list_ids(filter, ids.clone(), from, descending, limit);
        }
        let queues = self.queues(filter)?;
        if filter.statuses.as_deref() == Some(&[Status::InFlight]) {
            return self.list_in_flight(filter, &queues, from, descending, limit);
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        self.scan(filter, &queues, from, descending, |shown| {
            bytes += shown.job.weight();
            page.push(shown);
            page.len() < limit && (bytes <= MAX_PAGE_BYTES || page.len() == 1)
        })?;
        Ok(page)
    }

    /// Shows every matching job in turn, until `visit` has seen enough.
    fn scan(
        &self,
        filter: &Filter,
        queues: &[(QueueId, QueueRecord)],
        from: Option<JobId>,
        descending: bool,
        mut visit: impl FnMut(Shown) -> bool,
    ) -> Result<(), ReadError> {
        let names: QueueNames = queues.iter().map(|(id, queue)| (*id, queue.name.clone())).collect();
        let mut walk =
            Walk::new(&self.snapshot, self.runs(filter, queues)?, from.map(Stamp::of), descending)?;
        loop {
            let chunk = self.chunk(&mut walk, &names)?;
            if chunk.is_empty() || self.abandoned.load(Ordering::Relaxed) {
                return Ok(());
            }
            for shown in self.show(chunk)? {
                if filter.accepts(&shown) && !visit(shown) {
                    return Ok(());
                }
            }
        }
    }

    /// The next jobs of a walk; empty at its end.
    fn chunk(&self, walk: &mut Walk, names: &QueueNames) -> Result<Vec<(Arc<Job>, QueueName)>, ReadError> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK
            && let Some((run, stamp, record)) = walk.next()?
        {
            let place = run.place(stamp);
            match record::decode_job(place, &record) {
                Ok(job) if job.is_gone(self.now) => {}
                Ok(job) => chunk.extend(names.get(&job.queue).cloned().map(|name| (Arc::new(job), name))),
                Err(error) => tracing::error!(?place, %error, "a job cannot be read and is passed over"),
            }
        }
        Ok(chunk)
    }

    fn list_ids(
        &self,
        filter: &Filter,
        mut ids: Vec<JobId>,
        from: Option<JobId>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Shown>, ReadError> {
        ids.sort_unstable();
        ids.dedup();
        if descending {
            ids.reverse();
        }
        ids.retain(|id| from.is_none_or(|from| if descending { *id < from } else { *id > from }));
        let mut jobs = self.jobs(&ids)?;
        jobs.retain(|shown| filter.accepts(shown));
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn list_in_flight(
        &self,
        filter: &Filter,
        queues: &[(QueueId, QueueRecord)],
        from: Option<JobId>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Shown>, ReadError> {
        let names: QueueNames = queues.iter().map(|(id, queue)| (*id, queue.name.clone())).collect();
        let asked = filter.queues.is_some().then(|| names.keys().copied().collect());
        // A type is not known to the engine's index: ask for all of them then.
        let enough = if filter.types.is_some() { usize::MAX } else { limit };
        let command = Command::ListInFlight { queues: asked, from, descending, limit: enough };
        let Reply::InFlight(held) = self.ask(command)? else { return Ok(Vec::new()) };
        let shown = held.into_iter().filter_map(|job| {
            let queue = names.get(&job.queue)?.clone();
            Some(Shown { job, queue, status: Status::InFlight })
        });
        Ok(shown.filter(|shown| filter.accepts(shown)).take(limit).collect())
    }

    fn queues(&self, filter: &Filter) -> Result<Vec<(QueueId, QueueRecord)>, ReadError> {
        let mut queues = view::queues(&self.snapshot)?;
        queues.retain(|(_, queue)| filter.queues.as_ref().is_none_or(|names| names.contains(&queue.name)));
        Ok(queues)
    }

    /// The runs in which matching jobs can be.
    fn runs(&self, filter: &Filter, queues: &[(QueueId, QueueRecord)]) -> Result<Vec<Run>, ReadError> {
        let mut runs = Vec::new();
        for (id, queue) in queues {
            let counts = queue.counts;
            let parked = [
                (Status::Scheduled, counts.scheduled),
                (Status::Completed, counts.completed),
                (Status::Dead, counts.dead),
            ];
            let wanted =
                parked.into_iter().filter(|(status, count)| *count > 0 && filter.wants_status(*status));
            runs.extend(wanted.map(|(status, _)| Run { status, queue: *id, priority: 0 }));
            if counts.ready > 0
                && (filter.wants_status(Status::Ready) || filter.wants_status(Status::InFlight))
            {
                let lanes = view::lanes(&self.snapshot, *id)?.into_iter();
                runs.extend(lanes.map(|(priority, _)| Run { status: Status::Ready, queue: *id, priority }));
            }
        }
        Ok(runs)
    }

    fn count(&self, filter: &Filter) -> Result<u64, ReadError> {
        if let Some(ids) = &filter.ids {
            return Ok(self.list_ids(filter, ids.clone(), None, false, usize::MAX)?.len() as u64);
        }
        if filter.types.is_some() {
            let mut count = 0;
            self.scan(filter, &self.queues(filter)?, None, false, |_| {
                count += 1;
                true
            })?;
            return Ok(count);
        }
        let Reply::Counts(counts) = self.ask(Command::Count { queues: filter.queues.clone() })? else {
            return Ok(0);
        };
        let wanted = Status::ALL.into_iter().filter(|status| filter.wants_status(*status));
        Ok(wanted.map(|status| counts.of(status)).sum())
    }
}

type Entries = Box<dyn Iterator<Item = Result<(Stamp, Bytes), StoreError>> + Send>;

/// Several runs as one, in the order of the stamps.
struct Walk {
    runs: Vec<(Run, Entries)>,
    /// The next entry of each run that is not at its end; the first to come is at the top.
    heads: BinaryHeap<(OrderedStamp, usize, Bytes)>,
    descending: bool,
}

/// A stamp that compares so that the next one to come is the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum OrderedStamp {
    Ascending(Reverse<Stamp>),
    Descending(Stamp),
}

impl Walk {
    fn new(
        snapshot: &DiskSnapshot,
        runs: Vec<Run>,
        from: Option<Stamp>,
        descending: bool,
    ) -> Result<Self, StoreError> {
        let open = |run: Run| -> (Run, Entries) { (run, Box::new(run.walk(snapshot, from, descending))) };
        let runs: Vec<(Run, Entries)> = runs.into_iter().map(open).collect();
        let mut walk = Self { heads: BinaryHeap::with_capacity(runs.len()), runs, descending };
        for run in 0..walk.runs.len() {
            walk.advance(run)?;
        }
        Ok(walk)
    }

    fn advance(&mut self, run: usize) -> Result<(), StoreError> {
        if let Some((stamp, record)) =
            self.runs.get_mut(run).and_then(|(_, entries)| entries.next()).transpose()?
        {
            let order = if self.descending {
                OrderedStamp::Descending(stamp)
            } else {
                OrderedStamp::Ascending(Reverse(stamp))
            };
            self.heads.push((order, run, record));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Run, Stamp, Bytes)>, StoreError> {
        let Some((order, index, record)) = self.heads.pop() else { return Ok(None) };
        self.advance(index)?;
        let (OrderedStamp::Ascending(Reverse(stamp)) | OrderedStamp::Descending(stamp)) = order;
        Ok(self.runs.get(index).map(|(run, _)| (*run, stamp, record)))
    }
}
