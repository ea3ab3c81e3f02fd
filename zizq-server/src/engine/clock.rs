//! What the engine knows of time, and what follows when the clock is set.
//!
//! There are two clocks ([`Time`]). Lengths are measured by the one that never steps (`up`): leases, the time that a
//! stream may be away, timeouts, the tokens of budgets. Dates are read from the wall clock (`now`): when jobs are ready
//! and when they are forgotten, when cron entries fire, everything that is shown. `now` may step back, so whatever must
//! grow (stamps, tokens) ensures that itself.
//!
//! If the clock is set ahead, everything dated up to then is due. If it is set back, dates that the engine calculated
//! by adding a length to a wrong time are calculated again, in slices ([`Engine::wants_undated`]), and cron entries
//! look for their next time from now on.

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

/// The clock is written down about this often, in milliseconds.
const SAVE_EVERY_MS: u64 = 1_000;

/// How much later than the last record the last stamp or token may be, in milliseconds: the clock is written down about
/// once a second.
const SLACK_MS: u64 = 2_000;

/// A clock that goes back by less than this was adjusted rather than set, in milliseconds.
const STEP_MS: u64 = 1_000;

/// A token is a time in milliseconds and a count: these bits allow a million deliveries a millisecond.
const TOKEN_COUNT_BITS: u32 = 20;

/// The number of timers checked in one turn after the clock was set back.
pub(crate) const UNDATED_SLICE: usize = if cfg!(test) { 4 } else { 64 };

/// The work left after the clock was set back.
#[derive(Debug, Clone, Copy)]
struct Undated {
    /// The next timer to check.
    from: TimerKey,
    /// What the wall clock said before.
    before: u64,
    /// The latest that it has said since. Dates up to this one may have been made since, and are left alone: while
    /// timers are checked, the clock may go back a little.
    latest: u64,
}

/// The time of a turn, and the numbers that are made from it.
///
/// - `up` never steps back, and neither clock moves within a turn.
/// - Stamps and tokens only grow, whatever the clocks do, also across restarts: the store is updated often enough that
///   all of them lie before what it knows plus [`SLACK_MS`], where the next engine begins.
/// - A token is not earlier than the stamp of its job.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// What the wall clock says in this turn, in milliseconds since the Unix epoch.
    now: u64,
    /// What the clock that never steps says, in milliseconds.
    up: u64,
    /// What the wall clock said before it was set back, until the engine has reacted to that.
    set_back_from: Option<u64>,
    /// The next timer whose date may come from a clock that was ahead.
    undated: Option<Undated>,
    stamps: Stamps,
    last_token: u64,
    /// The tokens of deliveries that the store may have lost in a crash.
    forgotten: Range<u64>,
    /// When the store was last updated.
    saved_at: Time,
}

/// Returns by how much the wall clock was set back since this was written down, in milliseconds.
pub(super) const fn set_back_by(record: ClockRecord, now: u64) -> u64 {
    let back = record.wall.saturating_sub(now);
    if back >= STEP_MS { back } else { 0 }
}

