//! Calls that look, and calls that wait: which queues and workers there are, which attempt it is, and what became of a
//! job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::QueueName;
use protocol::outcome::LeasedJob;

use super::act::{Act, Listing};
use super::model::enqueued;
use super::model::{Entry, Lease, Model};
use super::outcomes::Verdict;
use super::streams::State;
use super::world::World;
use crate::engine::command::jobs::Waiter;
use crate::engine::command::jobs::Waits;
use crate::engine::command::jobs::{Change, Counted, JobCounts};
use crate::engine::command::queues::QueueState;
use crate::engine::command::streams::stream_name;
use crate::engine::command::{Reject, Reply};
use crate::job::id::Stamp;
use crate::run::turn::Answer;

/// What waiters were told in the present turn: by waiter, how the job ended, or that it is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<BTreeMap<u64, Option<Status>>>>);

impl Told {
    pub(super) fn waiter(&self, key: u64) -> Waiter {
        let told = self.0.clone();
        let wake = move |seen: Option<crate::engine::command::jobs::Seen>| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(told.insert(key, seen.map(|seen| seen.status)).is_none(), "waiter {key} is told twice");
        };
        Waiter { key, wake: Box::new(wake) }
    }

    pub(super) fn take(&self) -> BTreeMap<u64, Option<Status>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The waiters as the model knows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiters {
    /// The jobs that they wait for, by their keys.
    pub waiting: BTreeMap<u64, JobId>,
    /// What must be told at the end of the turn.
    due: BTreeMap<u64, Option<Status>>,
}

impl Waiters {
    /// Takes what must have been told.
    pub(super) fn take_due(&mut self) -> BTreeMap<u64, Option<Status>> {
        std::mem::take(&mut self.due)
    }
}

impl Model {
    /// Ends the waiting for jobs that have ended, after jobs have changed by a command or by time.
    pub(super) fn end_waiting(&mut self, act: Option<&Act>) {
        let gone = match act {
            Some(Act::Succeed(_) | Act::SucceedWith(..)) => Some(Status::Completed),
            Some(Act::Reset | Act::Change { change: Change::Delete, .. }) => None,
            // It was a failure, or one delivery too many, of a job that is not kept.
            _ => Some(Status::Dead),
        };
        let (jobs, due) = (&self.jobs, &mut self.waiters.due);
        self.waiters.waiting.retain(|key, id| {
            let ended = match jobs.get(id) {
                None => gone,
                Some(entry) if entry.job.status.is_terminal() => Some(entry.job.status),
                Some(_) => return true,
            };
            due.insert(*key, ended);
            false
        });
    }

    pub(super) fn wait(&mut self, id: JobId, key: u64, answer: &Answer) -> Result<()> {
        let is_there = |entry: &&Entry| !entry.job.is_gone(self.now);
        let status = self.jobs.get(&id).filter(is_there).map(|entry| entry.job.status);
        match (status, answer) {
            (None, Err(Reject::NotFound)) => {}
            (Some(status), Ok(Reply::Wait(Waits::Ended))) if status.is_terminal() => {}
            (Some(status), Ok(Reply::Wait(Waits::Yes))) if !status.is_terminal() => {
                self.waiters.waiting.insert(key, id);
            }
            _ => bail!("to wait for {id:?}, which is {status:?}, was answered {answer:?}"),
        }
        Ok(())
    }

    pub(super) fn unwait(&mut self, id: JobId, key: u64) {
        if self.waiters.waiting.get(&key) == Some(&id) {
            self.waiters.waiting.remove(&key);
        }
    }

    pub(super) fn enqueue_and_wait(&mut self, job: &NewJob, key: u64, answer: &Answer) -> Result<()> {
        self.enqueue(std::slice::from_ref(job), answer)?;
        if let Some(enqueued) = enqueued(answer) {
            let waits = enqueued.first().filter(|enqueued| !enqueued.status.is_terminal());
            self.waiters.waiting.extend(waits.map(|enqueued| (key, enqueued.job.id)));
        }
        Ok(())
    }

