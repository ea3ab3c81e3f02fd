//! How attempts end, as the model sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use protocol::id::JobId;
use protocol::job::{Backoff, LastError, Status};
use protocol::lease::{DEFAULT_LEASE_MS, JobHeartbeat, JobRelease, LeaseToken};
use protocol::outcome::{Failure, LeasedJob, NotDone};
use protocol::payload::Payload;
use protocol::plural::plural;
use protocol::stream::CancelReason;

use super::model::{Lease, Model};
use super::streams::{SLICE, SLICE_BYTES, State, Stream, Told};
use crate::engine::command::jobs::{Failed, Renewed};
use crate::engine::command::streams::StreamKind;
use crate::engine::command::{Reject, Reply};
use crate::job::{Job, MAX_ATTEMPTS};
use crate::run::turn::Answer;
use crate::store::{Snapshot, view};

/// What a caller that reports on a job must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The job is in flight, and held by the caller.
    Held,
    /// The caller's lease is over, but nobody else has had the job since.
    Late(LeaseToken),
    Lost,
    NotFound,
    /// One of the last two: the contract does not say which.
    Refused,
    /// The last turn before a crash may already have taken a report, or the crash that made the server forget the
    /// delivery was not the last one.
    Unknown(LeaseToken),
}

impl Verdict {
    const fn accepts(self) -> bool {
        matches!(self, Self::Held | Self::Late(_))
    }
}

impl Model {
    pub(super) fn verdict(&self, job: LeasedJob) -> Verdict {
        if let Some(lease) = self.leases.get(&job.id) {
            return if job.lease.is_none_or(|token| token == lease.token) {
                Verdict::Held
            } else {
                Verdict::Lost
            };
        }
        let (Some(token), Some(entry)) = (job.lease, self.jobs.get(&job.id)) else {
            return Verdict::NotFound;
        };
        let ready = entry.job.status == Status::Ready;
        if !entry.tokens.contains(&token) {
            Verdict::Refused
        } else if entry.uncertain || entry.known < Some(token) && token < self.remembers_from {
            if ready { Verdict::Unknown(token) } else { Verdict::Refused }
        } else if Some(token) < entry.known {
            Verdict::Lost
        } else if ready && !(entry.known == Some(token) && entry.over) {
            Verdict::Late(token)
        } else {
            Verdict::Refused
        }
    }

    /// Returns what the next of the lists in an answer says of a job. If the contract leaves it open, the answer
    /// counts.
    fn settle_verdict(&self, job: LeasedJob, lists: &mut Lists) -> Result<Verdict> {
        lists.settled += 1;
        let verdict = match self.verdict(job) {
            Verdict::Lost | Verdict::NotFound if lists.accepted.contains(&job.id) => Verdict::Refused,
            Verdict::Unknown(token) if !lists.refuse_all(job.id) => Verdict::Late(token),
            verdict => verdict,
        };
        Self::check_refusal(job.id, verdict, lists)?;
        lists.accepted.extend(verdict.accepts().then_some(job.id));
        Ok(verdict)
    }

    /// Checks that an answer lists a job as its verdict says.
    fn check_refusal(id: JobId, verdict: Verdict, lists: &mut Lists) -> Result<()> {
        let refused = match verdict {
            Verdict::Held | Verdict::Late(_) => false,
            Verdict::Lost => lists.take_lost(id),
            Verdict::NotFound => lists.take_not_found(id),
            Verdict::Refused | Verdict::Unknown(_) => lists.take_not_found(id) || lists.take_lost(id),
        };
        ensure!(verdict.accepts() || refused, "{id:?} is {verdict:?}, but was accepted");
        Ok(())
    }

    /// Takes a job out of flight, or from the ready jobs, for the one outcome of its delivery.
    fn take_back(&mut self, id: JobId, verdict: Verdict) -> Option<Job> {
        let token = match verdict {
            Verdict::Held => self.leases.get(&id)?.token,
            Verdict::Late(token) => token,
            _ => return None,
        };
        let entry = self.jobs.get_mut(&id)?;
        let mut job = match self.leases.remove(&id) {
            Some(lease) => lease.job,
            None => entry.job.clone(),
        };
        if matches!(verdict, Verdict::Late(_)) && entry.known < Some(token) {
            count_forgotten(&mut job, token);
        }
        (entry.known, entry.over, entry.uncertain) = (Some(token), true, false);
        // It was delivered, so it is in no open batch, even if it is put back at once.
        self.batches.retain(|_, (open, _)| *open != id);
        Some(job)
    }

