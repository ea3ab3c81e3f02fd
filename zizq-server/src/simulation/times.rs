//! The two clocks as the model sees them, and what follows when the wall clock is set back.

use anyhow::{Context, Result, ensure};
use protocol::job::Status;

use super::model::Model;
use crate::clock::Time;
use crate::job::Job;
use crate::store::{Snapshot, view};

/// A clock that goes back by less than this was not set, in milliseconds.
pub(super) const STEP_MS: u64 = 1_000;

impl Model {
    pub(super) const fn time(&self) -> Time {
        Time { wall: self.now, up: self.up }
    }

    pub(super) const fn wall_of(&self, up: u64) -> u64 {
        (self.now + up).saturating_sub(self.up)
    }

    pub(super) const fn up_of(&self, wall: u64) -> u64 {
        (self.up + wall).saturating_sub(self.now)
    }

    /// Returns when the attempt of a job in flight began.
    pub(super) fn began(&self, job: &Job) -> u64 {
        self.up - self.now.saturating_sub(job.dequeued_at.unwrap_or(self.now))
    }

    /// Begins a turn.
    pub(super) fn set_time(&mut self, time: Time) {
        let expected = self.now + (time.up - self.up);
        (self.now, self.up) = (time.wall, time.up);
        self.latest = self.latest.max(self.now);
        let stepped = (expected >= self.now + STEP_MS).then_some(expected);
        let Some(before) = self.set_back_from.take().max(stepped) else { return };
        self.follow_crons_back(before.max(self.now));
        self.latest = self.now;
        let time = self.time();
        for lease in self.leases.values_mut() {
            let is_dated = |saved: super::model::Saved| saved.end.is_dated();
            if let Some(stream) =
                self.streams.get(&lease.stream).filter(|_| lease.saved.is_some_and(is_dated))
            {
                lease.saved = Some(stream.save(lease, time));
            }
        }
        let idle = self.jobs.values().filter(|entry| !self.leases.contains_key(&entry.job.id));
        let ahead = idle.filter(|entry| entry.job.dated_from().is_some_and(|from| from > self.now));
        let dated = ahead.filter_map(|entry| Some((entry.job.id, entry.job.due()?)));
        // What is due by now comes by itself.
        self.undated = dated.filter(|(_, due)| *due >= self.now).collect();
    }

    /// Corrects the dates of jobs that are from a clock that was ahead. The turn in which that happens is read off the
    /// store.
    pub(super) fn date_anew(&mut self, snapshot: &impl Snapshot) -> Result<()> {
        for (id, due) in std::mem::take(&mut self.undated) {
            // Another command may have changed it meanwhile.
            let Some(entry) = self.jobs.get_mut(&id).filter(|entry| entry.job.due() == Some(due)) else {
                continue;
            };
            if self.leases.contains_key(&id) {
                continue;
            }
            let stored = view::find(snapshot, id)?;
            let Some(stored) = stored.filter(|stored| stored.due().is_some()) else {
                // It is due, or is so by its new date: that of a retry may lie before the failure.
                if due > self.now {
                    let from = entry.job.dated_from().filter(|from| *from > self.latest);
                    let late = from.context("it was not due, and had a right date")? - self.now;
                    let at = due.saturating_sub(late);
                    ensure!(at <= self.now, "{:?} has come too early", entry.job);
                    let job = &mut entry.job;
                    match job.status {
                        Status::Scheduled => (job.ready_at, job.failed_at) = (at, Some(self.now)),
                        _ => job.purge_at = Some(at),
                    }
                }
                continue;
            };
            if stored.due() == Some(due) {
                // When the clock has come to where it was, its date is right.
                if entry.job.dated_from().is_some_and(|from| from > self.latest) {
                    self.undated.insert(id, due);
                }
                continue;
            }
            let from = entry.job.dated_from().context("it has a date")?;
            let late = from.checked_sub(self.now).context("it had a right date")?;
            ensure!(stored.dated_from() == Some(self.now), "{stored:?} is dated anew at {}", self.now);
            ensure!(stored.due() == Some(due.saturating_sub(late)), "{stored:?} was {due} at {from}");
            let Job { ready_at, purge_at, failed_at, completed_at, .. } = stored;
            let job = &mut entry.job;
            (job.ready_at, job.purge_at) = (ready_at, purge_at);
            (job.failed_at, job.completed_at) = (failed_at, completed_at);
        }
        Ok(())
    }
}