    /// Checks the answer to a command that only looks; it changes nothing.
    pub(super) fn check_look(&self, act: &Act, answer: &Answer) -> Result<()> {
        match act {
            Act::Inspect(ids) => {
                let held = ids.iter().filter_map(|id| self.leases.get(id)).collect::<Vec<_>>();
                Self::same_in_flight(&held, answer)
            }
            Act::List(listing) => Self::same_in_flight(&self.list(listing), answer),
            Act::Count(queues) => self.check_count(queues.as_deref(), answer),
            Act::Attempt(job) => self.check_attempt(*job, answer),
            Act::Queues(names) => self.check_queues(names.as_deref(), answer),
            Act::Workers => self.check_workers(answer),
            // The mirror looks at it.
            Act::Report => Ok(()),
            other => bail!("{other} is more than a look"),
        }
    }

    fn list(&self, listing: &Listing) -> Vec<&Lease> {
        let Listing { queues, worker, from, descending, limit } = listing;
        let name = |lease: &&Lease| self.jobs.get(&lease.job.id).map(|entry| &entry.queue);
        let asked = |lease: &&Lease| {
            let is_of = |worker: &String| self.stream_name_of(lease).as_ref() == Some(worker);
            queues.as_ref().is_none_or(|names| name(lease).is_some_and(|name| names.contains(name)))
                && worker.as_ref().is_none_or(is_of)
        };
        let leases = self.leases.values().filter(asked);
        if *descending {
            let behind = leases.rev().filter(|lease| from.is_none_or(|from| lease.job.id < from));
            behind.take(*limit).collect()
        } else {
            leases.filter(|lease| from.is_none_or(|from| lease.job.id > from)).take(*limit).collect()
        }
    }

    /// The name of the stream that holds a job; none of one that has no id, because its worker was answered.
    fn stream_name_of(&self, lease: &Lease) -> Option<String> {
        self.streams.get(&lease.stream).map(|stream| stream.id).filter(|id| *id != 0).map(stream_name)
    }

    fn same_in_flight(expected: &[&Lease], answer: &Answer) -> Result<()> {
        let Ok(Reply::FindInFlight(jobs) | Reply::ListInFlight(jobs)) = answer else {
            bail!("answered {answer:?}")
        };
        let seen = jobs.iter().map(|seen| (seen.job.id, seen.job.deliveries)).collect::<Vec<_>>();
        let expected = expected.iter().map(|lease| (lease.job.id, lease.job.deliveries)).collect::<Vec<_>>();
        ensure!(seen == expected, "in flight are {expected:?}, not {seen:?}");
        Ok(())
    }

    fn check_count(&self, queues: Option<&[QueueName]>, answer: &Answer) -> Result<()> {
        let Ok(Reply::CountJobs(Counted { counts, until })) = answer else { bail!("answered {answer:?}") };
        let last = self.jobs.keys().map(|id| Stamp::of(*id)).max();
        ensure!(last.is_none_or(|last| last < *until), "{last:?} is not before {until:?}");
        let asked = |entry: &&Entry| queues.is_none_or(|names| names.contains(&entry.queue));
        let mut expected = JobCounts::default();
        for entry in self.jobs.values().filter(asked) {
            *expected.stored.of_mut(entry.job.status) += 1;
            expected.in_flight += u64::from(self.leases.contains_key(&entry.job.id));
        }
        ensure!(*counts == expected, "there are {expected:?}, not {counts:?}");
        Ok(())
    }

    fn check_attempt(&self, job: LeasedJob, answer: &Answer) -> Result<()> {
        let verdict = self.verdict(job);
        let held = self.leases.get(&job.id).map(|lease| lease.job.attempts);
        let attempts = held.or_else(|| Some(self.jobs.get(&job.id)?.job.attempts)).unwrap_or(0);
        let fits = match answer {
            Ok(Reply::GetAttempt(number)) => {
                let may = matches!(verdict, Verdict::Held | Verdict::Late(_) | Verdict::Unknown(_));
                may && *number == attempts + 1
            }
            Err(Reject::LeaseLost) => {
                matches!(verdict, Verdict::Lost | Verdict::Refused | Verdict::Unknown(_))
            }
            Err(Reject::NotFound) => {
                matches!(verdict, Verdict::NotFound | Verdict::Refused | Verdict::Unknown(_))
            }
            _ => false,
        };
        ensure!(fits, "{job:?} is {verdict:?}, after {attempts} attempts, but: {answer:?}");
        Ok(())
    }

    fn check_queues(&self, names: Option<&[QueueName]>, answer: &Answer) -> Result<()> {
        let Ok(Reply::ListQueues(states)) = answer else { bail!("answered {answer:?}") };
        let names: Vec<QueueName> = names.map_or_else(|| self.used_queues(), <[_]>::to_vec);
        let mut expected: Vec<QueueState> = names.iter().map(|name| self.queue_state(name)).collect();
        let mut states = states.clone();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        ensure!(states == expected, "the queues are {expected:?}, not {states:?}");
        Ok(())
    }

