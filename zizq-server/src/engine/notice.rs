//! Who wants to know what becomes of jobs: listeners, of all of them, and waiters, of one.

use protocol::job::Status;

use super::command::Reject;
use super::command::jobs::{Enqueued, Unwait, Wait, Waiter, Waits};
use super::{Engine, Found};
use crate::job::Job;
use crate::job::event::Event;

impl Engine {
    /// Whether somebody wants to hear of every change.
    pub const fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// What has happened since the last call, as far as somebody wants to hear of it.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// A job goes from one status to another. Without anybody who wants to know this costs nothing.
    pub(super) fn announce(&mut self, job: &Job, from: Option<Status>, to: Option<Status>) {
        if self.watched
            && let Some(queue) = self.queues.name(job.queue)
        {
            let has_failed = from == Some(Status::InFlight)
                && matches!(to, Some(Status::Scheduled | Status::Dead))
                && job.failed_at == Some(self.clock.now());
            self.events.push(Event {
                id: job.id,
                queue: queue.clone(),
                job_type: job.job_type.clone(),
                from,
                to,
                at: self.clock.now(),
                priority: job.priority,
                attempts: job.attempts,
                error: job.last_error.clone().filter(|_| has_failed),
            });
        }
        if !self.waiters.is_empty() && to.is_none_or(Status::is_terminal) {
            self.wake(job, to);
        }
    }

    fn wake(&mut self, job: &Job, to: Option<Status>) {
        let Some(waiters) = self.waiters.remove(&job.id) else { return };
        let ended = to.and_then(|status| {
            let mut job = job.clone();
            job.status = status;
            if status == Status::Completed {
                job.completed_at = job.completed_at.or(Some(self.clock.now()));
            }
            self.seen(job.into())
        });
        self.woken.extend(waiters.into_iter().map(|waiter| (waiter, ended.clone())));
    }

    /// Lets a caller wait for the end of a job. One that has ended already is not waited for.
    pub(super) fn wait_for(&mut self, Wait { id, waiter }: Wait, found: &Found) -> Result<Waits, Reject> {
        if self.leases.get(id).is_none() {
            let job = found.get(&id).filter(|job| !job.is_gone(self.clock.now())).ok_or(Reject::NotFound)?;
            if job.status.is_terminal() {
                return Ok(Waits::Ended);
            }
        }
        self.waiters.entry(id).or_default().push(waiter);
        Ok(Waits::Yes)
    }

    /// Lets a caller wait for the end of the first of these jobs.
    pub(super) fn wait_for_first(&mut self, enqueued: &[Enqueued], waiter: Waiter) {
        if let Some(enqueued) = enqueued.first().filter(|enqueued| !enqueued.status.is_terminal()) {
            self.waiters.entry(enqueued.job.id).or_default().push(waiter);
        }
    }

    /// Forgets a caller who does not wait any more.
    pub(super) fn unwait(&mut self, Unwait { id, key }: &Unwait) {
        if let Some(waiters) = self.waiters.get_mut(id) {
            waiters.retain(|waiter| waiter.key != *key);
            if waiters.is_empty() {
                self.waiters.remove(id);
            }
        }
    }

    /// Tells those who waited. What they hear has been committed.
    pub(super) fn tell_waiters(&mut self) {
        for (waiter, ended) in self.woken.drain(..) {
            (waiter.wake)(ended);
        }
    }
}
