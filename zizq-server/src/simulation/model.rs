//! A job queue that is obviously right: jobs, leases and streams in maps, without windows, cursors or counters.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use protocol::enqueue::NewJob;
use protocol::flow::{Unique, UniqueWhile};
use protocol::id::JobId;
use protocol::job::Status;
use protocol::lease::LeaseToken;
use protocol::name::{CronName, QueueName};
use protocol::outcome::LeasedJob;
use protocol::stream::CancelReason;

use super::act::Act;
use super::answers::Kept;
use super::batches::Batches;
use super::budgets::Budgets;
use super::bulks::Bulks;
use super::crons::Crons;
use super::streams::{State, Stream, Told};
use super::times::STEP_MS;
use super::watchers::Waiters;
use crate::access::Tokens;
use crate::clock::Time;
use crate::engine::Settings;
use crate::engine::command::Reject;
use crate::engine::command::batches::{Plan, Step};
use crate::engine::command::jobs::{Enqueued, Outcome};
use crate::engine::command::streams::Link;
use crate::job::Job;
use crate::job::id::QueueId;
use crate::run::turn::Answer;
use crate::store::Snapshot;
use crate::store::keys;
use crate::store::record::{ClockRecord, LeaseEnd};

/// A lease of this age survives a crash, in milliseconds.
const SAVED_AFTER_MS: u64 = 1_000;
/// The number of ended jobs that are remembered for a unique key.
pub(super) const MAX_ENDED: usize = 8;
/// The least number of timers that go off in one turn, if that many are due.
const SLICE: usize = 16;

/// A job that has been accepted and not forgotten.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The job as the store should have it.
    pub job: Job,
    pub queue: QueueName,
    /// The tokens of all deliveries, in their order.
    pub tokens: Vec<LeaseToken>,
    /// The last token that no crash has made the server forget.
    pub known: Option<LeaseToken>,
    /// Whether the delivery of that token has an outcome.
    pub over: bool,
    /// Whether it is unknown what the last turn before a crash did to it.
    pub uncertain: bool,
    /// The message of each failure.
    pub errors: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// The job, with this delivery counted.
    pub job: Job,
    pub token: LeaseToken,
    pub stream: u64,
    pub since: u64,
    /// The time until which a heartbeat for the job keeps it.
    pub kept: Option<u64>,
    pub event: u64,
    /// When the attempt began, by the clock that never steps.
    pub began: u64,
    /// When it was restored, until its worker is heard of again.
    pub restored: Option<u64>,
    /// The lease as it was written down.
    pub saved: Option<Saved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    pub lease_ms: Option<u64>,
    pub stream: Option<(u128, u64)>,
    pub end: LeaseEnd,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub settings: Settings,
    /// What the wall clock says.
    pub now: u64,
    /// What the clock that never steps says; leases, tokens and timeouts go by this one.
    pub up: u64,
    /// Jobs that have a date from a clock that was ahead, and this date.
    pub undated: BTreeMap<JobId, u64>,
    /// The latest that the clock has said since it was last set back.
    pub latest: u64,
    /// What the clock said before it was set back while no engine ran.
    pub set_back_from: Option<u64>,
    /// Whether a stream had more leases to end than there was time for.
    pub is_cut: bool,
    pub jobs: BTreeMap<JobId, Entry>,
    pub leases: BTreeMap<JobId, Lease>,
    pub streams: BTreeMap<u64, Stream>,
    pub next_stream: u64,
    pub queue_ids: BTreeMap<QueueName, QueueId>,
    pub links: BTreeSet<(u64, u64)>,
    pub budgets: Budgets,
    pub batches: Batches,
    pub crons: Crons,
    pub tokens: Tokens,
    /// Cron entries that the engine has to send out in this turn, to be folded.
    pub fired: Vec<(CronName, CronName)>,
    pub bulks: Bulks,
    /// Those that are forgotten first come first.
    pub answers: Vec<Kept>,
    pub last_id: Option<JobId>,
    pub last_token: Option<LeaseToken>,
    pub draining: bool,
    pub paused: BTreeSet<QueueName>,
    pub waiters: Waiters,
    /// Deliveries with earlier tokens were over, or written down, when this process began.
    pub remembers_from: LeaseToken,
}

