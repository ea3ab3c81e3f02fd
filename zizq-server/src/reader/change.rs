//! Changes all jobs that match a filter.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use protocol::id::JobId;
use protocol::job::Status;

use super::look::Look;
use super::{ReadError, Reader};
use crate::caller::Caller;
use crate::engine::command::jobs::{Change, ChangeJobs, Changed};
use crate::job::filter::Filter;

/// How many jobs the engine changes at a time: few enough not to delay others.
const SLICE: usize = 128;

/// The result of a change of many jobs.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// How many were changed.
    pub changed: u64,
    /// The jobs that could not be changed because they are in flight.
    pub in_flight: Vec<JobId>,
}

impl Reader {
    /// Changes every job that matches the filter now and still matches when it is changed.
    ///
    /// # Errors
    /// [`ReadError`]; some jobs may have been changed by then.
    pub(crate) async fn change(
        &self,
        caller: Caller,
        mut filter: Filter,
        change: Change,
    ) -> Result<Changes, ReadError> {
        change.narrow(&mut filter);
        let turn = self.turn(caller, &filter, &self.changes, true).await?;
        let start = self.start(&filter, None, false).await?;
        let slices = self.slices.clone();
        self.blocking(move |look| {
            let mut only = filter.clone();
            // The ids are known by now, and the payload, which jq reads, does not change.
            (only.ids, only.jq) = (None, None);
            let mut slice =
                Slice { look, only: Arc::new(only), change, ids: Vec::new(), changes: Changes::default() };
            // A jq expression may fail to be a condition on the last job, so no job is changed before it has seen all.
            let is_sifted = filter.jq.is_some();
            let mut sifted = Vec::new();
            look.select(&filter, turn, start, usize::MAX, |seen| {
                if is_sifted {
                    sifted.push(seen.job.id);
                } else {
                    slice.add(seen.job.id, &slices)?;
                }
                Ok(true)
            })?;
            sifted.into_iter().try_for_each(|id| slice.add(id, &slices))?;
            slice.carry_out(&slices)?;
            Ok(slice.changes)
        })
        .await
    }

    /// Counts the jobs that [`Reader::change`] would change.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) async fn would_change(
        &self,
        caller: Caller,
        mut filter: Filter,
        change: &Change,
    ) -> Result<u64, ReadError> {
        change.narrow(&mut filter);
        self.count_as(caller, filter, true).await
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
    only: Arc<Filter>,
    change: Change,
    ids: Vec<JobId>,
    changes: Changes,
}

impl Slice<'_> {
    fn add(&mut self, id: JobId, slices: &tokio::sync::Semaphore) -> Result<(), ReadError> {
        self.ids.push(id);
        if self.ids.len() == SLICE { self.carry_out(slices) } else { Ok(()) }
    }

    fn carry_out(&mut self, slices: &tokio::sync::Semaphore) -> Result<(), ReadError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let ids = std::mem::take(&mut self.ids);
        let asked = ids.clone();
        let (only, change) = (Some(self.only.clone()), self.change.clone());
        let _permit = self.look.runtime.block_on(slices.acquire());
        let asked_at = Instant::now();
        let outcomes = self.look.ask(ChangeJobs { ids, only, change })?;
        if asked.len() == SLICE {
            // More slices follow. All such changes together use half of the engine; the other half is for calls that
            // must not wait.
            thread::sleep(asked_at.elapsed());
        }
        for (id, outcome) in asked.into_iter().zip(outcomes) {
            match outcome {
                Changed::Done(_) => self.changes.changed += 1,
                Changed::Refused(Status::InFlight) => self.changes.in_flight.push(id),
                _ => {}
            }
        }
        Ok(())
    }
}
