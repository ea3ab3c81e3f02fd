//! Merges several runs of jobs in enqueue order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use protocol::id::JobId;
use protocol::name::QueueName;

use super::counted::Counted;
use super::look::{Found, Start};
use super::{ReadError, readable};
use crate::engine::command::jobs::{ListInFlight, Seen};
use crate::job::id::Stamp;
use crate::run::handle::Handle;
use crate::store::record;
use crate::store::view::Run;

type Entries = Box<dyn Iterator<Item = Result<(Stamp, Head), ReadError>> + Send>;

/// The next job of a run.
enum Head {
    Stored(Run, Bytes),
    Held(Seen),
}

/// The jobs of several runs, without duplicates.
pub(super) struct Walk {
    runs: Vec<(Option<Head>, Entries)>,
    /// The runs with jobs left, by their next stamp; the next job is at the top.
    order: BinaryHeap<(OrderedStamp, Reverse<usize>)>,
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

impl Walk {
    /// `bounds`: after which job it begins, and the first stamp of those that are not asked for.
    /// If a job is both in a run of the store and in flight, the store wins.
    pub(super) fn new(
        snapshot: &Counted,
        runs: Vec<Run>,
        held: Option<Held>,
        bounds: (Option<JobId>, Option<JobId>),
        descending: bool,
    ) -> Result<Self, ReadError> {
        let (from, until) = bounds;
        let until = until.map(Stamp::of);
        let first = from.map(Stamp::of);
        let stored = |run: Run| -> (Option<Head>, Entries) {
            let entries = run.walk(snapshot, first, descending).filter_map(move |entry| {
                let entry = readable(entry.map(Some)).map_err(ReadError::from).transpose()?;
                Some(entry.map(|(stamp, record)| (stamp, Head::Stored(run, record))))
            });
            (None, Box::new(entries))
        };
        let mut runs: Vec<(Option<Head>, Entries)> = runs.into_iter().map(stored).collect();
        if let Some(held) = held {
            let entries = held.map(|seen| seen.map(|seen| (Stamp::of(seen.job.id), Head::Held(seen))));
            runs.push((None, Box::new(entries)));
        }
        let mut walk =
            Self { order: BinaryHeap::with_capacity(runs.len()), runs, from, until, descending, last: None };
        for run in 0..walk.runs.len() {
            walk.advance(run)?;
        }
        Ok(walk)
    }

    fn advance(&mut self, index: usize) -> Result<(), ReadError> {
        let Some((head, entries)) = self.runs.get_mut(index) else { return Ok(()) };
        if let Some((stamp, next)) = entries.next().transpose()? {
            *head = Some(next);
            let stamp = if self.descending {
                OrderedStamp::Descending(stamp)
            } else {
                OrderedStamp::Ascending(Reverse(stamp))
            };
            self.order.push((stamp, Reverse(index)));
        }
        Ok(())
    }

    /// A position can lie on either side of the job with its stamp.
    fn is_behind(&self, id: JobId) -> bool {
        self.from.is_none_or(|from| if self.descending { id < from } else { id > from })
    }

    fn pop(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            let Some((stamp, Reverse(index))) = self.order.pop() else { return Ok(None) };
            let (OrderedStamp::Ascending(Reverse(stamp)) | OrderedStamp::Descending(stamp)) = stamp;
            if !self.descending && self.until.is_some_and(|until| until <= stamp) {
                return Ok(None);
            }
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

impl Iterator for Walk {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pop().transpose()
    }
}

/// The jobs in flight, read from the engine page by page.
pub(super) struct Held {
    engine: Handle,
    runtime: tokio::runtime::Handle,
    queues: Option<Vec<QueueName>>,
    page: VecDeque<Seen>,
    last: Option<JobId>,
    descending: bool,
    /// Whether more may follow the page.
    more: bool,
}

impl Held {
    /// How many are requested at a time.
    pub(super) const PAGE: usize = 512;

    /// Starts with the page that was already read.
    pub(super) fn new(
        engine: Handle,
        runtime: tokio::runtime::Handle,
        queues: Option<Vec<QueueName>>,
        start: Start,
    ) -> Self {
        let Start { from, descending, held, .. } = start;
        let more = held.len() >= Self::PAGE;
        Self { engine, runtime, queues, page: held.into(), last: from, descending, more }
    }

    fn read(&mut self) -> Result<(), ReadError> {
        let queues = self.queues.clone();
        let (from, descending) = (self.last, self.descending);
        let list = ListInFlight { queues, from, descending, limit: Self::PAGE };
        let held = self.runtime.block_on(self.engine.ask(list))?;
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
        self.last = Some(seen.job.id);
        Some(Ok(seen))
    }
}