impl Lease {
    pub(super) const fn as_held(&self) -> LeasedJob {
        LeasedJob { id: self.job.id, lease: Some(self.token) }
    }
}

/// Returns the jobs of an answer to a request that enqueues, of whatever kind.
pub(super) fn enqueued(answer: &Answer) -> Option<&[Enqueued]> {
    answer.as_ref().ok()?.enqueued()
}

impl Model {
    pub(super) fn new(settings: Settings, time: Time) -> Self {
        Self {
            settings,
            now: time.wall,
            up: time.up,
            undated: BTreeMap::new(),
            latest: 0,
            set_back_from: None,
            is_cut: false,
            jobs: BTreeMap::new(),
            leases: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            queue_ids: BTreeMap::new(),
            links: BTreeSet::new(),
            budgets: Budgets::new(),
            batches: Batches::new(),
            crons: Crons::new(),
            tokens: Tokens::default(),
            fired: Vec::new(),
            bulks: Bulks::default(),
            answers: Vec::new(),
            last_id: None,
            last_token: None,
            draining: false,
            paused: BTreeSet::new(),
            waiters: Waiters::default(),
            remembers_from: LeaseToken::from_u64(0),
        }
    }

    /// Carries out a command and checks its answer.
    pub(super) fn apply(&mut self, act: &Act, answer: &Answer) -> Result<()> {
        let up = self.up;
        match act {
            Act::Enqueue(jobs) => self.enqueue(jobs, answer)?,
            Act::Once(once, jobs) => self.once(once, jobs, answer)?,
            Act::Fold(folding) => self.fold(folding, answer)?,
            Act::Token(act) => self.token(act, answer)?,
            Act::OpenBatches(keys) => self.open_batches(keys, answer)?,
            Act::EnqueueBulk(bulk) => self.enqueue_bulk(bulk, answer)?,
            Act::Open(open) => self.open(open, answer)?,
            Act::Close(link) => self.close(*link),
            Act::Rest(link) => self.linked(*link, |stream| stream.rests = true),
            Act::Finish(link) => self.linked(*link, |stream| {
                stream.state = State::Answered;
                stream.told.clear();
            }),
            Act::Beat(link) => self.linked(*link, |stream| stream.renewed_at = up),
            Act::Drained(_) => {}
            Act::Succeed(jobs) => self.succeed(jobs, None, answer)?,
            Act::SucceedWith(job, result) => self.succeed(&[*job], Some(result), answer)?,
            Act::Fail { job, failure } => self.fail(*job, failure, answer)?,
            Act::Heartbeat(jobs) => self.heartbeat(jobs, answer)?,
            Act::Release(jobs) => self.release(jobs, answer)?,
            Act::Change { ids, only, change } => self.change(ids, only.as_deref(), change, answer)?,
            Act::Budget(command) => self.budget(command, answer)?,
            Act::Cron(command) => self.cron(command, answer)?,
            Act::RunEntry(group, name) => self.run_entry(group, name, answer)?,
            Act::Reset => self.reset(),
            Act::Wait { id, key, .. } => self.wait(*id, *key, answer)?,
            Act::Unwait { id, key } => self.unwait(*id, *key),
            Act::EnqueueAndWait { job, key, .. } => self.enqueue_and_wait(job, *key, answer)?,
            Act::Pause(queue, paused) => self.pause(queue, *paused, answer)?,
            Act::ForgetQueue(queue) => self.forget_queue(queue, answer)?,
            Act::Drain => {
                self.draining = true;
                self.streams.values_mut().for_each(|stream| stream.tell(Told::Drain));
            }
            Act::Stop => {
                self.draining = true;
                self.save_leases(u64::MAX);
            }
            Act::DrainWorkers(start) => self.drain_workers(start, answer)?,
            Act::CutOff(start) => self.cut_off(start, answer)?,
            look => self.check_look(look, answer)?,
        }
        if matches!(
            act,
            Act::Close(_)
                | Act::Rest(_)
                | Act::Finish(_)
                | Act::Drained(_)
                | Act::Beat(_)
                | Act::Drain
                | Act::Unwait { .. }
        ) {
            ensure!(answer.is_ok(), "answered {answer:?}");
        }
        self.end_waiting(Some(act));
        self.sweep();
        self.close_batches();
        Ok(())
    }

