//! Those who are told what becomes of jobs: listeners hear of all jobs, a waiter of one.

use std::mem;
use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;

use crate::engine::command::Reject;
use crate::engine::command::jobs::{Enqueued, Seen, Unwait, Wait, Waiter, Waits};
use crate::engine::queues::Queues;
use crate::engine::{Engine, Found};
use crate::hash::HashMap;
use crate::job::Job;
use crate::job::event::{Event, Progress, ProgressReport, StatusChange};

/// The listeners and waiters, and what they will be told once it is committed.
///
/// - Nothing is collected while there are neither listeners nor waiters.
/// - A waiter is told once and then forgotten: when the job has ended, or is gone.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listeners {
    /// Whether there are listeners.
    watched: bool,
    events: Vec<Event>,
    waiters: HashMap<JobId, Vec<Waiter>>,
    /// Waiters whose wait is over, with what they waited for.
    woken: Vec<(Waiter, Option<Seen>)>,
}

impl Listeners {
    /// Announces that a job goes from one status to another. Without listeners and waiters this costs nothing.
    pub(in crate::engine) fn announce(
        &mut self,
        queues: &Queues,
        now: u64,
        job: &Job,
        from: Option<Status>,
        to: Option<Status>,
    ) {
        if self.watched
            && let Some(queue) = queues.name(job.queue)
        {
            let has_failed = from == Some(Status::InFlight)
                && matches!(to, Some(Status::Scheduled | Status::Dead))
                && job.failed_at == Some(now);
            self.events.push(Event::Status(StatusChange {
                id: job.id,
                queue: queue.clone(),
                job_type: job.job_type.clone(),
                from,
                to,
                at: now,
                priority: job.priority,
                attempts: job.attempts,
                error: job.last_error.clone().filter(|_| has_failed),
            }));
        }
        if !self.waiters.is_empty() && to.is_none_or(Status::is_terminal) {
            self.wake(queues, now, job, to);
        }
    }

    /// Announces what a worker says about its job.
    pub(in crate::engine) fn announce_progress(
        &mut self,
        queues: &Queues,
        now: u64,
        job: &Job,
        progress: &Arc<Progress>,
    ) {
        if self.watched
            && let Some(queue) = queues.name(job.queue).cloned()
        {
            let (job_type, progress) = (job.job_type.clone(), progress.clone());
            self.events.push(Event::Progress(ProgressReport {
                id: job.id,
                queue,
                job_type,
                at: now,
                progress,
            }));
        }
    }

    fn wake(&mut self, queues: &Queues, now: u64, job: &Job, to: Option<Status>) {
        let Some(waiters) = self.waiters.remove(&job.id) else { return };
        let ended = to.and_then(|status| {
            let mut job = job.clone();
            job.status = status;
            if status == Status::Completed {
                job.completed_at = job.completed_at.or(Some(now));
            }
            queues.seen(job.into())
        });
        self.woken.extend(waiters.into_iter().map(|waiter| (waiter, ended.clone())));
    }

    /// Whether a caller waits for the end of a job.
    pub(in crate::engine) fn are_waiting_for(&self, id: JobId) -> bool {
        self.waiters.contains_key(&id)
    }

    /// Adds a waiter for the end of the first of these jobs.
    pub(in crate::engine) fn wait_for_first(&mut self, enqueued: &[Enqueued], waiter: Waiter) {
        if let Some(enqueued) = enqueued.first().filter(|enqueued| !enqueued.status.is_terminal()) {
            self.waiters.entry(enqueued.job.id).or_default().push(waiter);
        }
    }

    /// Forgets a caller that no longer waits.
    pub(in crate::engine) fn unwait(&mut self, Unwait { id, key }: &Unwait) {
        if let Some(waiters) = self.waiters.get_mut(id) {
            waiters.retain(|waiter| waiter.key != *key);
            if waiters.is_empty() {
                self.waiters.remove(id);
            }
        }
    }

    /// Wakes the waiters whose wait is over. What they hear has been committed.
    pub(in crate::engine) fn tell_waiters(&mut self) {
        for (waiter, ended) in self.woken.drain(..) {
            (waiter.wake)(ended);
        }
    }

    /// Follows the deletion of all jobs: those who wait for one are told.
    pub(in crate::engine) fn without_jobs(mut self) -> Self {
        let waiters = mem::take(&mut self.waiters).into_values().flatten();
        self.woken.extend(waiters.map(|waiter| (waiter, None)));
        self
    }
}

impl Engine {
    /// Sets whether there are listeners to every change.
    pub const fn set_watched(&mut self, watched: bool) {
        self.listeners.watched = watched;
    }

    /// Returns the events since the last call, if there are listeners.
    pub fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.listeners.events)
    }

    /// Announces that a job goes from one status to another.
    pub(in crate::engine) fn announce(&mut self, job: &Job, from: Option<Status>, to: Option<Status>) {
        self.listeners.announce(&self.queues, self.clock.now(), job, from, to);
    }

    /// Adds a waiter for the end of a job, unless it has ended already.
    pub(in crate::engine) fn wait_for(
        &mut self,
        Wait { id, waiter }: Wait,
        found: &Found,
    ) -> Result<Waits, Reject> {
        if self.leases.get(id).is_none() {
            let job = found.get(&id).filter(|job| !job.is_gone(self.clock.now())).ok_or(Reject::NotFound)?;
            if job.status.is_terminal() {
                return Ok(Waits::Ended);
            }
        }
        self.listeners.waiters.entry(id).or_default().push(waiter);
        Ok(Waits::Yes)
    }
}