    pub(super) fn succeed(
        &mut self,
        jobs: &[LeasedJob],
        result: Option<&Payload>,
        answer: &Answer,
    ) -> Result<()> {
        let mut lists = Lists::of(answer, jobs.iter().map(|job| job.id))?;
        for job in jobs {
            let verdict = self.settle_verdict(*job, &mut lists)?;
            if let Some(mut done) = self.take_back(job.id, verdict) {
                done.result = result.cloned();
                self.complete(done);
            }
        }
        lists.finish()
    }

    fn complete(&mut self, mut job: Job) {
        let keep = job.retention.and_then(|r| r.completed_ms).unwrap_or(self.settings.completed_ms);
        if keep == 0 {
            self.jobs.remove(&job.id);
            return;
        }
        job.status = Status::Completed;
        job.completed_at = Some(self.now);
        job.purge_at = Some(self.now.saturating_add(keep));
        self.store(job);
    }

    fn store(&mut self, job: Job) {
        if let Some(entry) = self.jobs.get_mut(&job.id) {
            entry.job = job;
        }
    }

    pub(super) fn fail(&mut self, job: LeasedJob, failure: &Failure, answer: &Answer) -> Result<()> {
        let verdict = match (self.verdict(job), answer) {
            (Verdict::Unknown(token), Ok(_)) => Verdict::Late(token),
            (Verdict::Unknown(_), Err(_)) => Verdict::Refused,
            (verdict, _) => verdict,
        };
        let (seen, queue) = match (verdict, answer) {
            (Verdict::Held | Verdict::Late(_), Ok(Reply::Fail(Failed { job, queue }))) => (job, queue),
            (Verdict::Lost | Verdict::Refused, Err(Reject::LeaseLost))
            | (Verdict::NotFound | Verdict::Refused, Err(Reject::NotFound)) => return Ok(()),
            _ => bail!("{job:?} is {verdict:?}, but the answer is {answer:?}"),
        };
        let failed = self.take_back(job.id, verdict).context("it has a job")?;
        let delay = (seen.status == Status::Scheduled).then(|| seen.ready_at.saturating_sub(self.now));
        let retry_at = self.retry_at(&failed, failure, delay)?;
        let ended = self.end_attempt(failed, None, failure.message.clone(), retry_at);
        let entry_queue = self.jobs.get(&job.id).map(|entry| &entry.queue);
        ensure!(entry_queue.is_none_or(|name| name == queue), "it is not of queue {queue}");
        let as_shown = |job: &Job| (job.status, job.attempts, job.ready_at, job.failed_at, job.purge_at);
        ensure!(as_shown(seen) == as_shown(&ended), "it should be {ended:?}, not {seen:?}");
        Ok(())
    }

    /// Returns when a failed job has to be tried again; none: never.
    fn retry_at(&self, job: &Job, failure: &Failure, delay: Option<u64>) -> Result<Option<u64>> {
        let attempts = job.attempts + 1;
        if failure.kill == Some(true) || attempts >= MAX_ATTEMPTS {
            return Ok(None);
        }
        if failure.retry_at.is_some() {
            return Ok(failure.retry_at);
        }
        if attempts > job.retry_limit.unwrap_or(self.settings.retry_limit) {
            return Ok(None);
        }
        if let Some(ms) = failure.delay_ms {
            return Ok(Some(self.now + ms));
        }
        let Backoff { base_ms, exponent, jitter_ms } = job.backoff.unwrap_or(self.settings.backoff);
        let least = f64::from(base_ms) + f64::from(attempts).powf(f64::from(exponent)) * 1000.0;
        let most = least + f64::from(attempts) * f64::from(jitter_ms);
        let delay = delay.context("it should be tried again")?;
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        let fits = (least.floor()..=most).contains(&(delay as f64));
        ensure!(fits, "it waits {delay} ms, not {least} to {most}");
        Ok(Some(self.now + delay))
    }

    fn end_attempt(
        &mut self,
        mut job: Job,
        error_type: Option<&str>,
        message: String,
        retry_at: Option<u64>,
    ) -> Job {
        job.attempts += 1;
        job.failed_at = Some(self.now);
        let error_type = error_type.map(str::to_owned);
        if let Some(entry) = self.jobs.get_mut(&job.id) {
            entry.errors.push(error_type.clone().unwrap_or_else(|| message.clone()));
        }
        job.last_error = Some(Arc::new(LastError { error_type, message, at: self.now }));
        let keep = job.retention.and_then(|r| r.dead_ms).unwrap_or(self.settings.dead_ms);
        match retry_at {
            Some(at) => (job.status, job.ready_at) = (Status::Scheduled, at),
            None => (job.status, job.purge_at) = (Status::Dead, Some(self.now.saturating_add(keep))),
        }
        if job.status == Status::Dead && keep == 0 {
            self.jobs.remove(&job.id);
        } else {
            self.store(job.clone());
        }
        job
    }