    pub(super) fn enqueue(&mut self, jobs: &[NewJob], answer: &Answer) -> Result<()> {
        self.enqueue_planned(jobs, &Plan::default(), answer)
    }

    pub(super) fn enqueue_planned(&mut self, jobs: &[NewJob], plan: &Plan, answer: &Answer) -> Result<()> {
        if self.draining {
            ensure!(matches!(answer, Err(Reject::Draining)), "draining, but answered {answer:?}");
            return Ok(());
        }
        if !self.prepare_budgets(jobs) {
            let refused = matches!(answer, Err(Reject::Job { .. } | Reject::NotAllowed(_)));
            ensure!(refused, "it draws on what is not there, but: {answer:?}");
            return Ok(());
        }
        let Some(accepted) = enqueued(answer) else { bail!("answered {answer:?}") };
        ensure!(accepted.len() == jobs.len(), "{} of {} accepted", accepted.len(), jobs.len());
        self.fold_payloads(plan)?;
        let steps = plan.steps.iter().copied().chain(std::iter::repeat(Step::Plain));
        for ((new, enqueued), step) in jobs.iter().zip(accepted).zip(steps) {
            if step == Step::Folds {
                self.folded(new, plan, enqueued)?;
                continue;
            }
            let Enqueued { job, queue, status, outcome } = enqueued;
            let keepers = self.keepers(new);
            if !keepers.is_empty() {
                let is_it = *outcome == Outcome::Duplicate && keepers.contains(&job.id);
                ensure!(is_it, "{keepers:?} keep {new:?} out, but: {enqueued:?}");
                let in_flight = self.leases.contains_key(&job.id);
                let entry = self.jobs.get(&job.id).context("it keeps others out")?;
                let expected = if in_flight { Status::InFlight } else { entry.job.status };
                ensure!(*status == expected, "{:?} is {expected:?}, but: {enqueued:?}", job.id);
                continue;
            }
            ensure!((*outcome, *status) == (Outcome::Created, job.status), "answered {enqueued:?}");
            self.admit_new(new, job.as_ref().clone(), queue.clone())?;
            if step == Step::Opens {
                self.opened(new, job.id)?;
            }
        }
        Ok(())
    }

    /// Takes in a job that must be as it was requested.
    pub(super) fn admit_new(&mut self, new: &NewJob, job: Job, queue: QueueName) -> Result<()> {
        let ready_at = new.ready_at.unwrap_or(self.now);
        let initial = if ready_at > self.now { Status::Scheduled } else { Status::Ready };
        let as_asked = queue == new.queue
            && job.priority == new.priority
            && job.payload == new.payload
            && (job.ready_at, job.status) == (ready_at, initial)
            && (job.attempts, job.deliveries) == (0, 0)
            && job.retry_limit == new.retry_limit
            && job.backoff == new.backoff
            && job.retention == new.retention
            && job.flow == new.flow;
        ensure!(as_asked, "at {} {job:?} was made of {new:?}", self.now);
        self.admit(job, queue)
    }

    /// Returns the jobs one of which is named when they keep a new one out by their unique key: the youngest, or
    /// an older one where more have ended than the engine remembers.
    pub(super) fn keepers(&self, new: &NewJob) -> Vec<JobId> {
        let unique = new.flow.as_ref().and_then(|flow| flow.unique.as_ref());
        let Some(Unique { key, scope }) = unique else { return Vec::new() };
        let same = |entry: &&Entry| entry.job.unique().is_some_and(|unique| unique.key == *key);
        let keeps_out = |entry: &&Entry| {
            let in_flight = self.leases.contains_key(&entry.job.id);
            let status = if in_flight { Status::InFlight } else { entry.job.status };
            match status {
                Status::Scheduled | Status::Ready => true,
                Status::InFlight => *scope != UniqueWhile::Queued,
                Status::Completed | Status::Dead => {
                    *scope == UniqueWhile::Exists && !entry.job.is_gone(self.now)
                }
            }
        };
        let ended = self.jobs.values().filter(same).filter(|entry| entry.job.status.is_terminal()).count();
        let mut named = Vec::new();
        for Entry { job, .. } in self.jobs.values().rev().filter(same).filter(keeps_out) {
            named.push(job.id);
            // One that has not ended is never forgotten.
            if ended <= MAX_ENDED || !job.status.is_terminal() {
                break;
            }
        }
        named
    }

