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

use std::ops::Range;
use std::sync::Arc;

use protocol::job::Status;
use protocol::lease::LeaseToken;

use super::Engine;
use super::jobs::transition::Then;
use super::streams::lease::SAVE_AFTER_MS;
use crate::clock::Time;
use crate::job::Job;
use crate::job::id::{Stamp, Stamps};
use crate::store::batch::Batch;
use crate::store::record::{ClockRecord, LeaseEnd};
use crate::store::view::{Part, TimerKey};

/// The clock is written down about so often, in milliseconds.
const SAVE_EVERY_MS: u64 = 1_000;

/// The clock is written down about once a second: what was handed out last may be this much later, in milliseconds.
const SLACK_MS: u64 = 2_000;

/// A clock that goes back by less has not been set: it is being adjusted, in milliseconds.
const STEP_MS: u64 = 1_000;

/// A token is a time in milliseconds and a count: room for a million deliveries a millisecond.
const TOKEN_COUNT_BITS: u32 = 20;

/// How many timers are looked at in one turn after the clock was set back.
pub(crate) const UNDATED_SLICE: usize = if cfg!(test) { 4 } else { 64 };

/// What is left to do after the clock was set back.
#[derive(Debug, Clone, Copy)]
struct Undated {
    /// Where timers are to be looked at next.
    from: TimerKey,
    /// What the clock on the wall said before.
    before: u64,
}

/// The time of a turn, and the numbers that are made of it.
///
/// - `up` never steps back, and within a turn neither clock moves.
/// - Stamps and tokens only grow, whatever the clocks do, also across restarts: the store is told so often that all of
///   them lie before what it knows plus [`SLACK_MS`], where the next engine begins.
/// - A token is not earlier than the stamp of its job.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// What the clock on the wall says in this turn, in milliseconds since the Unix epoch.
    now: u64,
    /// What the clock that never steps says, in milliseconds.
    up: u64,
    /// The clock on the wall was set back, and said this before; it has not been seen to yet.
    set_back_from: Option<u64>,
    /// Where timers are to be looked at whose dates may come from a clock that was ahead.
    undated: Option<Undated>,
    stamps: Stamps,
    last_token: u64,
    /// Tokens of deliveries that the store may not have heard of before a crash.
    forgotten: Range<u64>,
    /// When the store was told last.
    saved_at: Time,
}

/// By how much the clock on the wall was set back since this was written down, in milliseconds.
pub(super) const fn set_back_by(record: ClockRecord, now: u64) -> u64 {
    let back = record.wall.saturating_sub(now);
    if back >= STEP_MS { back } else { 0 }
}

impl Clock {
    /// A clock that goes on where that of an earlier engine stopped.
    pub(super) fn stored(record: ClockRecord, Time { wall: now, up }: Time) -> Self {
        // It was set back while nobody was looking, or what follows from that has not come to its end.
        let back_from = (set_back_by(record, now) > 0).then_some(record.wall);
        // Only counters start ahead of the clock: time itself must not stand still until the clock has caught up.
        let start = if record.latest == 0 { now } else { now.max(record.latest + SLACK_MS) };
        // A crash may have made the store forget the deliveries of the last seconds before it.
        let earliest = record.latest.saturating_sub(SAVE_AFTER_MS + SLACK_MS);
        Self {
            now,
            up,
            set_back_from: record.back_from.max(back_from),
            undated: None,
            stamps: Stamps::starting_at(start),
            last_token: start << TOKEN_COUNT_BITS,
            forgotten: (earliest << TOKEN_COUNT_BITS)..(start << TOKEN_COUNT_BITS),
            saved_at: Time { wall: 0, up: 0 },
        }
    }

    /// Writes down that the step that was found at the start is known: the next one must not count it once more.
    pub(super) fn save_step(&self, record: ClockRecord, batch: &mut Batch) {
        batch.put_clock(ClockRecord { wall: self.now, back_from: self.set_back_from, ..record });
    }

