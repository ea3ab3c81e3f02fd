//! The engine: every change of a job's state, in one place, one at a time.
//!
//! It is a function of its state, the time and a command. It reads no clock, does no I/O and starts nothing: facts
//! that only the store knows are asked for ([`Engine::needs`], [`Engine::wants`]) and come back as arguments, and what
//! it changes comes out as one [`Batch`] a turn. [`crate::turn`] drives it.

pub mod answers;
pub mod backoff;
pub mod batches;
pub mod budget;
pub mod budgets;
pub mod bulk;
mod change;
pub mod command;
pub mod cron;
pub mod crons;
mod dispatch;
mod drawing;
mod enqueue;
pub mod firing;
pub mod id;
pub mod job;
pub mod kind;
mod lease;
pub mod notice;
pub mod outbox;
mod outcome;
mod payloads;
mod pool;
mod queues;
mod ready;
pub mod recurrence;
mod renew;
mod restore;
mod schedule;
mod streams;
mod survey;
mod tags;
mod take;
mod time;
mod transition;
mod unique;
mod waking;
mod window;

use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::{cmp, mem};

use protocol::id::JobId;
use protocol::job::Backoff;
use protocol::outcome::LeasedJob;

use crate::clock::Time;
use crate::events::Event;
use crate::hash::{HashMap, HashSet};
use crate::store::batch::Batch;
use crate::store::view::LaneKey;
use answers::Answers;
use batches::Plan;
use budgets::Budgets;
use bulk::Bulks;
use command::{Command, Reject, Reply, Seen, leased};
use crons::Crons;
use firing::Firing;
use id::{QueueId, Stamp, Stamps};
use job::Job;
use lease::Leases;
use notice::Waiter;
use queues::Queues;
pub use ready::{LaneAt, REFILL, REFILL_BYTES, Wanted};
pub use restore::Stored;
use schedule::Timers;
pub use schedule::{Due, TIMERS_REFILL, place_of};
use streams::Streams;
use tags::Tags;
pub use tags::{Holders, Tag};
pub use time::UNDATED_SLICE;
use time::Undated;

/// What the server does where a job does not say.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Failures after which a job is dead.
    pub retry_limit: u32,
    pub backoff: Backoff,
    /// How long completed jobs are kept, in milliseconds.
    pub completed_ms: u64,
    /// How long dead jobs are kept, in milliseconds.
    pub dead_ms: u64,
    /// Deliveries after which a job that never ends is dead.
    pub max_deliveries: u32,
    /// The most budgets there can be.
    pub max_budgets: usize,
    /// The most jobs in flight in all; 0: no limit.
    pub in_flight_limit: usize,
    /// The longest an attempt may be in flight, in milliseconds; none: as long as its lease lasts.
    pub timeout_ms: Option<u64>,
    /// How long an open stream renews a lease by itself, in milliseconds.
    pub stream_renewal_ms: u64,
}

/// Jobs that were looked up in the store for a command.
pub type Found = HashMap<JobId, Job>;

#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    /// What the clock on the wall says in this turn, in milliseconds since the Unix epoch. See [`time`].
    now: u64,
    /// What the clock that never steps says, in milliseconds.
    up: u64,
    /// The clock on the wall was set back, and said this before; it has not been seen to yet.
    set_back_from: Option<u64>,
    /// Where timers are to be looked at whose dates may come from a clock that was ahead.
    undated: Option<Undated>,
    random: fastrand::Rng,
    stamps: Stamps,
    last_token: u64,
    /// Tokens of deliveries that the store may not have heard of before a crash.
    forgotten: Range<u64>,
    clock_saved_at: Time,
    queues: Queues,
    leases: Leases,
    streams: Streams,
    timers: Timers,
    tags: Tags,
    budgets: Budgets,
    crons: Crons,
    /// Entries whose jobs are to be folded, on their way out.
    firings: VecDeque<Firing>,
    bulks: Bulks,
    answers: Answers,
    /// For lanes with a long history: the first stamp that can be live. See [`crate::store::view::lanes`].
    cursors: HashMap<LaneKey, Stamp>,
    /// When the leases of a stream are to be looked at.
    checks: BinaryHeap<cmp::Reverse<(u64, u64)>>,
    /// Queues that may have jobs for waiting streams.
    queues_to_dispatch: VecDeque<QueueId>,
    /// Streams that may take more jobs.
    streams_to_feed: VecDeque<u64>,
    /// The next jobs of all queues, kept while a stream takes from all of them.
    heads: dispatch::Heads,
    /// Counts the times a stream began to wait.
    waits: u64,
    /// Streams that wait for a job of any queue, the longest waiting first, with when they began to.
    waiting_for_all: VecDeque<(u64, u64)>,
    /// Queues that streams wait for by name.
    awaited: HashSet<QueueId>,
    wanted: HashSet<Wanted>,
    /// What the ready jobs in memory weigh, in bytes.
    ready_bytes: usize,
    /// Whether somebody listens to what happens.
    watched: bool,
    events: Vec<Event>,
    waiters: HashMap<JobId, Vec<Waiter>>,
    /// Those whose waiting is over, with what they waited for.
    woken: Vec<(Waiter, Option<Seen>)>,
    batch: Batch,
    clear: bool,
    draining: bool,
}