    /// Takes in a new job.
    pub(super) fn admit(&mut self, job: Job, queue: QueueName) -> Result<()> {
        ensure!(self.last_id < Some(job.id), "id {:?} does not come after {:?}", job.id, self.last_id);
        self.last_id = Some(job.id);
        self.learn_number(&queue, job.queue)?;
        let entry = Entry {
            job,
            queue,
            tokens: Vec::new(),
            known: None,
            over: false,
            uncertain: false,
            errors: Vec::new(),
        };
        self.jobs.insert(entry.job.id, entry);
        Ok(())
    }

    /// Learns the number that the server has used for a queue.
    pub(super) fn learn_number(&mut self, queue: &QueueName, seen: QueueId) -> Result<()> {
        let known = self.queue_ids.insert(queue.clone(), seen);
        if let Some(before) = known.filter(|number| *number != seen) {
            // A queue without jobs may have been forgotten.
            let has_jobs = self.jobs.values().any(|entry| entry.job.queue == before);
            ensure!(!has_jobs, "queue {queue} has two numbers");
        }
        let same_number = self.queue_ids.values().filter(|id| **id == seen).count();
        ensure!(same_number == 1, "{seen:?} stands for several queues");
        Ok(())
    }

    fn reset(&mut self) {
        for (id, lease) in std::mem::take(&mut self.leases) {
            self.tell(lease.stream, Told::cancel(id, CancelReason::Deleted));
        }
        self.jobs.clear();
        self.budgets.clear();
        self.paused.clear();
        self.batches.clear();
        self.crons.clear();
        self.bulks.reset();
        self.answers.clear();
    }

    fn linked(&mut self, link: Link, change: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.values_mut().find(|stream| stream.link == Some(link)) {
            change(stream);
        }
    }

