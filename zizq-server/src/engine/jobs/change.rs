//! Changes that people make to jobs: move, retry, delete.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;
use protocol::patch::Patch;
use protocol::stream::CancelReason;

use super::transition::Then;
use crate::engine::budgets;
use crate::engine::command::Reject;
use crate::engine::command::jobs::{
    Change, ChangeJobs, Changed, CountJobs, Counted, FindInFlight, ListInFlight, Seen,
};
use crate::engine::outbox::Item;
use crate::engine::streams::lease::Lease;
use crate::engine::{Engine, Found};
use crate::hash::HashSet;
use crate::job::Job;
use crate::job::filter::Filter;
use crate::job::id::{QueueId, Stamp};

impl Engine {
    pub(in crate::engine) fn change(
        &mut self,
        ChangeJobs { ids, only, change }: &ChangeJobs,
        found: &mut Found,
    ) -> Result<Vec<Changed>, Reject> {
        if let Change::Bind(change) = change {
            // Whether the job exists matters before what is asked for it.
            if let [id] = &ids[..]
                && self.leases.get(*id).is_none()
                && found.get(id).is_none_or(|job| job.is_gone(self.clock.now()))
            {
                return Ok(vec![Changed::Missing]);
            }
            if ids.is_empty() {
                self.check_budget_of(change)?;
            }
            self.prepare_change(change)?;
        }
        let only = only.as_deref();
        Ok(ids.iter().map(|id| self.change_one(*id, only, change, found)).collect())
    }

    pub(in crate::engine) fn count(&self, CountJobs { queues }: &CountJobs) -> Counted {
        Counted { counts: self.queues.counts(queues.as_deref()), until: self.clock.last_stamp().next() }
    }

    fn change_one(
        &mut self,
        id: JobId,
        only: Option<&Filter>,
        change: &Change,
        found: &mut Found,
    ) -> Changed {
        let seen = match self.leases.get(id) {
            Some(lease) => self.queues.seen_held(lease),
            None => found
                .remove(&id)
                .filter(|job| !job.is_gone(self.clock.now()))
                .and_then(|job| self.queues.seen(job.into())),
        };
        let Some(seen) = seen else { return Changed::Missing };
        if only.is_some_and(|filter| !filter.accepts(&seen.job, &seen.queue, seen.status)) {
            return Changed::Passed;
        }
        if !change.applies_to(seen.status) {
            return Changed::Refused(seen.status);
        }
        let now = match change {
            Change::Bind(change) if seen.status == Status::InFlight => {
                let differs = matches!(budgets::commands::bound(&seen.job, change), Ok(Some(_)));
                return if differs { Changed::Refused(seen.status) } else { Changed::Same(seen) };
            }
            Change::Bind(change) => match self.bind(&seen.job, change) {
                Ok(Some(job)) => self.queues.seen(job),
                Ok(None) => return Changed::Same(seen),
                Err(reject) => return Changed::Unfit(reject),
            },
            Change::Patch(patch) if patch.is_empty() => Some(seen.clone()),
            Change::Patch(patch) if seen.status == Status::InFlight => self.patch_held(id, patch),
            Change::Patch(patch) => self.patch_idle(&seen.job, patch),
            Change::Retry { reset_attempts } => self.retry(&seen.job, *reset_attempts),
            Change::Delete => {
                self.delete(&seen);
                return Changed::Done { before: seen, now: None };
            }
        };
        now.map_or(Changed::Missing, |now| Changed::Done { before: seen, now: Some(now) })
    }

    /// Changes a job in flight. It stays with its worker; the changes count when it comes back.
    fn patch_held(&mut self, id: JobId, patch: &Patch) -> Option<Seen> {
        let queue = patch.queue.as_ref().map(|name| self.queues.id(name));
        let lease = self.leases.get_mut(id)?;
        let (before, was_moved) = (lease.job.place(), lease.job.is_moved());
        apply(Arc::make_mut(&mut lease.job), patch, queue, true, self.clock.now());
        let job = lease.job.clone();
        if job.place() != before {
            self.batch.remove_job(before, None);
            self.queues.move_held(before.queue, job.queue, Stamp::of(job.id));
            self.note_removed(before.queue, before.draw, before.priority);
            self.cursors.keep_before(&job, &mut self.batch);
            self.follow_move(&job, was_moved);
        }
        self.batch.put_job(&job);
        // The record now says that the job was delivered, so a reader must also find to whom.
        self.save_lease(id);
        self.leases.get(id).and_then(|lease| self.queues.seen_held(lease))
    }

