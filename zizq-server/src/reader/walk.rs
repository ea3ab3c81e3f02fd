//! Merges several runs of jobs in enqueue order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use protocol::id::JobId;
use protocol::job::Status;

use super::look::{Found, Look};
use super::{ReadError, readable};
use crate::board::{self, Version};
use crate::engine::command::jobs::{ListInFlight, Seen};
use crate::job::extent::Extent;
use crate::job::id::{QueueId, Stamp};
use crate::run::handle::Handle;
use crate::store::record;
use crate::store::view::Run;

type Entries = Box<dyn Iterator<Item = Result<(Stamp, Head), ReadError>> + Send>;

/// The next job of a run.
enum Head {
    Stored(Run, Bytes),
    Held(Seen),
}

/// The jobs of a queue and status.
pub(super) struct Region {
    pub queue: QueueId,
    pub status: Status,
    pub extent: Extent,
    /// What the extent is based on, if it is to be made narrower where that is possible.
    pub version: Option<Version>,
}

/// The jobs of several regions, without duplicates. A region is read once the walk gets to its extent.
pub(super) struct Walk<'a> {
    look: &'a Look,
    regions: Vec<Region>,
    runs: Vec<(Option<Head>, Entries)>,
    /// The regions not yet read, by where they begin, and the runs with jobs left, by their next stamp; what comes next is
    /// at the top.
    order: BinaryHeap<(OrderedStamp, Next)>,
    from: Option<JobId>,
    /// Where an ascending walk ends.
    until: Option<Stamp>,
    descending: bool,
    last: Option<Stamp>,
}

/// A stamp with reversed order, so that the next job is the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum OrderedStamp {
    Ascending(Reverse<Stamp>),
    Descending(Stamp),
}

/// What comes next, by its index. At the same stamp regions come before runs: the job may be in them. If a job is both in a
/// run of the store and in flight, the store wins; the run of those in flight is the first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Run(usize),
    Region(usize),
}

impl OrderedStamp {
    const fn new(stamp: Stamp, descending: bool) -> Self {
        if descending { Self::Descending(stamp) } else { Self::Ascending(Reverse(stamp)) }
    }
}

impl<'a> Walk<'a> {
    /// `bounds`: after which job it begins, and the first stamp of those that are not asked for.
    pub(super) fn new(
        look: &'a Look,
        regions: Vec<Region>,
        held: Option<Held>,
        bounds: (Option<JobId>, Option<JobId>),
        descending: bool,
    ) -> Result<Self, ReadError> {
        let (from, until) = (bounds.0, bounds.1.map(Stamp::of));
        let order = regions.iter().enumerate().filter_map(|(index, region)| {
            let start = region.start(from, descending)?;
            Some((OrderedStamp::new(start, descending), Next::Region(index)))
        });
        let order = order.collect::<Vec<_>>().into();
        let mut walk = Self { look, regions, runs: Vec::new(), order, from, until, descending, last: None };
        if let Some(held) = held {
            let entries = held.map(|seen| seen.map(|seen| (Stamp::of(seen.job.id), Head::Held(seen))));
            walk.runs.push((None, Box::new(entries)));
            walk.advance(0)?;
        }
        Ok(walk)
    }

    /// Begins to read a region.
    fn open(&mut self, index: usize) -> Result<(), ReadError> {
        self.look.progress.check()?;
        let Some(region) = self.regions.get(index) else { return Ok(()) };
        let first = self.from.map(Stamp::of);
        let mut starts = Vec::new();
        for run in self.look.runs(region)? {
            let entries = run.walk(&self.look.snapshot, first, self.descending).filter_map(move |entry| {
                let entry = readable(entry.map(Some)).map_err(ReadError::from).transpose()?;
                Some(entry.map(|(stamp, record)| (stamp, Head::Stored(run, record))))
            });
            self.runs.push((None, Box::new(entries)));
            starts.extend(self.advance(self.runs.len() - 1)?);
        }
        let start = if self.descending { starts.into_iter().max() } else { starts.into_iter().min() };
        if let Some(region) = self.regions.get(index)
            && let Some((at, version)) = start.zip(region.version)
            && region.start(None, self.descending) == region.start(self.from, self.descending)
        {
            let (queue, status, descending) = (region.queue, region.status, self.descending);
            self.look.board.learn(&board::Start { queue, status, descending, at, version });
        }
        Ok(())
    }

