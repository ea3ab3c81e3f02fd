//! What the engine knows of time, and what follows when somebody sets the clock.
//!
//! There are two clocks ([`Time`]). What lasts for a length counts by the one that never steps (`up`): leases, the time
//! that a stream may be away, timeouts, tokens of budgets. What has a date is by the clock on the wall (`now`): when
//! jobs are ready and forgotten, when cron entries come, everything that is shown. `now` may step back, so whatever
//! must grow (stamps, tokens) sees to that itself.
//!
//! Where the clock is set ahead, what has a date up to then is due. Where it is set back, dates that the engine had
//! made by adding a length to a time that was wrong are made anew, in slices ([`Engine::wants_undated`]), and cron
//! entries look for their next time from now on.

use protocol::job::Status;

use super::Engine;
use super::transition::TOKEN_COUNT_BITS;
use super::transition::Then;
use crate::clock::Time;
use crate::job::Job;
use crate::job::id::Stamp;
use crate::store::record::ClockRecord;
use crate::store::view::{Part, TimerKey};
use std::sync::Arc;

/// The clock is written down about so often, in milliseconds.
const SAVE_EVERY_MS: u64 = 1_000;

/// A clock that goes back by less has not been set: it is being adjusted, in milliseconds.
pub(super) const STEP_MS: u64 = 1_000;

/// How many timers are looked at in one turn after the clock was set back.
pub const UNDATED_SLICE: usize = if cfg!(test) { 4 } else { 64 };

/// What is left to do after the clock was set back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Undated {
    /// Where timers are to be looked at next.
    from: TimerKey,
    /// What the clock on the wall said before.
    before: u64,
}

impl Engine {
    /// Moves the time on.
    pub fn set_time(&mut self, time: Time) {
        let up = self.up.max(time.up);
        let expected = self.now + (up - self.up);
        (self.now, self.up) = (time.wall, up);
        if expected >= self.now + STEP_MS {
            self.set_back_from = self.set_back_from.max(Some(expected));
        }
        if let Some(before) = self.set_back_from.take() {
            // Since a start it may have been set ahead again.
            self.follow_back(before.max(self.now));
        }
        let Time { wall, up } = self.clock_saved_at;
        // Also where it was set ahead: what is handed out now must not be handed out again after a crash.
        if self.up >= up + SAVE_EVERY_MS || self.now >= wall + SAVE_EVERY_MS {
            self.save_clock();
            self.drop_unused_queues();
        }
    }

    /// The clock on the wall said `before` a moment ago.
    fn follow_back(&mut self, before: u64) {
        tracing::warn!(
            ms = before - self.now,
            "the clock was set back; what it had dated too late is dated anew"
        );
        self.crons.follow_back(before, self.now, &mut self.batch);
        let dated = self.leases.iter().filter(|lease| lease.saved.is_some_and(|end| end.is_dated()));
        for id in dated.map(|lease| lease.job.id).collect::<Vec<_>>() {
            self.save_lease(id);
        }
        self.undated = Some(Undated { from: (self.now, Stamp::MIN), before });
        self.save_clock();
    }

    /// Writes down a time before which every id and token so far was given out, and what the clocks say.
    pub(super) fn save_clock(&mut self) {
        self.clock_saved_at = self.time();
        let latest = self.now.max(self.stamps.millis()).max(self.last_token >> TOKEN_COUNT_BITS);
        let back_from = self.undated.map(|undated| undated.before);
        self.batch.put_clock(ClockRecord { latest, wall: self.now, back_from });
    }

    /// The time of this turn.
    pub(super) const fn time(&self) -> Time {
        Time { wall: self.now, up: self.up }
    }

    /// What the clock on the wall says when the other one says `up`, if nobody sets it.
    pub(super) const fn wall_of(&self, up: u64) -> u64 {
        (self.now + up).saturating_sub(self.up)
    }

    /// The reverse of [`Self::wall_of`].
    pub(super) const fn up_of(&self, wall: u64) -> u64 {
        (self.up + wall).saturating_sub(self.now)
    }

    /// Where timers are to be looked at whose dates may come from a clock that was ahead.
    pub fn wants_undated(&self) -> Option<TimerKey> {
        self.undated.map(|undated| undated.from)
    }

    /// Takes in the jobs of timers from [`Engine::wants_undated`] on, and where the next ones are.
    pub fn date_anew(&mut self, part: Part<Job, TimerKey>) {
        for job in part.items {
            let now = self.now;
            let Some(from) = job.dated_from().filter(|from| *from > now) else { continue };
            let (late, status) = (from - now, job.status);
            self.transition(Arc::new(job), status, |job| {
                match status {
                    Status::Scheduled => {
                        job.ready_at = job.ready_at.saturating_sub(late);
                        job.failed_at = Some(now);
                    }
                    Status::Completed => job.completed_at = Some(now),
                    Status::Dead => job.failed_at = job.failed_at.map(|_| now),
                    Status::Ready | Status::InFlight => {}
                }
                job.purge_at = job.purge_at.map(|at| at.saturating_sub(late));
                Then::Stays
            });
        }
        self.undated = self.undated.and_then(|undated| Some(Undated { from: part.next?, ..undated }));
        if self.undated.is_none() {
            self.save_clock();
        }
    }

    /// How long after `time` something is to be done even if no command comes, in milliseconds; none: never.
    pub fn due_in(&self, time: Time) -> Option<u64> {
        let is_busy = !self.bulks.is_empty() || self.undated.is_some() || self.is_set_back(time);
        if is_busy {
            return Some(0);
        }
        let check = self.checks.peek().map(|std::cmp::Reverse((at, _))| *at);
        let by_length =
            [check, self.leases.next_save(), self.leases.next_deadline(), self.budgets.next_wake()];
        let by_length = by_length.into_iter().flatten().map(|at| at.saturating_sub(time.up));
        let cron = self.crons.next().filter(|_| !self.draining);
        let by_date = [self.timers.next(), cron].into_iter().flatten().map(|at| at.saturating_sub(time.wall));
        by_length.chain(by_date).min()
    }

    /// Whether the clock on the wall was set back since the last turn.
    fn is_set_back(&self, time: Time) -> bool {
        self.set_back_from.is_some() || self.wall_of(time.up) >= time.wall + STEP_MS
    }
}
