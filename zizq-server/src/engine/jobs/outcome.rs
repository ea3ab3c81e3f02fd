//! How attempts end: success, failure, and death.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::{LastError, MAX_LAST_ERROR_BYTES, Status};
use protocol::number::MAX_TIME_MS;
use protocol::outcome::{Failure, LeasedJob, NotDone};
use protocol::payload::Payload;
use protocol::plural::plural;
use protocol::stream::CancelReason;

use super::backoff;
use super::transition::Then;
use crate::engine::command::Reject;
use crate::engine::command::jobs::{Fail, Failed};
use crate::engine::command::report::Tally;
use crate::engine::outbox::Item;
use crate::engine::streams::lease::Lease;
use crate::engine::streams::renew::SLICE_BYTES;
use crate::engine::{Engine, Found};
use crate::job::{Job, MAX_ATTEMPTS};
use crate::store::record::ErrorRecord;

/// The most overdue attempts that are ended in one turn.
const SLICE: usize = if cfg!(test) { 12 } else { 1_024 };

impl Engine {
    pub(in crate::engine) fn succeed(
        &mut self,
        jobs: &[LeasedJob],
        result: Option<&Payload>,
        found: &mut Found,
    ) -> NotDone {
        let mut not_done = NotDone::default();
        for job in jobs {
            match self.claim(*job, found) {
                Ok(claim) => {
                    if let Some(mut job) = self.take_back(job.id, claim) {
                        if let Some(result) = result {
                            Arc::make_mut(&mut job).result = Some(result.clone());
                        }
                        self.complete(job);
                    }
                }
                Err(Reject::LeaseLost) => not_done.lost.push(job.id),
                Err(_) => not_done.not_found.push(job.id),
            }
        }
        not_done
    }

    fn complete(&mut self, job: Arc<Job>) {
        self.queues.ended(job.queue, self.ran(&job), |tally| tally.completed += 1);
        let (keep, now) = (self.completed_ms(&job), self.clock.now());
        if keep == 0 {
            self.remove(&job, Status::InFlight, Some(Status::Completed));
            return;
        }
        self.transition(job, Status::InFlight, |job| {
            job.status = Status::Completed;
            job.completed_at = Some(now);
            job.purge_at = Some(now.saturating_add(keep).min(MAX_TIME_MS));
            Then::Stays
        });
    }

    /// Returns how long the job is kept after success, in milliseconds.
    pub(in crate::engine) fn completed_ms(&self, job: &Job) -> u64 {
        job.retention.and_then(|r| r.completed_ms).unwrap_or(self.settings.completed_ms)
    }

    pub(in crate::engine) fn fail(
        &mut self,
        Fail { job, failure }: Fail,
        found: &mut Found,
    ) -> Result<Failed, Reject> {
        let claim = self.claim(job, found)?;
        let job = self.take_back(job.id, claim).ok_or(Reject::NotFound)?;
        let queue = self.queues.name(job.queue).cloned().ok_or(Reject::NotFound)?;
        let job = self.end_attempt(job, failure);
        self.queues.ended(job.queue, self.ran(&job), |tally| *tally.failures_of(job.status, false) += 1);
        Ok(Failed { job, queue })
    }

    /// Counts a failure and decides what follows. The job is out of flight, and still stored as ready.
    pub(in crate::engine) fn end_attempt(&mut self, job: Arc<Job>, failure: Failure) -> Arc<Job> {
        let (now, attempts) = (self.clock.now(), job.attempts.saturating_add(1));
        let last_error = Arc::new(in_short(&failure, now));
        let retry_at = self.retry_at(&job, attempts, &failure);
        let keep = job.retention.and_then(|r| r.dead_ms).unwrap_or(self.settings.dead_ms);
        let error = ErrorRecord {
            message: failure.message,
            error_type: failure.error_type,
            backtrace: failure.backtrace,
            dequeued_at: job.dequeued_at.unwrap_or(now),
            failed_at: now,
        };
        self.batch.put_error(job.id, attempts, &error);
        self.transition(job, Status::InFlight, |job| {
            job.attempts = attempts;
            job.failed_at = Some(now);
            job.lapsed = false;
            job.last_error = Some(last_error);
            if let Some(at) = retry_at {
                job.status = Status::Scheduled;
                job.ready_at = at;
                return Then::Stays;
            }
            job.status = Status::Dead;
            job.purge_at = Some(now.saturating_add(keep).min(MAX_TIME_MS));
            if keep == 0 { Then::Goes } else { Then::Stays }
        })
    }

