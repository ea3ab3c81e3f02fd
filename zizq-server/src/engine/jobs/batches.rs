//! Batches: jobs into which later ones are folded while they wait.
//!
//! At most one of the jobs with a batch key is open: a ready job that has never been delivered. Delivering it, deleting
//! it or putting it off closes it for good. Folding two payloads runs outside the engine because jq takes its time. The
//! result comes as a [`Plan`], which counts only if the open batches are still the same.

use std::sync::Arc;

use protocol::enqueue::NewJob;
use protocol::flow::Key;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::payload::Payload;

use crate::engine::command::Reject;
use crate::engine::command::batches::{Fold, OpenBatches, Plan, Planned, Step, Version};
use crate::engine::command::jobs::Enqueued;
use crate::engine::{Engine, Found};
use crate::hash::HashMap;
use crate::job::Job;
use crate::job::tag::Tag;

/// The batches that are open, by their keys.
pub(in crate::engine) type Open = HashMap<Key, Arc<Job>>;

impl Job {
    /// Returns a version that changes whenever something is folded into the job.
    pub const fn version(&self) -> Version {
        Version { id: self.id, token: self.last_lease }
    }
}

impl Engine {
    fn open_batch_id(&self, key: &Key) -> Option<JobId> {
        self.tags.holders(&Tag::Batch(key.clone())).last().map(|holder| holder.id)
    }

    /// Returns the open batches that were not put where they are in this turn.
    pub(in crate::engine) fn batches_in_store<'a>(
        &self,
        keys: impl Iterator<Item = &'a Key>,
    ) -> impl Iterator<Item = JobId> {
        keys.filter_map(|key| self.open_batch_id(key)).filter(|id| self.tags.fresh(*id).is_none())
    }

    fn open_batch(&self, key: &Key, found: &Found) -> Option<Arc<Job>> {
        let id = self.open_batch_id(key)?;
        let fresh = self.tags.fresh(id).cloned();
        fresh.or_else(|| found.get(&id).cloned().map(Arc::new)).filter(|job| job.status == Status::Ready)
    }

    pub(in crate::engine) fn open_batches(
        &self,
        OpenBatches(keys, within): &OpenBatches,
        found: &Found,
    ) -> Result<Vec<Option<Arc<Job>>>, Reject> {
        let is_foreign =
            |job: &Arc<Job>| self.queues.name(job.queue).is_none_or(|queue| !within.covers(queue));
        let open = |key: &Key| match self.open_batch(key, found) {
            Some(job) if !within.is_all() && is_foreign(&job) => Err(Reject::NotAllowed(format!(
                "batch.key: `{}` is the key of a batch in a queue that this caller may not enqueue to",
                protocol::error::excerpt(key.as_str())
            ))),
            job => Ok(job),
        };
        keys.iter().map(open).collect()
    }

    pub(in crate::engine) fn enqueue_folded(
        &mut self,
        fold: Fold,
        found: &Found,
    ) -> Result<Vec<Enqueued>, Reject> {
        let Fold { jobs, plan, waiter, firing } = fold;
        let enqueued = match firing {
            Some(firing) => self.fire_folded(&firing, jobs, plan, found)?,
            None => self.enqueue(jobs, plan, found)?,
        };
        if let Some(waiter) = waiter {
            self.listeners.wait_for_first(&enqueued, waiter);
        }
        Ok(enqueued)
    }

    /// Returns the batches that a plan is about.
    ///
    /// # Errors
    /// [`Reject::Changed`] if they have changed since the plan was made.
    pub(in crate::engine) fn check_plan(
        &self,
        jobs: &[NewJob],
        plan: &Plan,
        found: &Found,
    ) -> Result<Open, Reject> {
        let mut open = Open::default();
        for Planned { key, open: planned, .. } in &plan.batches {
            let batch = self.open_batch(key, found);
            if batch.as_ref().map(|job| job.version()) != *planned {
                return Err(Reject::Changed);
            }
            open.extend(batch.map(|job| (key.clone(), job)));
        }
        // A clock that stepped back may have put the time of a job in the future.
        let opens = plan.steps.iter().zip(jobs).filter(|(step, _)| **step == Step::Opens);
        let early = |(_, job): (&Step, &NewJob)| job.ready_at.is_some_and(|at| at > self.clock.now());
        if opens.into_iter().any(early) { Err(Reject::Changed) } else { Ok(open) }
    }

    /// Gives the batches their new payloads.
    pub(in crate::engine) fn fold(&mut self, planned: Vec<Planned>, open: &mut Open) {
        for Planned { key, payload, .. } in planned {
            if let (Some(payload), Some(job)) = (payload, open.get_mut(&key)) {
                *job = self.replace_payload(job, payload);
            }
        }
    }

    /// Gives a ready job another payload. The job stays where it is.
    fn replace_payload(&mut self, before: &Arc<Job>, payload: Payload) -> Arc<Job> {
        self.unready(before);
        let mut job = before.clone();
        let folded = Arc::make_mut(&mut job);
        folded.payload = payload;
        // A worker that got the job before a loss of power made the server forget it has done less than the job now
        // asks for.
        folded.last_lease = Some(self.clock.next_token());
        self.rewrite(job.clone(), Status::Ready);
        job
    }
}
