//! Changes that people make to jobs, as the model sees them, and random ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::QueueName;
use protocol::patch::{Patch, RetentionPatch};
use protocol::stream::CancelReason;

use super::act::Act;
use super::model::Model;
use super::profile::{chance, one};
use super::streams::Told;
use super::world::World;
use crate::engine::command::jobs::{Change, Changed, Seen};
use crate::engine::command::{Edited, Reject, Reply};
use crate::job::Job;
use crate::job::filter::Filter;
use crate::run::turn::Answer;

impl Model {
    pub(super) fn change(
        &mut self,
        ids: &[JobId],
        only: Option<&Filter>,
        change: &Change,
        answer: &Answer,
    ) -> Result<()> {
        if let Change::Bind(change) = change {
            return self.bind(ids, change, answer);
        }
        let Ok(Reply::ChangeJobs(outcomes)) = answer else { bail!("answered {answer:?}") };
        ensure!(outcomes.len() == ids.len(), "{} outcomes for {} jobs", outcomes.len(), ids.len());
        for (id, outcome) in ids.iter().zip(outcomes) {
            self.change_one(*id, only, change, outcome).with_context(|| format!("{id:?} {outcome:?}"))?;
        }
        Ok(())
    }

    fn change_one(
        &mut self,
        id: JobId,
        only: Option<&Filter>,
        change: &Change,
        outcome: &Changed,
    ) -> Result<()> {
        let Some(entry) = self.jobs.get(&id).filter(|entry| !entry.job.is_gone(self.now)) else {
            ensure!(matches!(outcome, Changed::Missing), "it is gone");
            return Ok(());
        };
        let held = self.leases.get(&id).map(|lease| lease.job.clone());
        let status = if held.is_some() { Status::InFlight } else { entry.job.status };
        let job = held.unwrap_or_else(|| entry.job.clone());
        if only.is_some_and(|filter| !filter.accepts(&job, &entry.queue, status)) {
            ensure!(matches!(outcome, Changed::Passed), "it is not asked for");
            return Ok(());
        }
        let refused = match change {
            Change::Patch(_) => matches!(status, Status::Completed | Status::Dead),
            Change::Retry { .. } => matches!(status, Status::Ready | Status::InFlight),
            Change::Delete | Change::Bind(_) => false,
        };
        let Changed::Done { before, now } = outcome else {
            ensure!(refused && matches!(outcome, Changed::Refused(s) if *s == status), "it is {status:?}");
            return Ok(());
        };
        ensure!(!refused, "it is {status:?}");
        ensure!(before.queue == entry.queue, "it was in {}", entry.queue);
        let mut was = job.clone();
        // A job in flight may have left its payload to the store.
        (was.payload, was.left_bytes) = (before.job.payload.clone(), before.job.left_bytes);
        same(before, &was, status).context("before")?;
        let seen = || now.as_ref().context("it is still there");
        match change {
            Change::Patch(patch) => self.patch(job, status, patch, seen()?),
            Change::Retry { reset_attempts } => self.retry(job, *reset_attempts, seen()?),
            Change::Bind(_) => Ok(()),
            Change::Delete => {
                ensure!(now.is_none(), "it is gone");
                if let Some(lease) = self.leases.remove(&id) {
                    self.tell(lease.stream, Told::cancel(id, CancelReason::Deleted));
                }
                self.jobs.remove(&id);
                Ok(())
            }
        }
    }

    fn patch(&mut self, mut job: Job, status: Status, patch: &Patch, seen: &Seen) -> Result<()> {
        let id = job.id;
        if *patch == Patch::default() {
            return same(seen, &job, status);
        }
        let entry = self.jobs.get_mut(&id).context("it is there")?;
        entry.queue = patch.queue.clone().unwrap_or_else(|| entry.queue.clone());
        let queue = entry.queue.clone();
        ensure!(seen.queue == queue, "it should be in {queue}");
        job.queue = seen.job.queue;
        job.priority = patch.priority.unwrap_or(job.priority);
        job.retry_limit = patch.retry_limit.unwrap_or(job.retry_limit);
        job.backoff = patch.backoff.unwrap_or(job.backoff);
        job.retention = patch.retention.apply(job.retention);
        if let Some(at) = patch.ready_at {
            let waits = at.is_some_and(|at| at > self.now);
            job.ready_at = match at {
                None if status == Status::Ready => job.ready_at,
                None => job.ready_at.min(self.now),
                Some(at) => at,
            };
            if at.is_some() || status != Status::Ready {
                job.failed_at = job.failed_at.map(|at| at.min(self.now));
            }
            if status != Status::InFlight {
                job.status = if waits { Status::Scheduled } else { Status::Ready };
            }
        }
        entry.job = job.clone();
        let time = self.time();
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.job = job.clone();
            lease.saved = self.streams.get(&lease.stream).map(|stream| stream.save(lease, time));
        }
        same(seen, &job, if status == Status::InFlight { status } else { job.status })?;
        self.learn_number(&queue, job.queue)
    }

    fn retry(&mut self, mut job: Job, reset_attempts: bool, seen: &Seen) -> Result<()> {
        let entry = self.jobs.get_mut(&job.id).context("it is there")?;
        if reset_attempts {
            (job.attempts, job.last_error) = (0, None);
            entry.errors.clear();
        }
        (job.status, job.ready_at, job.deliveries) = (Status::Ready, self.now, 0);
        (job.completed_at, job.purge_at, job.result) = (None, None, None);
        self.correct_bindings(&mut job);
        let entry = self.jobs.get_mut(&job.id).context("it is there")?;
        // A worker that had it before can no longer report on it.
        entry.over = true;
        entry.job = job.clone();
        same(seen, &job, Status::Ready)
    }
}