    /// Reads the next job of a run. Returns its stamp.
    fn advance(&mut self, index: usize) -> Result<Option<Stamp>, ReadError> {
        let Some((head, entries)) = self.runs.get_mut(index) else { return Ok(None) };
        let Some((stamp, next)) = entries.next().transpose()? else { return Ok(None) };
        *head = Some(next);
        self.order.push((OrderedStamp::new(stamp, self.descending), Next::Run(index)));
        Ok(Some(stamp))
    }

    /// A position can lie on either side of the job with its stamp.
    fn is_behind(&self, id: JobId) -> bool {
        self.from.is_none_or(|from| if self.descending { id < from } else { id > from })
    }

    fn pop(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            let Some((stamp, next)) = self.order.pop() else { return Ok(None) };
            let (OrderedStamp::Ascending(Reverse(stamp)) | OrderedStamp::Descending(stamp)) = stamp;
            if !self.descending && self.until.is_some_and(|until| until <= stamp) {
                return Ok(None);
            }
            let index = match next {
                Next::Run(index) => index,
                Next::Region(index) => {
                    self.open(index)?;
                    continue;
                }
            };
            let head = self.runs.get_mut(index).and_then(|(head, _)| head.take());
            self.advance(index)?;
            if self.last.replace(stamp) == Some(stamp) {
                continue;
            }
            match head {
                Some(Head::Held(seen)) => return Ok(Some(Found::Held(seen))),
                Some(Head::Stored(run, bytes)) => match record::decode_job(run.place(stamp), &bytes) {
                    Ok(job) if self.is_behind(job.id) => return Ok(Some(Found::Stored(Arc::new(job)))),
                    Ok(_) => {}
                    Err(error) => tracing::error!(?run, %error, "cannot read a job; it is skipped"),
                },
                None => {}
            }
        }
    }
}

impl Region {
    /// Where a walk meets its first job at the earliest; none if it lies before `from`.
    fn start(&self, from: Option<JobId>, descending: bool) -> Option<Stamp> {
        let (start, end) = (self.extent.start(descending), self.extent.start(!descending));
        let Some(from) = from.map(Stamp::of) else { return Some(start) };
        // The job with this stamp may lie on either side of the position.
        let (start, is_over) =
            if descending { (start.min(from), from < end) } else { (start.max(from), end < from) };
        (!is_over).then_some(start)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pop().transpose()
    }
}

/// The jobs in flight, read from the engine page by page.
pub(super) struct Held {
    engine: Handle,
    runtime: tokio::runtime::Handle,
    /// Asks for the next page.
    next: ListInFlight,
    page: VecDeque<Seen>,
    /// Whether more may follow the page.
    more: bool,
}

impl Held {
    /// How many are requested at a time.
    pub(super) const PAGE: usize = 512;

    /// Starts with the page that was already read, in answer to `list`.
    pub(super) fn new(
        engine: Handle,
        runtime: tokio::runtime::Handle,
        list: ListInFlight,
        page: Vec<Seen>,
    ) -> Self {
        let more = page.len() >= list.limit;
        Self { engine, runtime, next: list, page: page.into(), more }
    }

    fn read(&mut self) -> Result<(), ReadError> {
        let held = self.runtime.block_on(self.engine.ask(self.next.clone()))?;
        self.more = held.len() == Self::PAGE;
        self.page = held.into();
        Ok(())
    }
}

impl Iterator for Held {
    type Item = Result<Seen, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && self.more
            && let Err(error) = self.read()
        {
            self.more = false;
            return Some(Err(error));
        }
        let seen = self.page.pop_front()?;
        self.next.from = Some(seen.job.id);
        Some(Ok(seen))
    }
}
