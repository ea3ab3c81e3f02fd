//! One read of the store, on a thread that may block.

use std::mem;
use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::QueueName;

use super::counted::Counted;
use super::progress::Progress;
use super::sieve::Sieve;
use super::walk::{Held, Region, Walk};
use super::{ReadError, Turn, readable};
use crate::board::{self, Board, Known};
use crate::engine::command::Request;
use crate::engine::command::jobs::{FindInFlight, ListInFlight, Seen};
use crate::hash::{HashMap, HashSet};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::extent::{Extents, STORED};
use crate::job::filter::Filter;
use crate::job::id::{QueueId, Stamp};
use crate::run::handle::Handle;
use crate::store::record::QueueRecord;
use crate::store::view::{self, Run};

/// How many jobs the engine is asked about at a time.
const CHUNK: usize = 256;

pub(super) struct Look {
    pub snapshot: Counted,
    pub engine: Handle,
    pub board: Board,
    pub runtime: tokio::runtime::Handle,
    pub now: u64,
    pub progress: Arc<Progress>,
}

/// Where a selection starts.
pub(super) struct Start {
    pub from: Option<JobId>,
    pub descending: bool,
    pub queues: Queues,
    /// The first jobs in flight, as they were before the snapshot was taken.
    pub held: Vec<Seen>,
}

/// The queues to walk through that existed.
pub(super) enum Queues {
    These(Vec<QueueId>),
    /// All, with where their jobs lay before the snapshot was taken.
    All(Vec<(QueueId, Known)>),
}

impl Start {
    /// The command that lists the first jobs in flight.
    pub(super) fn list_in_flight(&self, filter: &Filter) -> ListInFlight {
        let (from, descending) = (self.from, self.descending);
        let (queues, worker) = (filter.queues.clone(), filter.worker.clone());
        ListInFlight { queues, worker, from, descending, limit: Held::PAGE }
    }
}

type QueueNames = HashMap<QueueId, QueueName>;

impl Look {
    pub(super) fn ask<R: Request>(&self, request: R) -> Result<R::Answer, ReadError> {
        Ok(self.runtime.block_on(self.engine.ask(request))?)
    }

    /// Reads the job with this id from the store.
    pub(super) fn job(&self, id: JobId) -> Result<Option<Seen>, ReadError> {
        let job = readable(view::find(&self.snapshot, id))?;
        let Some(job) = job.filter(|job| !job.is_gone(self.now)) else { return Ok(None) };
        let queue = view::queue(&self.snapshot, job.queue)?.map(|queue| queue.name);
        Ok(queue.map(|queue| Seen { queue, status: job.status, job: Arc::new(job) }))
    }

    /// Adds the payload, which may be in the store only; returns `None` if the job changed in the meantime or was
    /// deleted.
    pub(super) fn whole(&self, mut seen: Seen) -> Result<Option<Seen>, ReadError> {
        if seen.job.left_bytes > 0 {
            let Some(stored) = readable(view::find(&self.snapshot, seen.job.id))? else { return Ok(None) };
            Arc::make_mut(&mut seen.job).take_payload(stored.payload);
        }
        Ok(Some(seen))
    }

    /// Passes every job that matches the filter to `visit`, in enqueue order, until it returns that it has enough.
    /// `about` is a guess of how many that will be.
    pub(super) fn select(
        &self,
        filter: &Filter,
        turn: Turn,
        start: Start,
        about: usize,
        visit: impl FnMut(Seen) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let expression = filter.jq.as_deref().unwrap_or_default();
        let (sieve, _place) = match turn {
            Turn::Plain(place) => (None, Some(place)),
            Turn::Jq { admission, is_strict } => {
                let admission = admission.until(self.progress.stopped());
                (Some(Sieve::open(admission, expression, is_strict)?), None)
            }
        };
        self.select_by(filter, sieve, start, about, visit)
    }

    /// For each of these queues (or all): since when its ready job that was enqueued first has been ready, if there is
    /// one.
    pub(super) fn oldest_ready(&self, queues: &[QueueId]) -> Result<HashMap<QueueName, u64>, ReadError> {
        let filter = Filter { statuses: Some(vec![Status::Ready]), ..Filter::default() };
        let mut oldest = HashMap::default();
        for queue in queues {
            if self.progress.is_stopped() {
                break;
            }
            let queues = Queues::These(vec![*queue]);
            let start = Start { from: None, descending: false, queues, held: Vec::new() };
            self.select_by(&filter, None, start, 1, |seen| {
                oldest.insert(seen.queue, seen.job.ready_at);
                Ok(false)
            })?;
        }
        Ok(oldest)
    }