/// What the engine has changed since it was last asked.
#[derive(Debug)]
pub struct Changes {
    /// Forget everything first.
    pub clear: bool,
    pub batch: Batch,
}

impl Engine {
    fn drop_unused_queues(&mut self) {
        let gone = self.queues.drop_unused();
        for (id, drawing) in &gone {
            // It may have gone to sleep for a job that has left it without being read.
            for (gate, first) in drawing.sleepers() {
                self.budgets.follow(gate, *id, Some(first), None, self.up);
            }
            self.heads.update(&self.queues, *id);
            self.batch.remove_queue(*id);
        }
        if !gone.is_empty() && !self.cursors.is_empty() {
            let gone: HashSet<_> = gone.into_iter().map(|(id, _)| id).collect();
            for ((queue, draw, priority), _) in self.cursors.extract_if(|(id, ..), _| gone.contains(id)) {
                self.batch.remove_cursor(queue, draw, priority);
            }
        }
    }

    /// The jobs that have to be looked up in the store before a command is applied; [`Engine::needs_tags`] comes first.
    pub fn needs(&self, command: &Command) -> Vec<JobId> {
        // Only who holds a token can be right about a job that is not in flight.
        let late =
            |job: &LeasedJob| (job.lease.is_some() && self.leases.get(job.id).is_none()).then_some(job.id);
        match command.inner() {
            Command::Succeed(jobs) => jobs.iter().filter_map(late).collect(),
            Command::SucceedWith { job, .. } => late(job).into_iter().collect(),
            Command::Fail { job, .. } | Command::Attempt(job) => late(job).into_iter().collect(),
            Command::Heartbeat(jobs) => jobs.iter().filter_map(|j| late(&leased(j.id, j.lease))).collect(),
            Command::Release(jobs) => jobs.iter().filter_map(|j| late(&leased(j.id, j.lease))).collect(),
            Command::Enqueue(_)
            | Command::EnqueueAndWait { .. }
            | Command::Fold(_)
            | Command::OpenBatches(_)
            | Command::RunEntry { .. } => {
                let jobs = command.new_jobs().iter().chain(self.job_to_run(command));
                let unique = jobs.filter_map(|job| job.flow.as_ref()?.unique.as_ref());
                self.keepers_in_store(unique).chain(self.batches_in_store(command.batch_keys())).collect()
            }
            Command::Wait { id, .. } if self.leases.get(*id).is_none() => vec![*id],
            Command::Change { ids, .. } => {
                ids.iter().filter(|id| self.leases.get(**id).is_none()).copied().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Carries out a command. `found` holds what [`Engine::needs`] asked for, as far as it exists.
    ///
    /// # Errors
    /// [`Reject`] where the caller is wrong about a job.
    pub fn apply(&mut self, command: Command, mut found: Found) -> Result<Reply, Reject> {
        match command {
            Command::Enqueue(jobs) => self.enqueue(jobs, Plan::default(), &found).map(Reply::Enqueued),
            Command::EnqueueBulk(bulk) => self.enqueue_bulk(bulk),
            Command::EnqueueAndWait { jobs, waiter } => {
                let enqueued = self.enqueue(jobs, Plan::default(), &found)?;
                self.wait_for_first(&enqueued, waiter);
                Ok(Reply::Enqueued(enqueued))
            }
            Command::Fold(fold) => self.enqueue_folded(*fold, &found),
            Command::OpenBatches(keys) => Ok(self.open_batches(&keys, &found)),
            Command::Wait { id, waiter } => self.wait_for(id, waiter, &found),
            Command::Unwait { id, key } => {
                self.unwait(id, key);
                Ok(Reply::Done)
            }
            Command::Open(stream) => self.open(stream),
            Command::Close(link) => self.close(link),
            Command::Rest(link) => self.rest(link),
            Command::Finish(link) => self.finish(link),
            Command::Drained(link) => self.drained(link),
            Command::Beat(link) => self.beat(link),
            Command::Succeed(jobs) => self.succeed(&jobs, None, &mut found),
            Command::SucceedWith { job, result } => self.succeed(&[job], Some(&result), &mut found),
            Command::Fail { job, failure } => self.fail(job, failure, &mut found),
            Command::Heartbeat(jobs) => self.heartbeat(&jobs, &mut found),
            Command::Release(jobs) => self.release(&jobs, &mut found),
            Command::Attempt(job) => self.attempt(job, &mut found),
            Command::Change { ids, only, change } => self.change(&ids, only.as_deref(), &change, &mut found),
            Command::Budget(command) => self.budget(command),
            Command::Cron(command) => self.cron(*command),
            Command::RunEntry { group, name } => self.run_entry(&group, &name, &found),
            Command::Reset => self.reset(),
            Command::Inspect(ids) => {
                let held = ids.iter().filter_map(|id| self.leases.get(*id));
                Ok(Reply::InFlight(held.filter_map(|lease| self.seen_held(lease)).collect()))
            }
            Command::ListInFlight { queues, from, descending, limit } => {
                Ok(Reply::InFlight(self.list_in_flight(queues.as_deref(), from, descending, limit)))
            }
            Command::QueueIds(names) => {
                Ok(Reply::QueueIds(names.iter().filter_map(|name| self.queues.known(name)).collect()))
            }
            Command::Count { queues } => Ok(Reply::Counts(self.queues.counts(queues.as_deref()))),
            Command::Pause { queue, paused } => Ok(self.pause(&queue, paused)),
            Command::ForgetQueue(queue) => self.forget_queue(&queue),
            Command::Queues { names } => Ok(Reply::Queues(self.queue_states(names.as_deref()))),
            Command::Workers => Ok(Reply::Workers(self.workers())),
            Command::Once { once, command } => self.apply_once(once, *command, found),
            Command::Drain => self.drain(),
            Command::Stop => self.stop(),
        }
    }

    /// What has changed since the last call, to be committed before anybody hears of it.
    pub fn changes(&mut self) -> Changes {
        self.queues.save(&mut self.batch);
        self.tags.save(&mut self.batch);
        let idle = self.budgets.drop_idle_draws(&mut self.batch);
        self.drop_draws(idle);
        self.budgets.save(&mut self.batch);
        Changes { clear: mem::take(&mut self.clear), batch: mem::take(&mut self.batch) }
    }

    /// Whether the next commit will forget everything that the store has.
    pub const fn clears(&self) -> bool {
        self.clear
    }

    /// What has to be read from the store so that dispatch can go on.
    pub fn wants(&mut self) -> Vec<Wanted> {
        self.wanted.drain().collect()
    }

    /// Hands deliveries over to the streams. Everything they are about has been committed.
    pub fn flush(&mut self) {
        self.tags.trim();
        self.leases.leave_payloads();
        self.streams.flush();
        self.tell_waiters();
    }

    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Lets cron entries be about the wall time of this zone where they name none.
    pub fn set_zone(&mut self, zone: jiff::tz::TimeZone) {
        self.crons.zone = zone;
    }

    pub fn zone(&self) -> jiff::tz::TimeZone {
        self.crons.zone.clone()
    }

    /// What gates have cost so far.
    #[cfg(test)]
    pub const fn steps_at_gates(&self) -> usize {
        self.budgets.steps
    }

    /// Ends the connections of all streams.
    pub fn close_streams(&self) {
        self.streams.close();
    }

    fn reset(&mut self) -> Result<Reply, Reject> {
        for key in self.streams.keys() {
            self.cancel_all(key);
        }
        self.leases.clear();
        self.queues.clear();
        self.cursors.clear();
        self.timers = Timers::empty();
        self.undated = None;
        self.tags = Tags::default();
        self.budgets = Budgets::default();
        self.crons.clear();
        self.firings.clear();
        self.bulks.reset();
        self.answers.clear();
        self.wanted.clear();
        self.ready_bytes = 0;
        self.heads.rebuild(&self.queues);
        self.batch = Batch::default();
        self.batch.put_format();
        self.save_clock();
        let waiters = mem::take(&mut self.waiters).into_values().flatten();
        self.woken.extend(waiters.map(|waiter| (waiter, None)));
        self.clear = true;
        Ok(Reply::Done)
    }

    fn cancel_all(&mut self, key: u64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let held = mem::take(&mut stream.held);
        let reason = protocol::stream::CancelReason::Deleted;
        for id in held.into_values() {
            self.streams.tell(key, outbox::Item::Cancel { id, reason });
        }
        self.feed(key);
        self.drop_if_over(key);
    }

    fn drain(&mut self) -> Result<Reply, Reject> {
        self.draining = true;
        for key in self.streams.keys() {
            self.streams.tell(key, outbox::Item::Drain);
        }
        Ok(Reply::Done)
    }

    fn stop(&mut self) -> Result<Reply, Reject> {
        self.draining = true;
        self.save_leases(u64::MAX);
        self.save_clock();
        Ok(Reply::Done)
    }

    fn draw(&mut self) -> f64 {
        self.random.f64()
    }
}