    /// Returns when an attempt is overdue.
    pub(super) fn deadline(&self, lease: &Lease) -> Option<u64> {
        let own = lease.job.flow.as_ref().and_then(|flow| flow.timeout_ms);
        Some(lease.began + own.or(self.settings.timeout_ms)?)
    }

    /// Fails the attempts that are overdue. If the jitter of their retries matters, it is read off the store.
    pub(super) fn time_out(&mut self, snapshot: &impl Snapshot) -> Result<()> {
        let over = |lease: &&Lease| self.deadline(lease).is_some_and(|at| at <= self.up);
        let mut over: Vec<&Lease> = self.leases.values().filter(over).collect();
        over.sort_by_key(|lease| (self.deadline(lease), lease.token));
        let mut bytes = 0;
        let fits = |lease: &&&Lease| {
            let room = bytes < SLICE_BYTES;
            bytes += lease.job.weight();
            room
        };
        let over: Vec<JobId> = over.iter().take(SLICE).take_while(fits).map(|lease| lease.job.id).collect();
        for id in over {
            let lease = self.leases.remove(&id).context("it is in flight")?;
            self.tell(lease.stream, Told::cancel(id, CancelReason::TimedOut));
            let entry = self.jobs.get_mut(&id).context("it is a job")?;
            (entry.known, entry.over, entry.uncertain) = (Some(lease.token), true, false);
            let stored = view::find(snapshot, id)?;
            let delay = stored.map(|job| job.ready_at.saturating_sub(self.now));
            let retry_at = self.retry_at(&lease.job, &Failure::default(), delay)?;
            let message = format!("still running after {} ms", self.up - lease.began);
            self.end_attempt(lease.job, Some("timed_out"), message, retry_at);
        }
        Ok(())
    }

    /// Gives back a job whose delivery came to nothing: it is ready again, or dead if that happened too often.
    pub(super) fn give_back(&mut self, id: JobId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        let Some(entry) = self.jobs.get_mut(&id) else { return };
        (entry.known, entry.over, entry.uncertain) = (Some(lease.token), false, false);
        if lease.job.deliveries < self.settings.max_deliveries {
            entry.job = lease.job;
            if entry.job.ready_at > self.now && Some(entry.job.ready_at) > entry.job.dequeued_at {
                entry.job.status = Status::Scheduled;
                entry.job.failed_at = entry.job.failed_at.map(|at| at.min(self.now));
            }
        } else {
            entry.over = true;
            let n = lease.job.deliveries;
            let message = format!("delivered {n} {} without an outcome", plural(n, "time", "times"));
            self.end_attempt(lease.job, Some("lease_expired"), message, None);
        }
    }

    pub(super) fn release(&mut self, jobs: &[JobRelease], answer: &Answer) -> Result<()> {
        let mut lists = Lists::of(answer, jobs.iter().map(|job| job.id))?;
        for JobRelease { id, lease, ready_at, .. } in jobs {
            let verdict = self.settle_verdict(LeasedJob { id: *id, lease: *lease }, &mut lists)?;
            let Some(mut job) = self.take_back(*id, verdict) else { continue };
            job.deliveries -= 1;
            if let Some(at) = ready_at.filter(|at| *at > self.now) {
                (job.status, job.ready_at) = (Status::Scheduled, at);
            } else if job.ready_at > self.now && Some(job.ready_at) > job.dequeued_at {
                job.status = Status::Scheduled;
            }
            if job.status == Status::Scheduled {
                job.failed_at = job.failed_at.map(|at| at.min(self.now));
            }
            self.store(job);
        }
        lists.finish()
    }