    /// Returns when a job that has failed `attempts` times is tried again; none: it is dead.
    fn retry_at(&mut self, job: &Job, attempts: u32, failure: &Failure) -> Option<u64> {
        let random = self.random();
        if failure.kill == Some(true) || attempts >= MAX_ATTEMPTS {
            return None;
        }
        if failure.retry_at.is_some() {
            return failure.retry_at;
        }
        if attempts > job.retry_limit.unwrap_or(self.settings.retry_limit) {
            return None;
        }
        let backoff = job.backoff.unwrap_or(self.settings.backoff);
        let delay = failure.delay_ms.unwrap_or_else(|| backoff::delay_ms(backoff, attempts, random));
        Some(self.clock.now().saturating_add(delay).min(MAX_TIME_MS))
    }

    /// Returns when an attempt is overdue that began at the job's `dequeued_at`, by the clock that never steps.
    pub(in crate::engine) fn deadline(&self, job: &Job) -> Option<u64> {
        let began = self
            .clock
            .up()
            .saturating_sub(self.clock.now().saturating_sub(job.dequeued_at.unwrap_or(self.clock.now())));
        Some(began.saturating_add(self.timeout_ms(job)?))
    }

    fn timeout_ms(&self, job: &Job) -> Option<u64> {
        job.flow.as_ref().and_then(|flow| flow.timeout_ms).or(self.settings.timeout_ms)
    }

    /// Returns the overdue attempts that end in this turn.
    pub(in crate::engine) fn overdue(&self) -> Vec<JobId> {
        let mut bytes = 0;
        let fits = |lease: &&Lease| {
            let room = bytes < SLICE_BYTES;
            bytes += lease.job.weight();
            room
        };
        self.leases.overdue(self.clock.up()).take(SLICE).take_while(fits).map(|lease| lease.job.id).collect()
    }

    /// Fails the attempts that are overdue.
    pub(in crate::engine) fn time_out(&mut self) {
        for id in self.overdue() {
            // The worker is told first: a stream that waits for its worker to come back may be over with its last
            // lease.
            if let Some(lease) = self.leases.get(id) {
                self.streams.tell(lease.stream, Item::Cancel { id, reason: CancelReason::TimedOut });
            }
            let Some(lease) = self.end_lease(id) else { continue };
            let over = self.clock.up().saturating_sub(lease.deadline.unwrap_or(self.clock.up()));
            let ran = over.saturating_add(self.timeout_ms(&lease.job).unwrap_or_default());
            let failure = Failure {
                message: format!("still running after {ran} ms"),
                error_type: Some("timed_out".to_owned()),
                ..Failure::default()
            };
            let job = self.end_attempt(lease.job, failure);
            self.queues.ended(job.queue, ran, |tally| *tally.failures_of(job.status, true) += 1);
        }
    }

    /// Ends a delivery that came to nothing: the job is ready again, or dead if it was delivered too often. `was_left`:
    /// whether its worker is gone, rather than silent.
    pub(in crate::engine) fn give_back(&mut self, mut job: Arc<Job>, was_left: bool) {
        if job.deliveries < self.settings.max_deliveries {
            let count =
                |tally: &mut Tally| *if was_left { &mut tally.returned } else { &mut tally.expired } += 1;
            self.queues.tally(job.queue, count);
            Arc::make_mut(&mut job).lapsed = true;
            self.requeue(job);
            return;
        }
        let failure = Failure {
            message: format!(
                "delivered {} {} without an outcome",
                job.deliveries,
                plural(job.deliveries, "time", "times")
            ),
            error_type: Some("lease_expired".to_owned()),
            kill: Some(true),
            ..Failure::default()
        };
        let job = self.end_attempt(job, failure);
        self.queues.tally(job.queue, |tally| tally.dead += 1);
    }
}

/// Makes the short form of a failure that the job's record holds.
fn in_short(failure: &Failure, at: u64) -> LastError {
    let start = |text: &str| {
        let end = text.floor_char_boundary(MAX_LAST_ERROR_BYTES);
        text.get(..end).unwrap_or(text).to_owned()
    };
    LastError { error_type: failure.error_type.as_deref().map(start), message: start(&failure.message), at }
}
