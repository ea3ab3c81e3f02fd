//! The engine: every change of a job's state, in one place, one at a time.
//!
//! The engine is a function of its state, the time and a command. It reads no clock, does no I/O and starts nothing:
//! facts that only the store knows are asked for ([`Engine::needs`], [`Engine::wants`]) and come back as arguments, and
//! its changes leave as one [`Batch`] a turn. [`crate::run::turn`] drives it.

mod access;
mod budgets;
mod clock;
pub(crate) mod command;
mod crons;
mod jobs;
pub(crate) mod outbox;
mod queues;
mod restore;
mod streams;

use std::mem;

use protocol::id::JobId;
use protocol::job::Backoff;

use crate::hash::{HashMap, HashSet};
use crate::job::Job;
use crate::store::batch::Batch;
use access::AccessTokens;
use budgets::Budgets;
use clock::Clock;
pub(crate) use clock::UNDATED_SLICE;
use command::access::ListTokens;
use command::batches::Plan;
use command::budgets::ListBudgets;
use command::crons::{DeleteCrons, ListCrons, PutEntry};
use command::jobs::SucceedWith;
use command::report::{GetLevels, GetReport};
use command::streams::ListWorkers;
use command::{About, Command, Drain, Reject, Reply, Reset, Stop};
use crons::Crons;
pub(crate) use crons::recurrence;
pub(crate) use jobs::answers;
use jobs::answers::Answers;
use jobs::bulks::Bulks;
use jobs::listeners::Listeners;
use jobs::tags::Tags;
use jobs::timers::Timers;
pub(crate) use jobs::timers::{TIMERS_REFILL, place_of};
use queues::Queues;
use queues::cursors::Cursors;
pub(crate) use queues::lanes::{REFILL, REFILL_BYTES, Wanted};
pub(crate) use restore::Stored;
use streams::Streams;
use streams::dispatch::Dispatcher;
use streams::lease::Leases;

/// The server's defaults, for what a job does not specify, and its limits.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The retries after the first attempt; if the last one fails, the job is dead.
    pub retry_limit: u32,
    pub backoff: Backoff,
    /// How long completed jobs are kept, in milliseconds.
    pub completed_ms: u64,
    /// How long dead jobs are kept, in milliseconds.
    pub dead_ms: u64,
    /// Deliveries after which a job that never ends is dead.
    pub max_deliveries: u32,
    /// The most budgets that can exist.
    pub max_budgets: usize,
    /// The most jobs in flight in total; 0: no limit.
    pub in_flight_limit: usize,
    /// Whether reports say of each queue how long its jobs waited and ran.
    pub queue_histograms: bool,
    /// The longest that an attempt may be in flight, in milliseconds; none: as long as its lease lasts.
    pub timeout_ms: Option<u64>,
    /// How long a lease lasts that an open stream renews by itself, in milliseconds.
    pub stream_renewal_ms: u64,
}

/// Jobs that were looked up in the store for a command.
pub(crate) type Found = HashMap<JobId, Job>;

/// What the server knows and decides, in parts. Each part states its own invariants.
///
/// A command names the parts that it touches. Several engines can run in one process: no state of an engine is global.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    clock: Clock,
    random: fastrand::Rng,

    queues: Queues,
    cursors: Cursors,
    /// The weight of the ready jobs in the windows of all lanes, in bytes: code that adds or takes one counts it here.
    ready_bytes: usize,
    timers: Timers,
    tags: Tags,
    bulks: Bulks,
    answers: Answers,

    leases: Leases,
    streams: Streams,
    dispatcher: Dispatcher,
    listeners: Listeners,

    budgets: Budgets,
    crons: Crons,
    access: AccessTokens,

    /// The changes since the last commit.
    batch: Batch,
    /// Whether the store has to delete everything first.
    clear: bool,
    /// Whether the server is shutting down: no more jobs are accepted, and none is delivered.
    draining: bool,
}

/// The changes that the engine has made since it was last asked.
#[derive(Debug)]
pub struct Changes {
    /// Delete everything first.
    pub clear: bool,
    pub batch: Batch,
}

