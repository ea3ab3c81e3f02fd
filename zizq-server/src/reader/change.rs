//! Changes all jobs that match a filter, or says which these are.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use protocol::id::JobId;
use protocol::job::Status;

use super::contents::{Contents, Shown};
use super::counted::For;
use super::look::Look;
use super::progress::Progress;
use super::{ReadError, Reader};
use crate::caller::Caller;
use crate::engine::command::jobs::{Change, ChangeJobs, Changed, CountJobs, Seen};
use crate::job::filter::Filter;

/// How many jobs the engine changes at a time: few enough not to delay others.
const SLICE: usize = 128;

/// How many of the jobs that would be changed are shown, and how much of their contents.
const SAMPLE: usize = 5;
const PREVIEW: Contents = Contents::Preview(200);

/// A change of all jobs that match a filter.
#[derive(Debug, Clone)]
pub(crate) struct BulkChange {
    pub caller: Caller,
    pub filter: Filter,
    pub change: Change,
    /// The most jobs to change.
    pub limit: Option<u64>,
}

/// The result of a change of many jobs.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// How many were changed.
    pub changed: u64,
    /// The jobs that could not be changed because they are in flight.
    pub in_flight: Vec<JobId>,
    /// Whether more jobs match than the limit allowed to change.
    pub more: bool,
}

/// What a change would be about.
#[derive(Debug)]
pub(crate) struct Matches {
    pub count: u64,
    /// All of them were enqueued before this id.
    pub until: JobId,
    /// The first of them.
    pub sample: Vec<Shown>,
}

impl Reader {
    /// Changes every job that matches the filter now and still matches when it is changed, in enqueue order. Stops within a
    /// slice when the progress is stopped or the future dropped.
    ///
    /// # Errors
    /// [`ReadError`]; some jobs may have been changed by then, and `progress` says how many.
    pub(crate) async fn change(
        &self,
        bulk: BulkChange,
        progress: &Arc<Progress>,
    ) -> Result<Changes, ReadError> {
        let BulkChange { caller, mut filter, change, limit } = bulk;
        change.narrow(&mut filter);
        let turn = self.turn(caller, &filter, &self.changes, true).await?;
        let start = self.start(&filter, None, false).await?;
        let slices = self.slices.clone();
        self.blocking(For::Change, progress, move |look| {
            let mut only = filter.clone();
            // The ids are known by now, and the payload, which jq reads, does not change.
            (only.ids, only.jq) = (None, None);
            let mut slice = Slice {
                look,
                slices: &slices,
                only: Arc::new(only),
                change,
                limit: limit.unwrap_or(u64::MAX),
                ids: Vec::new(),
                changes: Changes::default(),
            };
            // A jq expression may fail to be a condition on the last job, so no job is changed before it has seen all.
            let is_sifted = filter.jq.is_some();
            let mut sifted = Vec::new();
            look.select(&filter, turn, start, usize::MAX, |seen| {
                if is_sifted {
                    look.progress.find(1);
                    sifted.push(seen.job.id);
                    return Ok(true);
                }
                let goes_on = slice.add(seen.job.id)?;
                if goes_on {
                    look.progress.find(1);
                }
                Ok(goes_on)
            })?;
            for id in sifted {
                if !slice.add(id)? {
                    break;
                }
            }
            slice.carry_out()?;
            Ok(slice.changes)
        })
        .await
    }

    /// Finds the jobs that [`Reader::change`] would change: those that were enqueued until now, or before the `until` of
    /// the filter.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn would_change(
        &self,
        bulk: BulkChange,
        progress: &Arc<Progress>,
    ) -> Result<Matches, ReadError> {
        let BulkChange { caller, mut filter, change, .. } = bulk;
        change.narrow(&mut filter);
        // Counts by queue and status are known without a scan.
        let is_counted = filter.is_of_queue_and_status();
        let queues = if is_counted { filter.queues.clone() } else { Some(Vec::new()) };
        let counted = self.engine.ask(CountJobs { queues }).await?;
        let until = *filter.until.get_or_insert(counted.until.boundary());
        let mut matches = Matches { count: 0, until, sample: Vec::new() };
        if is_counted {
            matches.count = counted.counts.of_all(|status| filter.wants_status(status));
            progress.find(matches.count);
        }
        let turn = self.turn(caller, &filter, &self.scans, true).await?;
        let start = self.start(&filter, None, false).await?;
        let about = if is_counted { SAMPLE } else { usize::MAX };
        self.blocking(For::Change, progress, move |look| {
            look.select(&filter, turn, start, about, |seen| {
                if !is_counted {
                    matches.count += 1;
                    look.progress.find(1);
                }
                matches.show(look, seen)?;
                Ok(!is_counted || matches.sample.len() < SAMPLE)
            })?;
            Ok(matches)
        })
        .await
    }
}

impl Matches {
    fn show(&mut self, look: &Look, seen: Seen) -> Result<(), ReadError> {
        if self.sample.len() < SAMPLE
            && let Some(seen) = look.whole(seen)?
        {
            self.sample.push(PREVIEW.of(seen));
        }
        Ok(())
    }
}

impl Change {
    /// Excludes jobs that cannot be changed in their status, unless the filter asks for a status.
    fn narrow(&self, filter: &mut Filter) {
        if filter.statuses.is_none() && !Status::ALL.into_iter().all(|status| self.is_meant_for(status)) {
            filter.statuses =
                Some(Status::ALL.into_iter().filter(|status| self.is_meant_for(*status)).collect());
        }
    }
}

struct Slice<'a> {
    look: &'a Look,
    /// Whoever has the permit may give the engine a slice.
    slices: &'a tokio::sync::Semaphore,
    only: Arc<Filter>,
    change: Change,
    /// The most jobs to change.
    limit: u64,
    ids: Vec<JobId>,
    changes: Changes,
}

impl Slice<'_> {
    /// Takes one more job, unless enough have been changed.
    fn add(&mut self, id: JobId) -> Result<bool, ReadError> {
        if self.room() == 0 {
            self.changes.more = true;
            return Ok(false);
        }
        self.ids.push(id);
        if self.ids.len() >= self.room() {
            self.carry_out()?;
        }
        Ok(true)
    }

    /// The size of the next slice: were it larger, more jobs than asked for could be changed.
    fn room(&self) -> usize {
        usize::try_from(self.limit - self.changes.changed).unwrap_or(SLICE).min(SLICE)
    }

    fn carry_out(&mut self) -> Result<(), ReadError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let ids = std::mem::take(&mut self.ids);
        let asked = ids.clone();
        let (only, change) = (Some(self.only.clone()), self.change.clone());
        let _permit = self.look.runtime.block_on(self.slices.acquire());
        self.look.progress.check()?;
        let asked_at = Instant::now();
        let outcomes = self.look.ask(ChangeJobs { ids, only, change })?;
        if asked.len() == SLICE {
            // More slices follow. All such changes together use half of the engine; the other half is for calls that
            // must not wait.
            thread::sleep(asked_at.elapsed());
        }
        let before = self.changes.changed;
        for (id, outcome) in asked.into_iter().zip(outcomes) {
            match outcome {
                Changed::Done { .. } => self.changes.changed += 1,
                Changed::Refused(Status::InFlight) => self.changes.in_flight.push(id),
                _ => {}
            }
        }
        self.look.progress.change(self.changes.changed - before);
        Ok(())
    }
}