    /// The queues that have jobs or are paused.
    pub(super) fn used_queues(&self) -> Vec<QueueName> {
        let with_jobs = self.jobs.values().map(|entry| entry.queue.clone());
        with_jobs.chain(self.paused.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn queue_state(&self, name: &QueueName) -> QueueState {
        let mut counts = JobCounts::default();
        for entry in self.jobs.values().filter(|entry| entry.queue == *name) {
            *counts.stored.of_mut(entry.job.status) += 1;
            counts.in_flight += u64::from(self.leases.contains_key(&entry.job.id));
        }
        let open = self.streams.values().filter(|stream| stream.state == State::Open);
        let takes = open.filter(|stream| stream.queues.as_ref().is_none_or(|names| names.contains(name)));
        QueueState {
            name: name.clone(),
            paused: self.paused.contains(name),
            counts,
            workers: takes.count() as u64,
            // No worker gives a reason here.
            last_release: None,
        }
    }

    fn check_workers(&self, answer: &Answer) -> Result<()> {
        let Ok(Reply::ListWorkers(workers)) = answer else { bail!("answered {answer:?}") };
        let as_set = |names: &Option<Vec<QueueName>>| {
            names.as_ref().map(|names| names.iter().cloned().collect::<BTreeSet<_>>())
        };
        let seen = workers.iter().map(|w| (w.stream, as_set(&w.queues), w.prefetch, w.in_flight));
        let open = self.streams.iter().filter(|(_, stream)| stream.state == State::Open);
        let expected = open.map(|(key, stream)| {
            let held = self.held_by(*key).count();
            (stream.id, as_set(&stream.queues), stream.prefetch, held)
        });
        let (mut seen, mut expected): (Vec<_>, Vec<_>) = (seen.collect(), expected.collect());
        seen.sort();
        expected.sort();
        ensure!(seen == expected, "connected are {expected:?}, not {seen:?}");
        Ok(())
    }
}

impl World {
    /// Checks that waiters have been told what they must be told in this turn, and nothing else.
    pub(super) fn check_woken(&mut self) -> Result<()> {
        let (told, due) = (self.told.take(), self.model.waiters.take_due());
        ensure!(told == due, "waiters were told {told:?}, not {due:?}");
        Ok(())
    }

    /// Makes a command that looks.
    pub(super) fn look(&self, rng: &mut Rng) -> Act {
        let names = self.model.queue_ids.keys().filter(|_| rng.bool()).cloned().collect();
        let names = rng.bool().then_some(names);
        let queues = self.model.queue_ids.keys().filter(|_| rng.bool()).cloned().collect();
        let queues = rng.bool().then_some(queues);
        match rng.u32(..8) {
            0 => Act::Inspect((0..rng.usize(..4)).map(|_| self.any_id(rng)).collect()),
            1 => Act::Count(names),
            2 => Act::Queues(names),
            3 => Act::Workers,
            4 => Act::Attempt(self.target(rng)),
            5 | 6 => Act::Report,
            _ => {
                let (from, descending) = (rng.bool().then(|| self.any_id(rng)), rng.bool());
                let limit = rng.usize(1..5);
                let mut held =
                    self.model.leases.values().filter_map(|lease| self.model.stream_name_of(lease));
                let worker = if limit.is_multiple_of(2) { held.nth(limit) } else { None };
                Act::List(Listing { queues, worker, from, descending, limit })
            }
        }
    }

    /// Makes a command that waits, or stops waiting.
    pub(super) fn wait_act(&mut self, rng: &mut Rng) -> Act {
        self.serial += 1;
        let key = self.serial;
        let waiting = self.model.waiters.waiting.iter().nth(rng.usize(..8)).map(|(key, id)| (*id, *key));
        match rng.u32(..10) {
            0..2 => match waiting {
                Some((id, key)) => Act::Unwait { id, key },
                None => Act::Unwait { id: self.any_id(rng), key },
            },
            2..4 => Act::EnqueueAndWait { job: self.new_job(rng), key, told: self.told.clone() },
            _ => Act::Wait { id: self.any_id(rng), key, told: self.told.clone() },
        }
    }
}