impl Engine {
    fn drop_unused_queues(&mut self) {
        let gone = self.queues.drop_unused();
        for (id, drawing) in &gone {
            // The queue may have gone to sleep for a job that has left it without being read.
            for (gate, first) in drawing.sleepers() {
                self.budgets.follow(gate, *id, Some(first), None, self.clock.up());
            }
            self.dispatcher.follow_head(&self.queues, *id);
            self.batch.remove_queue(*id);
        }
        if !gone.is_empty() {
            let gone: HashSet<_> = gone.into_iter().map(|(id, _)| id).collect();
            self.cursors.drop_where(&mut self.batch, |(queue, ..)| gone.contains(queue));
        }
    }

    /// Returns the jobs that have to be looked up in the store before a command is applied; [`Engine::needs_tags`]
    /// comes first.
    pub fn needs(&self, command: &Command) -> Vec<JobId> {
        let in_store = |id: &JobId| self.leases.get(*id).is_none();
        match command.about() {
            About::Nothing | About::InFlight(_) => Vec::new(),
            About::NewJobs(jobs, planned) => {
                let batches = planned.iter().map(|planned| &planned.key);
                self.keepers_in_store(jobs.iter()).chain(self.batches_in_store(batches)).collect()
            }
            About::Entry(group, name) => {
                self.keepers_in_store(self.crons.job(group, name).into_iter()).collect()
            }
            About::Batches(keys) => self.batches_in_store(keys.iter()).collect(),
            // Only a caller with a token can be right about a job that is not in flight.
            About::Deliveries(jobs, _) => {
                let with_token = jobs.iter().filter(|job| job.lease.is_some()).map(|job| job.id);
                with_token.filter(in_store).collect()
            }
            About::Jobs(ids, _) => ids.iter().copied().filter(in_store).collect(),
        }
    }