    fn patch_idle(&mut self, before: &Arc<Job>, patch: &Patch) -> Option<Seen> {
        let queue = patch.queue.as_ref().map(|name| self.queues.id(name));
        let mut patched = Job::clone(before);
        apply(&mut patched, patch, queue, before.status == Status::Scheduled, self.clock.now());
        match patch.ready_at {
            Some(Some(at)) if at > self.clock.now() => patched.status = Status::Scheduled,
            Some(_) => patched.status = Status::Ready,
            None => {}
        }
        if patched == **before {
            return self.queues.seen(before.clone());
        }
        let job = self.transition(before.clone(), before.status, |job| {
            *job = patched;
            Then::Stays
        });
        self.queues.seen(job)
    }

    fn retry(&mut self, before: &Arc<Job>, reset_attempts: bool) -> Option<Seen> {
        if reset_attempts {
            self.forget_errors(before);
        }
        // Its budgets may have changed or been deleted since it ended.
        let budgets = before.flow.as_ref().and_then(|flow| self.budgets.correct(&flow.budgets));
        let now = self.clock.now();
        let job = self.transition(before.clone(), before.status, |job| {
            if reset_attempts {
                job.attempts = 0;
                job.last_error = None;
            }
            job.status = Status::Ready;
            job.ready_at = now;
            // A job that was delivered too often would otherwise be dead again after the next time.
            job.deliveries = 0;
            job.lapsed = false;
            job.completed_at = None;
            job.result = None;
            job.purge_at = None;
            if let (Some(flow), Some(budgets)) = (&mut job.flow, budgets) {
                flow.budgets = budgets;
                job.flow = job.flow.take().and_then(|flow| flow.boxed());
            }
            Then::Stays
        });
        self.queues.seen(job)
    }

    fn delete(&mut self, seen: &Seen) {
        let id = seen.job.id;
        if let Some(lease) = self.leases.get(id) {
            self.streams.tell(lease.stream, Item::Cancel { id, reason: CancelReason::Deleted });
        }
        self.end_lease(id);
        self.queues.tally(seen.job.queue, |tally| tally.deleted += 1);
        self.remove(&seen.job, seen.status, None);
    }

    /// Returns those of these jobs that are in flight.
    pub(in crate::engine) fn find_in_flight(&self, FindInFlight { ids, worker }: &FindInFlight) -> Vec<Seen> {
        let is_of_worker = |lease: &&Lease| {
            let stream = || self.streams.get(lease.stream);
            worker.as_ref().is_none_or(|name| stream().is_some_and(|stream| stream.is_called(name)))
        };
        let held = ids.iter().filter_map(|id| self.leases.get(*id)).filter(is_of_worker);
        held.filter_map(|lease| self.queues.seen_held(lease)).collect()
    }

    /// Returns the first jobs in flight after an id.
    pub(in crate::engine) fn list_in_flight(
        &self,
        ListInFlight { queues, worker, from, descending, limit }: &ListInFlight,
    ) -> Vec<Seen> {
        let (descending, limit) = (*descending, *limit);
        let queues: Option<HashSet<QueueId>> =
            queues.as_ref().map(|names| self.queues.ids_of(names).into_iter().collect());
        let asked = |job: &Job| {
            let behind = from.is_none_or(|from| if descending { job.id < from } else { job.id > from });
            behind && queues.as_ref().is_none_or(|queues| queues.contains(&job.queue))
        };
        let leases: Box<dyn Iterator<Item = &Lease>> = match worker {
            Some(worker) => Box::new(self.streams.held_by(worker).filter_map(|id| self.leases.get(id))),
            None => Box::new(self.leases.iter()),
        };
        let jobs = leases.map(|lease| &lease.job).filter(|job| asked(job));
        let mut ids: Vec<JobId> = jobs.map(|job| job.id).collect();
        let order = |a: &JobId, b: &JobId| if descending { b.cmp(a) } else { a.cmp(b) };
        if limit < ids.len() {
            ids.select_nth_unstable_by(limit, order);
            ids.truncate(limit);
        }
        ids.sort_unstable_by(order);
        ids.iter().filter_map(|id| self.queues.seen_held(self.leases.get(*id)?)).collect()
    }
}

/// Applies a patch to a job. `may_wait`: whether the job is scheduled, or can be told to wait when it comes back.
fn apply(job: &mut Job, patch: &Patch, queue: Option<QueueId>, may_wait: bool, now: u64) {
    job.queue = queue.unwrap_or(job.queue);
    job.priority = patch.priority.unwrap_or(job.priority);
    match patch.ready_at {
        Some(Some(at)) => job.wait_until(at, now),
        // The job no longer has to wait; one that is not waiting stays as it is.
        Some(None) if may_wait => job.wait_until(job.ready_at.min(now), now),
        Some(None) | None => {}
    }
    job.retry_limit = patch.retry_limit.unwrap_or(job.retry_limit);
    job.backoff = patch.backoff.unwrap_or(job.backoff);
    job.retention = patch.retention.apply(job.retention);
}