    pub(super) fn heartbeat(&mut self, jobs: &[JobHeartbeat], answer: &Answer) -> Result<()> {
        let mut lists = Lists::of(answer, jobs.iter().map(|job| job.id))?;
        let Ok(Reply::Heartbeat(Renewed { jobs: renewed, .. })) = answer else {
            bail!("answered {answer:?}")
        };
        let mut renewed = renewed.iter();
        for JobHeartbeat { id, lease, lease_ms, .. } in jobs {
            let mut verdict = self.verdict(LeasedJob { id: *id, lease: *lease });
            let entry = self.jobs.get(id);
            if matches!(verdict, Verdict::Late(_)) && entry.is_some_and(|entry| !self.can_hold(&entry.job)) {
                verdict = Verdict::NotFound;
            }
            if let Verdict::Unknown(token) = verdict {
                let refused = lists.is_refused(*id);
                verdict = if refused { Verdict::Refused } else { Verdict::Late(token) };
            }
            Self::check_refusal(*id, verdict, &mut lists)?;
            match verdict {
                Verdict::Held => {}
                Verdict::Late(token) => self.restore(*id, token, *lease_ms)?,
                _ => continue,
            }
            let end = self.extend(*id, *lease_ms);
            let shown = renewed.next().map(|renewed| (renewed.id, renewed.lease_expires_at));
            ensure!(shown == Some((*id, end)), "{id:?} is kept until {end:?}, not {shown:?}");
        }
        ensure!(renewed.len() == 0, "something not asked for in {answer:?}");
        lists.finish()
    }

    /// Gives a job back to a worker whose lease had run out.
    pub(super) fn restore(&mut self, id: JobId, token: LeaseToken, lease_ms: Option<u64>) -> Result<()> {
        let lease_ms = lease_ms.unwrap_or(DEFAULT_LEASE_MS);
        let stream = self.add_stream(Stream::new(0, StreamKind::Poll, Some(lease_ms), State::Answered));
        let entry = self.jobs.get_mut(&id).context("its job is there")?;
        let mut job = entry.job.clone();
        if entry.known < Some(token) {
            count_forgotten(&mut job, token);
        }
        let began = self.began(&job);
        let (since, event) = (self.up, 0);
        let lease =
            Lease { job, token, stream, since, kept: None, event, began, restored: None, saved: None };
        self.leases.insert(id, lease);
        Ok(())
    }

    fn extend(&mut self, id: JobId, lease_ms: Option<u64>) -> Option<u64> {
        let lease = self.leases.get_mut(&id)?;
        let stream = self.streams.get(&lease.stream)?;
        let length = lease_ms.or(stream.lease_ms).unwrap_or(DEFAULT_LEASE_MS);
        lease.kept = Some(self.up + length);
        self.hear_of(id);
        self.lease_end(self.leases.get(&id)?).map(|end| self.wall_of(end))
    }
}

/// Counts a delivery that the server had forgotten in a crash, and now knows of.
fn count_forgotten(job: &mut Job, token: LeaseToken) {
    job.deliveries += 1;
    job.dequeued_at = Some(token.to_u64() >> 20);
    job.last_lease = Some(token);
}

/// The two lists of an answer, less what was expected.
struct Lists {
    not_found: Vec<JobId>,
    lost: Vec<JobId>,
    asked: Vec<JobId>,
    settled: usize,
    /// A job that is named again counts once.
    accepted: BTreeSet<JobId>,
}

impl Lists {
    fn of(answer: &Answer, asked: impl Iterator<Item = JobId>) -> Result<Self> {
        let NotDone { not_found, lost } = match answer {
            Ok(Reply::Succeed(not_done) | Reply::SucceedWith(not_done) | Reply::Release(not_done)) => {
                not_done
            }
            Ok(Reply::Heartbeat(renewed)) => &renewed.not_done,
            _ => bail!("answered {answer:?}"),
        };
        let (not_found, lost) = (not_found.clone(), lost.clone());
        Ok(Self { not_found, lost, asked: asked.collect(), settled: 0, accepted: BTreeSet::new() })
    }

    /// Whether a job was refused each time it was named from here on. If it was accepted once, it was refused every
    /// time after that.
    fn refuse_all(&self, id: JobId) -> bool {
        let named = 1 + self.asked.iter().skip(self.settled).filter(|asked| **asked == id).count();
        self.not_found.iter().chain(&self.lost).filter(|refused| **refused == id).count() == named
    }

    fn is_refused(&self, id: JobId) -> bool {
        self.not_found.contains(&id) || self.lost.contains(&id)
    }

    fn take_lost(&mut self, id: JobId) -> bool {
        take(&mut self.lost, id)
    }

    fn take_not_found(&mut self, id: JobId) -> bool {
        take(&mut self.not_found, id)
    }

    fn finish(self) -> Result<()> {
        let Self { not_found, lost, .. } = self;
        ensure!(not_found.len() + lost.len() == 0, "refused for no reason: {not_found:?} {lost:?}");
        Ok(())
    }
}

fn take(list: &mut Vec<JobId>, id: JobId) -> bool {
    let at = list.iter().position(|listed| *listed == id);
    at.map(|at| list.remove(at)).is_some()
}
