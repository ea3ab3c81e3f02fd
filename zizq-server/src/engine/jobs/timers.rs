//! Timers: scheduled jobs become ready, ended jobs are forgotten.

use std::sync::Arc;

use protocol::job::Status;

use super::transition::Then;
use crate::engine::Engine;
use crate::engine::queues::window::{Limits, Weigh, Window};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::Stamp;
use crate::job::place::Place;
use crate::store::view::{Part, TimerKey, TimerTarget};

const LIMITS: Limits = Limits { items: if cfg!(test) { 32 } else { 2_048 }, bytes: usize::MAX };
/// The number of timers read from the store at a time.
pub(crate) const TIMERS_REFILL: usize = LIMITS.items / 2;
/// The most timers that go off in one turn, so that a million at once do not hold up anything else.
const SLICE: usize = if cfg!(test) { 16 } else { 64 };

impl Weigh for TimerTarget {
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// A job whose time has come.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    pub at: u64,
    pub place: Place,
}

/// The timers that go off next, in memory; the others are in the store.
#[derive(Debug)]
pub(in crate::engine) struct Timers(Window<TimerKey, TimerTarget>);

impl Timers {
    /// Makes a set of timers with none in the store.
    pub(in crate::engine) const fn empty() -> Self {
        Self(Window::new(LIMITS, None))
    }

    /// Makes a set of timers with all of them in the store.
    pub(in crate::engine) const fn stored() -> Self {
        Self(Window::new(LIMITS, Some((0, Stamp::MIN))))
    }

    pub(in crate::engine) fn insert(&mut self, due: u64, job: &Job) {
        self.0.insert((due, Stamp::of(job.id)), TimerTarget { status: job.status, queue: job.queue });
    }

    pub(in crate::engine) fn remove(&mut self, due: u64, stamp: Stamp) {
        self.0.remove((due, stamp));
    }

    /// Returns when the next one goes off, as far as memory knows.
    pub(in crate::engine) fn next(&self) -> Option<u64> {
        self.0.front().map(|((at, _), _)| *at).or_else(|| self.0.horizon().map(|(at, _)| at))
    }

    fn pop_due(&mut self, now: u64) -> Option<Due> {
        let ((at, stamp), target) = self.0.front().filter(|((at, _), _)| *at <= now).copied()?;
        self.0.pop_front();
        Some(Due { at, place: place_of(stamp, target) })
    }
}

/// Returns the place of a timer's job. A scheduled or ended job is found without its priority.
pub(crate) const fn place_of(stamp: Stamp, TimerTarget { status, queue }: TimerTarget) -> Place {
    Place { status, queue, draw: DrawId::NONE, priority: 0, stamp }
}

impl Engine {
    /// Returns where to read more timers from now.
    pub fn wants_timers(&self) -> Option<TimerKey> {
        self.timers.0.horizon().filter(|_| self.timers.0.is_low())
    }

    /// Takes in timers that were read from [`Engine::wants_timers`] on.
    pub fn provide_timers(&mut self, part: Part<(TimerKey, TimerTarget), TimerKey>) {
        self.timers.0.refill(part.items.into_iter(), part.next);
    }

    /// Returns a slice of the timers that go off now. The caller brings their jobs to [`Engine::ring`].
    pub fn due(&mut self) -> Vec<Due> {
        std::iter::from_fn(|| self.timers.pop_due(self.clock.now())).take(SLICE).collect()
    }

    /// Handles a timer that has gone off for this job; none: the job no longer exists.
    pub fn ring(&mut self, due: Due, job: Option<Job>) {
        let Some(job) = job.filter(|job| job.due() == Some(due.at)) else {
            self.batch.remove_timer(due.at, due.place.stamp);
            return;
        };
        if job.status.is_terminal() {
            self.remove(&job, job.status, None);
            return;
        }
        self.transition(Arc::new(job), Status::Scheduled, |job| {
            job.status = Status::Ready;
            Then::Stays
        });
    }

    /// Ends the leases whose time is over, and writes down those that last.
    pub fn expire(&mut self) {
        self.save_leases(self.clock.up().saturating_sub(crate::engine::streams::lease::SAVE_AFTER_MS));
        self.expire_leases();
    }

    /// Handles the attempts, answers and budgets whose time has come.
    pub fn tick(&mut self) {
        self.time_out();
        self.forget_answers();
        self.budgets.settle(self.clock.up());
    }
}