impl Clock {
    /// Makes a clock that goes on where that of an earlier engine stopped.
    pub(super) fn stored(record: ClockRecord, Time { wall: now, up }: Time) -> Self {
        // The clock was set back while no engine ran, or an earlier engine had not finished reacting.
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

    /// Records that the step found at the start is known, so that the next start does not count it again.
    pub(super) fn save_step(&self, record: ClockRecord, batch: &mut Batch) {
        batch.put_clock(ClockRecord { wall: self.now, back_from: self.set_back_from, ..record });
    }

    /// What the wall clock says in this turn, in milliseconds since the Unix epoch.
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

    /// Returns what the wall clock says when the other one says `up`, unless it is set meanwhile.
    pub(super) const fn wall_of(&self, up: u64) -> u64 {
        (self.now + up).saturating_sub(self.up)
    }

    /// The reverse of [`Self::wall_of`].
    pub(super) const fn up_of(&self, wall: u64) -> u64 {
        (self.up + wall).saturating_sub(self.now)
    }

    /// Converts the end of a lease to dates, as it is written down.
    pub(super) fn dated(&self, LeaseEnd { kept_until, restored_at }: LeaseEnd) -> LeaseEnd {
        let dated = |up: Option<u64>| up.map(|up| self.wall_of(up));
        LeaseEnd { kept_until: dated(kept_until), restored_at: dated(restored_at) }
    }

    /// Moves time on. Returns what the wall clock said before, if it was set back and the engine has to react now.
    fn advance(&mut self, time: Time) -> Option<u64> {
        let up = self.up.max(time.up);
        let expected = self.now + (up - self.up);
        (self.now, self.up) = (time.wall, up);
        if let Some(undated) = &mut self.undated {
            undated.latest = undated.latest.max(self.now);
        }
        if expected >= self.now + STEP_MS {
            self.set_back_from = self.set_back_from.max(Some(expected));
        }
        // It may have been set ahead again since the start.
        self.set_back_from.take().map(|before| before.max(self.now))
    }

    /// Whether the wall clock was set back since the last turn.
    fn is_set_back(&self, time: Time) -> bool {
        self.set_back_from.is_some() || self.wall_of(time.up) >= time.wall + STEP_MS
    }

    /// Whether the time is due to be written to the store.
    const fn is_to_be_saved(&self) -> bool {
        let Time { wall, up } = self.saved_at;
        // Also if it was set ahead: an id or token given out now must not be given out again after a crash.
        self.up >= up + SAVE_EVERY_MS || self.now >= wall + SAVE_EVERY_MS
    }

    /// Writes down a time that is later than every id and token so far, and what the clocks say.
    pub(super) fn save(&mut self, batch: &mut Batch) {
        self.saved_at = self.time();
        let back_from = self.undated.map(|undated| undated.before);
        batch.put_clock(ClockRecord { latest: self.latest(), wall: self.now, back_from });
    }

    /// Returns a time that is later than every id and token so far.
    pub(super) fn latest(&self) -> u64 {
        self.now.max(self.stamps.millis()).max(self.last_token >> TOKEN_COUNT_BITS)
    }

    /// Ends the check of timers: none is left whose date could be wrong.
    pub(super) const fn forget_undated(&mut self) {
        self.undated = None;
    }

    /// Returns the next stamp.
    pub(super) fn next_stamp(&mut self) -> Stamp {
        self.stamps.next(self.now)
    }

    /// Returns the stamp that was given out last.
    pub(super) const fn last_stamp(&self) -> Stamp {
        self.stamps.last()
    }

    /// Returns a token that no delivery had before, and none will have later.
    pub(super) fn next_token(&mut self) -> LeaseToken {
        // After the clock was set back, the token must still not be earlier than its job.
        let at = self.now.max(self.stamps.millis());
        self.last_token = (at << TOKEN_COUNT_BITS).max(self.last_token + 1);
        LeaseToken::from_u64(self.last_token)
    }

    /// Whether a job can have been delivered with this token shortly before a crash.
    pub(super) fn may_have_forgotten(&self, job: &Job, token: LeaseToken) -> bool {
        self.forgotten.contains(&token.to_u64()) && time_of(token) >= Stamp::of(job.id).millis()
    }
}

/// Returns when a token was given out, in milliseconds since the Unix epoch.
pub(super) const fn time_of(token: LeaseToken) -> u64 {
    token.to_u64() >> TOKEN_COUNT_BITS
}

impl Engine {
    /// Moves time on.
    pub fn set_time(&mut self, time: Time) {
        if let Some(before) = self.clock.advance(time) {
            self.follow_back(before);
        }
        if self.clock.is_to_be_saved() {
            self.clock.save(&mut self.batch);
            self.drop_unused_queues();
        }
    }

    /// Reacts to a wall clock that said `before` a moment ago.
    fn follow_back(&mut self, before: u64) {
        tracing::warn!(
            ms = before - self.clock.now,
            "the clock was set back; dates that it made too late are corrected"
        );
        self.crons.follow_back(before, self.clock.now, &mut self.batch);
        let dated = self.leases.iter().filter(|lease| lease.saved.is_some_and(|end| end.is_dated()));
        for id in dated.map(|lease| lease.job.id).collect::<Vec<_>>() {
            self.save_lease(id);
        }
        let latest = self.clock.now;
        self.clock.undated = Some(Undated { from: (latest, Stamp::MIN), before, latest });
        self.clock.save(&mut self.batch);
    }

    /// Returns where to continue checking timers whose dates may come from a clock that was ahead.
    pub fn wants_undated(&self) -> Option<TimerKey> {
        self.clock.undated.map(|undated| undated.from)
    }

    /// Corrects the dates of jobs whose timers were read from [`Engine::wants_undated`] on; `part` also says where
    /// the next ones are.
    pub fn date_anew(&mut self, part: Part<Job, TimerKey>) {
        let now = self.clock.now;
        let latest = self.clock.undated.map_or(now, |undated| undated.latest);
        for job in part.items {
            let Some(from) = job.dated_from().filter(|from| *from > latest) else { continue };
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

    /// Returns how long after `time` the engine has something to do even if no command comes, in milliseconds; none:
    /// never.
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
