//! Who wants to know what becomes of jobs: listeners, of all of them, and waiters, of one.

use std::mem;

use protocol::id::JobId;
use protocol::job::Status;

use crate::engine::command::Reject;
use crate::engine::command::jobs::{Enqueued, Seen, Unwait, Wait, Waiter, Waits};
use crate::engine::queues::Queues;
use crate::engine::{Engine, Found};
use crate::hash::HashMap;
use crate::job::Job;
use crate::job::event::Event;

/// Those who are told what becomes of jobs, and what they will be told once it is committed.
///
/// - While nobody listens and nobody waits nothing is gathered.
/// - Whoever waits is told once, and forgotten then: when the job has ended, or is gone.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listeners {
    /// Whether somebody listens to what happens.
    watched: bool,
    events: Vec<Event>,
    waiters: HashMap<JobId, Vec<Waiter>>,
    /// Those whose waiting is over, with what they waited for.
    woken: Vec<(Waiter, Option<Seen>)>,
}

impl Listeners {
    /// A job goes from one status to another. Without anybody who wants to know this costs nothing.
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
            self.events.push(Event {
                id: job.id,
                queue: queue.clone(),
                job_type: job.job_type.clone(),
                from,
                to,
                at: now,
                priority: job.priority,
                attempts: job.attempts,
                error: job.last_error.clone().filter(|_| has_failed),
            });
        }
        if !self.waiters.is_empty() && to.is_none_or(Status::is_terminal) {
            self.wake(queues, now, job, to);
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

    /// Whether somebody waits for the end of a job.
    pub(in crate::engine) fn are_waiting_for(&self, id: JobId) -> bool {
        self.waiters.contains_key(&id)
    }

    /// Lets a caller wait for the end of the first of these jobs.
    pub(in crate::engine) fn wait_for_first(&mut self, enqueued: &[Enqueued], waiter: Waiter) {
        if let Some(enqueued) = enqueued.first().filter(|enqueued| !enqueued.status.is_terminal()) {
            self.waiters.entry(enqueued.job.id).or_default().push(waiter);
        }
    }

    /// Forgets a caller who does not wait any more.
    pub(in crate::engine) fn unwait(&mut self, Unwait { id, key }: &Unwait) {
        if let Some(waiters) = self.waiters.get_mut(id) {
            waiters.retain(|waiter| waiter.key != *key);
            if waiters.is_empty() {
                self.waiters.remove(id);
            }
        }
    }

    /// Tells those who waited. What they hear has been committed.
    pub(in crate::engine) fn tell_waiters(&mut self) {
        for (waiter, ended) in self.woken.drain(..) {
            (waiter.wake)(ended);
        }
    }

    /// All jobs are gone: whoever waited for one hears of it.
    pub(in crate::engine) fn without_jobs(mut self) -> Self {
        let waiters = mem::take(&mut self.waiters).into_values().flatten();
        self.woken.extend(waiters.map(|waiter| (waiter, None)));
        self
    }
}

impl Engine {
    /// Whether somebody wants to hear of every change.
    pub const fn set_watched(&mut self, watched: bool) {
        self.listeners.watched = watched;
    }

    /// What has happened since the last call, as far as somebody wants to hear of it.
    pub fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.listeners.events)
    }

    /// Tells those who want to know that a job goes from one status to another.
    pub(in crate::engine) fn announce(&mut self, job: &Job, from: Option<Status>, to: Option<Status>) {
        self.listeners.announce(&self.queues, self.clock.now(), job, from, to);
    }

    /// Lets a caller wait for the end of a job. One that has ended already is not waited for.
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