    /// Carries out a command. `found` holds the jobs that [`Engine::needs`] asked for, if they exist.
    ///
    /// # Errors
    /// [`Reject`] if the request cannot be carried out.
    #[expect(clippy::too_many_lines, reason = "a line for each command")]
    pub fn apply(&mut self, command: Command, mut found: Found) -> Result<Reply, Reject> {
        let found = &mut found;
        match command {
            Command::Enqueue(new) => self.enqueue(new.0, Plan::default(), found).map(Reply::Enqueue),
            Command::EnqueueAndWait(new) => self.enqueue_and_wait(new, found).map(Reply::EnqueueAndWait),
            Command::NewBulk(bulk) => self.enqueue_bulk(bulk).map(Reply::Later),
            Command::Fold(fold) => self.enqueue_folded(fold, found).map(Reply::Fold),
            Command::RunEntry(run) => self.run_entry(&run, found).map(Reply::RunEntry),
            Command::OpenBatches(open) => self.open_batches(&open, found).map(Reply::OpenBatches),

            Command::Succeed(ack) => Ok(Reply::Succeed(self.succeed(&ack.0, None, found))),
            Command::SucceedWith(SucceedWith { job, result }) => {
                Ok(Reply::SucceedWith(self.succeed(&[job], Some(&result), found)))
            }
            Command::Fail(fail) => self.fail(fail, found).map(Reply::Fail),
            Command::Release(release) => Ok(Reply::Release(self.release(&release.0, found))),
            Command::Heartbeat(heartbeat) => Ok(Reply::Heartbeat(self.heartbeat(&heartbeat.0, found))),
            Command::GetAttempt(get) => self.attempt(get.0, found).map(Reply::GetAttempt),
            Command::ChangeJobs(change) => self.change(&change, found).map(Reply::ChangeJobs),
            Command::Wait(wait) => self.wait_for(wait, found).map(Reply::Wait),
            Command::Unwait(unwait) => Ok({
                self.listeners.unwait(&unwait);
                Reply::Unwait(())
            }),
            Command::FindInFlight(find) => Ok(Reply::FindInFlight(self.find_in_flight(&find))),
            Command::FindHolders(find) => Ok(Reply::FindHolders(self.holders(&find.0))),
            Command::ListInFlight(list) => Ok(Reply::ListInFlight(self.list_in_flight(&list))),
            Command::CountJobs(count) => Ok(Reply::CountJobs(self.count(&count))),

            Command::OpenStream(open) => self.open(open).map(Reply::OpenStream),
            Command::CloseStream(close) => Ok({
                self.disconnect(close.0);
                Reply::CloseStream(())
            }),
            Command::StopTaking(stop) => Ok({
                self.rest(stop.0);
                Reply::StopTaking(())
            }),
            Command::FinishPoll(finish) => Ok({
                self.finish(finish.0);
                Reply::FinishPoll(())
            }),
            Command::CaughtUp(caught_up) => Ok({
                self.caught_up(caught_up.0);
                Reply::CaughtUp(())
            }),
            Command::RenewStream(renew) => Ok({
                self.renew(renew.0);
                Reply::RenewStream(())
            }),
            Command::DrainWorkers(drain) => Ok(Reply::DrainWorkers(self.drain_workers(&drain))),
            Command::CutOff(cut) => Ok(Reply::CutOff(self.cut_off(&cut.0))),
            Command::ListWorkers(ListWorkers) => Ok(Reply::ListWorkers(self.streams.workers(&self.queues))),

            Command::QueueIds(ids) => Ok(Reply::QueueIds(self.queues.ids_of(&ids.0))),
            Command::ListQueues(list) => Ok(Reply::ListQueues(self.queue_states(list.names.as_deref()))),
            Command::PauseQueue(pause) => Ok(Reply::PauseQueue(self.pause(pause))),
            Command::ForgetQueue(forget) => self.forget_queue(&forget.0).map(Reply::ForgetQueue),
            Command::GetReport(GetReport) => Ok(Reply::GetReport(self.report())),
            Command::GetLevels(GetLevels) => Ok(Reply::GetLevels(self.levels())),
            Command::OldestReady(asked) => Ok(Reply::OldestReady(self.queues.oldest_ready(&asked.0))),

            Command::ListBudgets(ListBudgets) => Ok(Reply::ListBudgets(self.budgets.views())),
            Command::CheckBinding(check) => self.check_binding(&check.0).map(|()| Reply::CheckBinding(())),
            Command::GetBudget(get) => self.budget(&get.0).map(Reply::GetBudget),
            Command::CreateBudget(create) => self.create_budget(create).map(Reply::CreateBudget),
            Command::PutBudget(put) => self.put_budget(put).map(Reply::PutBudget),
            Command::PatchBudget(patch) => self.patch_budget(patch).map(Reply::PatchBudget),
            Command::DeleteBudget(delete) => self.delete_budget(&delete.0).map(Reply::DeleteBudget),

            Command::ListCrons(ListCrons) => Ok(Reply::ListCrons(self.crons.names())),
            Command::GetCron(get) => self.cron(&get.0).map(Reply::GetCron),
            Command::PutCron(put) => self.put_cron(put).map(Reply::PutCron),
            Command::PatchCron(patch) => self.patch_cron(patch).map(Reply::PatchCron),
            Command::DeleteCron(delete) => self.delete_cron(&delete.0).map(Reply::DeleteCron),
            Command::DeleteCrons(DeleteCrons) => Ok(Reply::DeleteCrons(self.delete_crons())),
            Command::AddEntry(add) => self.add_entry(add).map(Reply::AddEntry),
            Command::GetEntry(get) => self.entry(&get.0, &get.1).map(Reply::GetEntry),
            Command::PutEntry(PutEntry(group, new)) => self.put_entry(&group, *new).map(Reply::PutEntry),
            Command::PauseEntry(pause) => self.pause_entry(&pause).map(Reply::PauseEntry),
            Command::DeleteEntry(delete) => self.delete_entry(&delete.0, &delete.1).map(Reply::DeleteEntry),

            Command::ListTokens(ListTokens) => Ok(Reply::ListTokens(self.tokens().into())),
            Command::CreateToken(new) => self.create_token(*new.0).map(Reply::CreateToken),
            Command::RotateToken(rotate) => self.rotate_token(rotate).map(Reply::RotateToken),
            Command::RevokeToken(revoke) => self.revoke_token(&revoke.0).map(Reply::RevokeToken),
            Command::UseTokens(uses) => Ok({
                self.use_tokens(&uses.0);
                Reply::UseTokens(())
            }),

            Command::Reset(Reset) => Ok({
                self.reset();
                Reply::Reset(())
            }),
            Command::Drain(Drain) => Ok({
                self.drain();
                Reply::Drain(())
            }),
            Command::Stop(Stop) => Ok({
                self.stop();
                Reply::Stop(())
            }),
        }
    }