impl Model {
    pub(super) fn pause(&mut self, queue: &QueueName, paused: bool, answer: &Answer) -> Result<()> {
        let Ok(Reply::PauseQueue(Edited { now: state, before })) = answer else {
            bail!("answered {answer:?}")
        };
        let was_paused = before.as_ref().context("every queue can be seen")?.paused;
        ensure!(was_paused == self.paused.contains(queue), "it was not {before:?}");
        ensure!((&state.name, state.paused) == (queue, paused), "it is {state:?}");
        if paused {
            self.paused.insert(queue.clone());
        } else {
            self.paused.remove(queue);
        }
        let in_queue = || self.jobs.values().filter(|entry| entry.queue == *queue);
        let held = in_queue().filter(|entry| self.leases.contains_key(&entry.job.id)).count() as u64;
        ensure!(state.counts.in_flight == held, "{held} are in flight, not {state:?}");
        ensure!(state.counts.stored.total() == in_queue().count() as u64, "{state:?}");
        Ok(())
    }

    pub(super) fn forget_queue(&mut self, queue: &QueueName, answer: &Answer) -> Result<()> {
        let has_jobs = self.jobs.values().any(|entry| entry.queue == *queue);
        let fits = match answer {
            Err(Reject::InUse(_)) => has_jobs,
            Ok(_) => !has_jobs && self.paused.remove(queue),
            Err(Reject::Missing(_)) => !has_jobs && !self.paused.contains(queue),
            Err(_) => false,
        };
        ensure!(fits, "jobs: {has_jobs}, paused: {:?}, answered {answer:?}", self.paused);
        Ok(())
    }
}

fn same(seen: &Seen, job: &Job, status: Status) -> Result<()> {
    let mut expected = job.clone();
    (expected.last_lease, expected.lapsed) = (seen.job.last_lease, seen.job.lapsed);
    expected.draw = seen.job.draw;
    ensure!(*seen.job == expected && seen.status == status, "it should be {status:?} {expected:?}");
    Ok(())
}

impl World {
    pub(super) fn change(&self, rng: &mut Rng) -> Act {
        let number = if chance(rng, 60) { 1 } else { rng.usize(0..8) };
        let ids: BTreeSet<JobId> = (0..number).map(|_| self.any_id(rng)).collect();
        let only = chance(rng, 30).then(|| {
            Arc::new(Filter {
                statuses: Some(Status::ALL.into_iter().filter(|_| rng.bool()).collect()),
                queues: rng.bool().then(|| vec![self.profile.queues[0].clone()]),
                ..Filter::default()
            })
        });
        let change = match rng.u32(..10) {
            0..6 => Change::Patch(Arc::new(self.patch(rng))),
            6..8 => Change::Retry { reset_attempts: rng.bool() },
            _ => Change::Delete,
        };
        Act::Change { ids: ids.into_iter().collect(), only, change }
    }

    fn patch(&self, rng: &mut Rng) -> Patch {
        let now = self.model.now;
        let moves = chance(rng, 60);
        let queues = &self.profile.queues;
        Patch {
            queue: (moves && rng.bool()).then(|| queues[rng.usize(..queues.len())].clone()),
            priority: (moves && rng.bool()).then(|| one(rng, &[0, 5, 7, 40_000])),
            ready_at: match rng.u32(..8) {
                0 => Some(None),
                1 => Some(Some(now - rng.u64(..2_000))),
                2 => Some(Some(now + rng.u64(..4_000))),
                _ => None,
            },
            retry_limit: one(rng, &[None, None, Some(None), Some(Some(1))]),
            backoff: one(rng, &[None, None, Some(None)]),
            retention: one(
                rng,
                &[
                    RetentionPatch::default(),
                    RetentionPatch { completed_ms: Some(None), dead_ms: Some(Some(800)) },
                    RetentionPatch { completed_ms: Some(Some(900)), dead_ms: None },
                ],
            ),
        }
    }
}