    pub(super) fn tell(&mut self, stream: u64, told: Told) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.tell(told);
        }
    }

    /// Forgets streams on which nothing depends.
    pub(super) fn sweep(&mut self) {
        let holders: BTreeSet<u64> = self.leases.values().map(|lease| lease.stream).collect();
        let waits = |stream: &Stream| match stream.state {
            State::Open => true,
            State::Broken { until } => self.up < until && !stream.missed.is_empty(),
            State::Gone { .. } | State::Answered => false,
        };
        self.streams.retain(|key, stream| holders.contains(key) || waits(stream));
    }

    /// Does what happens by itself at this time.
    pub(super) fn tick(&mut self, snapshot: &impl Snapshot) -> Result<()> {
        self.save_leases(self.up.saturating_sub(SAVED_AFTER_MS));
        let (ended, lapsed) = self.ended_leases();
        for id in ended {
            if let Some(stream) = self.leases.get(&id).map(|lease| lease.stream) {
                self.tell(stream, Told::cancel(id, CancelReason::LeaseLost));
            }
            self.give_back(id);
        }
        // The worker behind such a stream does not do its part.
        for link in lapsed {
            self.close(link);
        }
        self.is_cut |= self.leases.values().any(|lease| self.is_gone(lease.stream));
        self.time_out(snapshot)?;
        self.forget_answers();
        self.sweep();
        self.fire(snapshot)?;
        self.end_waiting(None);
        self.date_anew(snapshot)?;
        self.ring_timers(snapshot)
    }

    fn save_leases(&mut self, until: u64) {
        let time = self.time();
        for lease in self.leases.values_mut().filter(|lease| lease.saved.is_none() && lease.since <= until) {
            if let Some(stream) = self.streams.get(&lease.stream) {
                lease.saved = Some(stream.save(lease, time));
            }
        }
    }

    /// Makes jobs ready, and forgets jobs, when their time comes: in the order of their times, many at a time.
    fn ring_timers(&mut self, snapshot: &impl Snapshot) -> Result<()> {
        let due = |entry: &Entry| Some((entry.job.due().filter(|due| *due <= self.now)?, entry.job.id));
        let mut due: Vec<_> = self.jobs.values().filter_map(due).collect();
        due.sort_unstable();
        let mut waits = None;
        for (n, (at, id)) in due.into_iter().enumerate() {
            let entry = self.jobs.get_mut(&id).context("it is due")?;
            if snapshot.get(&keys::job(entry.job.place()))?.is_some() {
                ensure!(n >= SLICE, "{id:?} was due at {at}, and still waits at {}", self.now);
                waits = Some(id);
                continue;
            }
            ensure!(waits.is_none(), "{id:?} came before {waits:?}, which was due before");
            if entry.job.status == Status::Scheduled {
                entry.job.status = Status::Ready;
            } else {
                self.jobs.remove(&id);
            }
        }
        Ok(())
    }

    /// Returns how long it is until something must happen, in milliseconds.
    pub(super) fn due_in(&self) -> Option<u64> {
        let ends = self.leases.values().filter_map(|lease| self.lease_end(lease));
        let unsaved = self.leases.values().filter(|lease| lease.saved.is_none());
        let deadlines = self.leases.values().filter_map(|lease| self.deadline(lease));
        let by_length = ends.chain(deadlines).chain(unsaved.map(|lease| lease.since + SAVED_AFTER_MS));
        let by_length = by_length.chain(self.next_tokens()).map(|at| at.saturating_sub(self.up));
        let timers = self.jobs.values().filter_map(|entry| entry.job.due());
        let by_date = timers.chain(self.next_cron()).map(|at| at.saturating_sub(self.now));
        let bulks = self.bulks.is_any_coming().then_some(0);
        by_length.chain(by_date).chain(bulks).min()
    }

    /// Ends the process and begins the next one.
    pub(super) fn restart(&mut self, time: Time, clock: ClockRecord) {
        (self.now, self.up) = (time.wall, time.up);
        let back = Some(clock.wall.saturating_sub(self.now)).filter(|back| *back >= STEP_MS);
        self.set_back_from = clock.back_from.max(back.map(|_| clock.wall));
        let back = back.unwrap_or(0);
        // The next process knows of a step that was not written down only if it is long enough.
        self.undated.clear();
        let saved_clock = clock.latest;
        self.remembers_from = LeaseToken::from_u64(saved_clock.saturating_sub(SAVED_AFTER_MS) << 20);
        self.draining = false;
        self.bulks.restart();
        self.restart_answers();
        self.fill_budgets();
        self.recall_crons();
        self.streams.clear();
        self.links.clear();
        let kept = self.jobs.values().map(|entry| &entry.queue).chain(&self.paused);
        let kept: BTreeSet<&QueueName> = kept.collect();
        self.queue_ids.retain(|name, _| kept.contains(name));
        let leases = std::mem::take(&mut self.leases);
        for (id, mut lease) in leases {
            let Some(mut saved) = lease.saved else { continue };
            let restored = saved.end.restored_at.map_or(self.now, |at| (at - back).min(self.now));
            saved.end.restored_at = Some(restored);
            saved.end.kept_until = saved.end.kept_until.map(|at| at - back);
            lease.job.dequeued_at = lease.job.dequeued_at.map(|at| at - back);
            lease.began = self.began(&lease.job);
            let stored = self.jobs.get(&id).map(|entry| &entry.job);
            if let Some(stored) = stored.filter(|stored| stored.last_lease != Some(lease.token)) {
                lease.job.ready_at = stored.ready_at.min(lease.job.dequeued_at.unwrap_or_default());
            }
            lease.job.last_lease = Some(lease.token);
            let since = self.up_of(restored);
            lease.stream = self.restored_stream(saved, since);
            lease.event = saved.stream.map_or(0, |(_, event)| event);
            (lease.since, lease.kept) = (since, saved.end.kept_until.map(|at| self.up_of(at)));
            (lease.restored, lease.saved) = (Some(since), Some(saved));
            self.leases.insert(id, lease);
        }
    }
}