    /// Returns the changes since the last call, which must be committed before anyone hears of them.
    pub fn changes(&mut self) -> Changes {
        self.queues.save(&mut self.batch);
        self.tags.save(&mut self.batch);
        let idle = self.budgets.drop_idle_draws(&mut self.batch);
        self.drop_draws(idle);
        self.budgets.save(&mut self.batch);
        Changes { clear: mem::take(&mut self.clear), batch: mem::take(&mut self.batch) }
    }

    /// Whether the next commit will delete everything in the store.
    pub const fn clears(&self) -> bool {
        self.clear
    }

    /// Returns what has to be read from the store so that dispatch can go on.
    pub fn wants(&mut self) -> Vec<Wanted> {
        self.dispatcher.take_wanted()
    }

    /// Hands deliveries over to the streams. Everything they are about has been committed.
    pub fn flush(&mut self) {
        self.tags.trim();
        self.leases.leave_payloads();
        self.streams.flush();
        self.listeners.tell_waiters();
    }

    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Sets the zone of cron entries that name none.
    pub fn set_zone(&mut self, zone: jiff::tz::TimeZone) {
        self.crons.zone = zone;
    }

    pub fn zone(&self) -> jiff::tz::TimeZone {
        self.crons.zone.clone()
    }

    /// Returns the number of steps that gates have cost so far.
    #[cfg(test)]
    pub const fn steps_at_gates(&self) -> usize {
        self.budgets.steps
    }

    /// Ends the connections of all streams.
    pub fn close_streams(&self) {
        self.streams.close();
    }

    fn reset(&mut self) {
        for key in self.streams.keys() {
            self.cancel_all(key);
        }
        let empty = Self::empty(self.settings, self.clock.clone(), self.random.clone());
        let before = mem::replace(self, empty);
        // Everything that is not about jobs stays.
        self.queues = before.queues.without_jobs();
        self.streams = before.streams;
        self.dispatcher = before.dispatcher.without_jobs(&self.queues);
        self.listeners = before.listeners.without_jobs();
        self.bulks = before.bulks.without_jobs();
        self.crons = Crons::in_zone(before.crons.zone);
        self.access = before.access;
        self.access.save(&mut self.batch);
        self.draining = before.draining;
        self.clock.forget_undated();
        self.clock.save(&mut self.batch);
        self.clear = true;
    }

    fn cancel_all(&mut self, key: u64) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let held = mem::take(&mut stream.held);
        let reason = protocol::stream::CancelReason::Deleted;
        for id in held.into_values() {
            self.streams.tell(key, outbox::Item::Cancel { id, reason });
        }
        self.dispatcher.feed(&mut self.streams, key);
        self.drop_if_over(key);
    }

    fn drain(&mut self) {
        self.draining = true;
        for key in self.streams.keys() {
            self.streams.tell(key, outbox::Item::Drain(protocol::stream::DrainReason::Shutdown));
        }
    }

    fn stop(&mut self) {
        self.draining = true;
        self.save_leases(u64::MAX);
        self.clock.save(&mut self.batch);
    }

    /// Returns a random number from 0 to 1.
    fn random(&mut self) -> f64 {
        self.random.f64()
    }
}