    /// [`Look::select`] by a sieve, if there is one.
    fn select_by(
        &self,
        filter: &Filter,
        mut sieve: Option<Sieve>,
        start: Start,
        about: usize,
        mut visit: impl FnMut(Seen) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut names = QueueNames::default();
        let mut jobs = self.source(filter, start, &mut names)?;
        let size = if sieve.is_some() { CHUNK } else { about.clamp(1, CHUNK) };
        loop {
            let chunk = self.chunk(&mut jobs, filter, &mut names, size)?;
            let ended = chunk.len() < size || self.progress.left_at().is_some();
            let mut found = self.overlay(chunk, filter)?;
            found.retain(|seen| filter.accepts(&seen.job, &seen.queue, seen.status));
            if let Some(sieve) = &mut sieve {
                let whole = found.into_iter().filter_map(|seen| self.whole(seen).transpose());
                found = sieve.pass(whole.collect::<Result<_, ReadError>>()?, ended)?;
            }
            for seen in found {
                if !visit(seen)? {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Up to `size` of the next jobs that may match the filter; fewer at the end, and when the time for the scan is over.
    fn chunk(
        &self,
        jobs: &mut Jobs<'_>,
        filter: &Filter,
        names: &mut QueueNames,
        size: usize,
    ) -> Result<Vec<Seen>, ReadError> {
        self.progress.check()?;
        let mut chunk = Vec::with_capacity(size);
        for n in 1_u64.. {
            let Some(found) = jobs.next().transpose()? else { break };
            let id = match &found {
                Found::Held(seen) => seen.job.id,
                Found::Stored(job) => job.id,
            };
            let goes_on = self.progress.look(id);
            if n.is_multiple_of(1024) {
                self.progress.check()?;
            }
            let seen = match found {
                Found::Held(seen) => Some(seen),
                Found::Stored(job) if job.is_gone(self.now) => None,
                Found::Stored(job) => {
                    let queue = self.name(names, job.queue)?;
                    queue.map(|queue| Seen { status: job.status, queue, job })
                }
            };
            chunk.extend(seen.filter(|seen| filter.accepts_all_but_status(&seen.job, &seen.queue)));
            if chunk.len() == size || !goes_on {
                break;
            }
        }
        Ok(chunk)
    }

    fn name(&self, names: &mut QueueNames, id: QueueId) -> Result<Option<QueueName>, ReadError> {
        if let Some(name) = names.get(&id) {
            return Ok(Some(name.clone()));
        }
        let name = readable(view::queue(&self.snapshot, id))?.map(|queue| queue.name);
        names.extend(name.iter().map(|name| (id, name.clone())));
        Ok(name)
    }

    /// Overrides what the store says with what the engine knows. A job that another worker has than the one that is asked
    /// for looks as the store has it: not in flight.
    fn overlay(&self, mut jobs: Vec<Seen>, filter: &Filter) -> Result<Vec<Seen>, ReadError> {
        let maybe_held = |seen: &&Seen| matches!(seen.status, Status::Ready | Status::InFlight);
        let ids: Vec<JobId> = jobs.iter().filter(maybe_held).map(|seen| seen.job.id).collect();
        let mut in_flight = HashMap::default();
        if !ids.is_empty() {
            let held = self.ask(FindInFlight { ids, worker: filter.worker.clone() })?;
            in_flight.extend(held.into_iter().map(|seen| (seen.job.id, seen)));
        }
        let mut shown = Vec::with_capacity(jobs.len());
        for seen in jobs.drain(..) {
            match in_flight.remove(&seen.job.id) {
                Some(held) => shown.push(held),
                // It was in flight a moment ago. The snapshot may not know where it went since.
                None if seen.status == Status::InFlight => shown.extend(self.job(seen.job.id)?),
                None => shown.push(seen),
            }
        }
        Ok(shown)
    }

    fn source<'a>(
        &'a self,
        filter: &Filter,
        mut start: Start,
        names: &mut QueueNames,
    ) -> Result<Jobs<'a>, ReadError> {
        if let Some(ids) = filter.named() {
            return Ok(self.named(ids.to_vec(), &start));
        }
        let regions = match mem::replace(&mut start.queues, Queues::These(Vec::new())) {
            Queues::These(ids) => self.regions_of(filter, &ids, names)?,
            Queues::All(before) => self.regions(filter, before)?,
        };
        let (from, descending) = (start.from, start.descending);
        let held = if filter.wants_status(Status::InFlight) { Some(self.held(filter, start)?) } else { None };
        Ok(Box::new(Walk::new(self, regions, held, (from, filter.until), descending)?))
    }

    /// The jobs with these ids, in the requested order.
    fn named(&self, mut ids: Vec<JobId>, start: &Start) -> Jobs<'_> {
        let (from, descending) = (start.from, start.descending);
        if descending {
            ids.reverse();
        }
        ids.retain(|id| from.is_none_or(|from| if descending { *id < from } else { *id > from }));
        Box::new(ids.into_iter().filter_map(|id| match readable(view::find(&self.snapshot, id)) {
            Ok(job) => job.map(|job| Ok(Found::Stored(Arc::new(job)))),
            Err(error) => Some(Err(error.into())),
        }))
    }

    fn held(&self, filter: &Filter, mut start: Start) -> Result<Held, ReadError> {
        if !filter.wants_status(Status::Ready) {
            // Without the ready lanes, a job that was delivered just before the snapshot appears nowhere else.
            let before: HashSet<JobId> = start.held.iter().map(|seen| seen.job.id).collect();
            let held = self.ask(start.list_in_flight(filter))?;
            start.held.extend(held.into_iter().filter(|seen| !before.contains(&seen.job.id)));
            start.held.sort_by_key(|seen| seen.job.id);
            if start.descending {
                start.held.reverse();
            }
        }
        Ok(Held::new(self.engine.clone(), self.runtime.clone(), start.list_in_flight(filter), start.held))
    }

    /// Where matching jobs may be in these queues.
    fn regions_of(
        &self,
        filter: &Filter,
        ids: &[QueueId],
        names: &mut QueueNames,
    ) -> Result<Vec<Region>, ReadError> {
        let mut regions = Vec::new();
        for id in ids {
            let Some(QueueRecord { name, counts, .. }) = view::queue(&self.snapshot, *id)? else { continue };
            // Another queue may have got the number.
            if filter.queues.as_ref().is_none_or(|names| names.binary_search(&name).is_ok()) {
                regions.extend(wanted(filter, *id, &Extents::of_counts(&counts), None));
                names.insert(*id, name);
            }
        }
        Ok(regions)
    }

    /// Where matching jobs may be in all queues. `before`: what was known before the snapshot was taken.
    fn regions(&self, filter: &Filter, before: Vec<(QueueId, Known)>) -> Result<Vec<Region>, ReadError> {
        let after = self.runtime.block_on(self.board.known())?;
        let known = board::between(before, after);
        let regions =
            known.iter().flat_map(|(id, known)| wanted(filter, *id, &known.extents, Some(known.version)));
        Ok(regions.collect())
    }

    /// The runs of the store in a region.
    pub(super) fn runs(&self, region: &Region) -> Result<Vec<Run>, ReadError> {
        let (status, queue) = (region.status, region.queue);
        let run = |draw, priority, first| Run { status, queue, draw, priority, first };
        if status != Status::Ready {
            return Ok(vec![run(DrawId::NONE, 0, Stamp::MIN)]);
        }
        let lanes = readable(view::plain_lanes(&self.snapshot, queue).map(Some))?;
        let lanes = lanes.into_iter().flatten();
        let plain = lanes.map(|(_, priority, first)| run(DrawId::NONE, priority, first));
        Ok(plain.chain([run(DrawId::SOME, 0, Stamp::MIN)]).collect())
    }
}

/// The regions of a queue with jobs of a status that the filter wants.
fn wanted(
    filter: &Filter,
    queue: QueueId,
    extents: &Extents,
    version: Option<board::Version>,
) -> impl Iterator<Item = Region> {
    let region = |status| Region { queue, status, extent: extents.of(status), version };
    let regions = STORED.map(region).into_iter();
    regions.filter(|region| !region.extent.is_none() && filter.wants_status(region.status))
}

/// A job that the filter has yet to check.
pub(super) enum Found {
    Stored(Arc<Job>),
    /// In flight when the engine was asked.
    Held(Seen),
}

type Jobs<'a> = Box<dyn Iterator<Item = Result<Found, ReadError>> + 'a>;