    /// What the clock on the wall says in this turn, in milliseconds since the Unix epoch.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// What the clock that never steps says, in milliseconds.
    pub(super) const fn up(&self) -> u64 {
        self.up
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

    /// What is written down has a date.
    pub(super) fn dated(&self, LeaseEnd { kept_until, restored_at }: LeaseEnd) -> LeaseEnd {
        let dated = |up: Option<u64>| up.map(|up| self.wall_of(up));
        LeaseEnd { kept_until: dated(kept_until), restored_at: dated(restored_at) }
    }

    /// Moves the time on. What the clock on the wall said before, if it was set back and that is to be seen to now.
    fn advance(&mut self, time: Time) -> Option<u64> {
        let up = self.up.max(time.up);
        let expected = self.now + (up - self.up);
        (self.now, self.up) = (time.wall, up);
        if expected >= self.now + STEP_MS {
            self.set_back_from = self.set_back_from.max(Some(expected));
        }
        // Since a start it may have been set ahead again.
        self.set_back_from.take().map(|before| before.max(self.now))
    }

    /// Whether the clock on the wall was set back since the last turn.
    fn is_set_back(&self, time: Time) -> bool {
        self.set_back_from.is_some() || self.wall_of(time.up) >= time.wall + STEP_MS
    }

    /// Whether the store is to be told what time it is.
    const fn is_to_be_saved(&self) -> bool {
        let Time { wall, up } = self.saved_at;
        // Also where it was set ahead: what is handed out now must not be handed out again after a crash.
        self.up >= up + SAVE_EVERY_MS || self.now >= wall + SAVE_EVERY_MS
    }

    /// Writes down a time before which every id and token so far was given out, and what the clocks say.
    pub(super) fn save(&mut self, batch: &mut Batch) {
        self.saved_at = self.time();
        let back_from = self.undated.map(|undated| undated.before);
        batch.put_clock(ClockRecord { latest: self.latest(), wall: self.now, back_from });
    }

    /// A time before which every id and token so far was given out.
    pub(super) fn latest(&self) -> u64 {
        self.now.max(self.stamps.millis()).max(self.last_token >> TOKEN_COUNT_BITS)
    }

    /// No timer is left whose date could be wrong.
    pub(super) const fn forget_undated(&mut self) {
        self.undated = None;
    }

    /// The next stamp.
    pub(super) fn next_stamp(&mut self) -> Stamp {
        self.stamps.next(self.now)
    }

    /// The stamp that was handed out last.
    pub(super) const fn last_stamp(&self) -> Stamp {
        self.stamps.last()
    }

    /// A token that no delivery had before, and none will have after.
    pub(super) fn next_token(&mut self) -> LeaseToken {
        // Where the clock was set back it is not earlier than its job.
        let at = self.now.max(self.stamps.millis());
        self.last_token = (at << TOKEN_COUNT_BITS).max(self.last_token + 1);
        LeaseToken::from_u64(self.last_token)
    }

    /// Whether a job can have been handed out with this token shortly before a crash.
    pub(super) fn may_have_forgotten(&self, job: &Job, token: LeaseToken) -> bool {
        self.forgotten.contains(&token.to_u64()) && time_of(token) >= Stamp::of(job.id).millis()
    }
}

/// When a token was handed out, in milliseconds since the Unix epoch.
pub(super) const fn time_of(token: LeaseToken) -> u64 {
    token.to_u64() >> TOKEN_COUNT_BITS
}

impl Engine {
    /// Moves the time on.
    pub fn set_time(&mut self, time: Time) {
        if let Some(before) = self.clock.advance(time) {
            self.follow_back(before);
        }
        if self.clock.is_to_be_saved() {
            self.clock.save(&mut self.batch);
            self.drop_unused_queues();
        }
    }

    /// The clock on the wall said `before` a moment ago.
    fn follow_back(&mut self, before: u64) {
        tracing::warn!(
            ms = before - self.clock.now,
            "the clock was set back; what it had dated too late is dated anew"
        );
        self.crons.follow_back(before, self.clock.now, &mut self.batch);
        let dated = self.leases.iter().filter(|lease| lease.saved.is_some_and(|end| end.is_dated()));
        for id in dated.map(|lease| lease.job.id).collect::<Vec<_>>() {
            self.save_lease(id);
        }
        self.clock.undated = Some(Undated { from: (self.clock.now, Stamp::MIN), before });
        self.clock.save(&mut self.batch);
    }

    /// Where timers are to be looked at whose dates may come from a clock that was ahead.
    pub fn wants_undated(&self) -> Option<TimerKey> {
        self.clock.undated.map(|undated| undated.from)
    }

    /// Takes in the jobs of timers from [`Engine::wants_undated`] on, and where the next ones are.
    pub fn date_anew(&mut self, part: Part<Job, TimerKey>) {
        for job in part.items {
            let now = self.clock.now;
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
        self.clock.undated =
            self.clock.undated.and_then(|undated| Some(Undated { from: part.next?, ..undated }));
        if self.clock.undated.is_none() {
            self.clock.save(&mut self.batch);
        }
    }

    /// How long after `time` something is to be done even if no command comes, in milliseconds; none: never.
    pub fn due_in(&self, time: Time) -> Option<u64> {
        let is_busy = !self.bulks.is_empty() || self.clock.undated.is_some() || self.clock.is_set_back(time);
        if is_busy {
            return Some(0);
        }
        let by_length = [
            self.streams.next_check(),
            self.leases.next_save(),
            self.leases.next_deadline(),
            self.budgets.next_wake(),
        ];
        let by_length = by_length.into_iter().flatten().map(|at| at.saturating_sub(time.up));
        let cron = self.crons.next().filter(|_| !self.draining);
        let by_date = [self.timers.next(), cron].into_iter().flatten().map(|at| at.saturating_sub(time.wall));
        by_length.chain(by_date).min()
    }
}
