//! The owner of the jobs: starts and stops them as the table says, and brings the worker to its end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::id::JobId;
use protocol::job::DeliveredJob;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::clock;
use crate::config::Config;
use crate::event::Event;
use crate::exec::{Executors, Stop};
use crate::outcome::Outcome;
use crate::report::{Lease, Report};
use crate::shutdown::{Ended, Phase};
use crate::table::{Effect, Table};

/// How long the server has to take the last reports, after the last job was ended.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// The longest pause between renewals once the streams are closed. A server may notice that late, and then keeps what
/// the streams held only for a moment.
const RENEWAL_WITHOUT_STREAM: Duration = Duration::from_secs(1);

/// The tasks around the pool, and how it talks with them.
pub(crate) struct Tasks {
    pub(crate) streams: JoinSet<()>,
    pub(crate) services: JoinSet<()>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) renewals: mpsc::Sender<Vec<Lease>>,
}

/// A job that runs.
struct Run {
    id: JobId,
    since: Instant,
    stop: watch::Sender<Stop>,
}

pub(crate) struct Pool {
    table: Table,
    executors: Arc<Executors>,
    tasks: Tasks,
    running: JoinSet<Outcome>,
    runs: HashMap<task::Id, Run>,
    /// What the outbox has not taken yet.
    unsent: VecDeque<Report>,
    renewal: Interval,
    phase: Phase,
    /// When the next phase begins by itself.
    deadline: Option<Instant>,
    shutdown_timeout: Duration,
    grace: Duration,
    ended: Ended,
}

impl Pool {
    pub(crate) fn new(config: &Config, executors: Arc<Executors>, tasks: Tasks) -> Self {
        let limits = config.routes.iter().map(|route| (route.queue.clone(), route.concurrency.get().into()));
        Self {
            table: Table::new(limits),
            executors,
            tasks,
            running: JoinSet::new(),
            runs: HashMap::new(),
            unsent: VecDeque::new(),
            renewal: every(config.lease / 3),
            phase: Phase::Work,
            deadline: None,
            shutdown_timeout: config.shutdown_timeout,
            grace: config.grace,
            ended: Ended::default(),
        }
    }

    /// Runs jobs until the worker has come to its end.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) -> Ended {
        let reports = self.tasks.reports.clone();
        loop {
            self.apply_effects();
            if self.is_done() {
                break;
            }
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                Some(event) = self.tasks.events.recv() => self.happened(event),
                Some(run) = self.running.join_next_with_id() => self.finished(run),
                Ok(permit) = reports.reserve(), if !self.unsent.is_empty() => {
                    if let Some(report) = self.unsent.pop_front() {
                        permit.send(report);
                    }
                }
                _ = self.renewal.tick() => self.renew(),
                Some(end) = self.tasks.streams.join_next() => {
                    // The streams may have seen the end before the pool did.
                    let next = *phase.borrow();
                    self.advance(next);
                    self.stream_ended(&end);
                }
                Some(end) = self.tasks.services.join_next() => self.broke(&end),
                Ok(()) = phase.changed() => {
                    let next = *phase.borrow_and_update();
                    self.advance(next);
                }
                () = sleep_until(deadline), if self.deadline.is_some() => if !self.time_is_up() { break },
            }
        }
        self.close().await
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::StreamTurned | Event::RenewalFailed => self.renew(),
            Event::Delivered(job) => self.table.delivered(job),
            Event::Cancelled(cancel) => {
                if self.table.cancelled(cancel.id) {
                    tracing::warn!(job = %cancel.id, "to be ended: the server says {:?}", cancel.reason);
                }
            }
            Event::Renewed { asked, reply } => {
                let gone: HashSet<JobId> = reply.lost.into_iter().chain(reply.cancel).collect();
                for lease in asked.into_iter().filter(|lease| gone.contains(&lease.id)) {
                    if self.table.lost(lease) {
                        tracing::warn!(job = %lease.id, "to be ended: the server says that it is not this worker's any more");
                    }
                }
            }
            Event::Settled { lease, accepted } => self.table.settled(lease, accepted),
        }
    }

    fn apply_effects(&mut self) {
        for effect in self.table.take_effects() {
            match effect {
                Effect::Start(job) => self.start(job),
                Effect::Stop(id) => {
                    let stop = if self.phase == Phase::Kill { Stop::Now } else { Stop::Gently };
                    for run in self.runs.values().filter(|run| run.id == id) {
                        run.stop.send_replace(stop);
                    }
                }
                Effect::Report(report) => self.unsent.push_back(report),
            }
        }
    }

    fn start(&mut self, job: Box<DeliveredJob>) {
        tracing::debug!(job = %job.id, queue = %job.queue, job_type = %job.job_type, "started");
        let (stop_in, stop) = watch::channel(Stop::No);
        let (id, executor) = (job.id, self.executors.of(&job.queue));
        let task = self.running.spawn(async move {
            match executor {
                Some(executor) => executor.run(&job, stop).await,
                None => not_run(format!("no route for queue `{}`", job.queue)),
            }
        });
        self.runs.insert(task.id(), Run { id, since: Instant::now(), stop: stop_in });
    }

    fn finished(&mut self, run: Result<(task::Id, Outcome), JoinError>) {
        let (task, outcome) = run.unwrap_or_else(|e| (e.id(), not_run(format!("the worker has a bug: {e}"))));
        let Some(Run { id, since, .. }) = self.runs.remove(&task) else { return };
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Outcome::Success => tracing::info!(job = %id, ms, "succeeded"),
            Outcome::Failure(failure) => tracing::warn!(job = %id, ms, "failed: {}", failure.message),
            Outcome::NotRun { reason, .. } => {
                tracing::error!(job = %id, "could not be run, given back: {reason}")
            }
            Outcome::Stopped => tracing::warn!(job = %id, ms, "was ended"),
        }
        self.table.finished(id, outcome);
    }

    /// Tells the server what is still being worked on. While the last list is on its way another is not needed.
    fn renew(&mut self) {
        let leases = self.table.leases();
        if !leases.is_empty() && self.tasks.renewals.try_send(leases).is_err() {
            tracing::debug!("leases are being renewed already");
        }
        self.renewal.reset();
    }

    fn stream_ended(&mut self, end: &Result<(), JoinError>) {
        if self.phase == Phase::Work {
            return self.broke(end);
        }
        if self.tasks.streams.is_empty() {
            // Without a stream it is up to this worker to keep what it still runs.
            self.renew();
        }
    }

    fn broke(&mut self, end: &Result<(), JoinError>) {
        tracing::error!("a part of the worker has ended, which it never should; shutting down: {end:?}");
        self.ended.broken = true;
        self.advance(Phase::Drain);
    }

    fn advance(&mut self, phase: Phase) {
        if phase <= self.phase {
            return;
        }
        if self.phase < Phase::Drain {
            tracing::info!(running = self.runs.len(), "shutting down: no more jobs are taken");
            self.table.drain();
            let renewal = self.renewal.period().min(RENEWAL_WITHOUT_STREAM);
            self.renewal = every(renewal);
        }
        self.phase = phase;
        let patience = match phase {
            Phase::Work | Phase::Drain => self.shutdown_timeout,
            Phase::Stop => self.grace + LAST_REPORTS,
            Phase::Kill => LAST_REPORTS,
        };
        self.deadline = Some(Instant::now() + patience);
        if phase >= Phase::Stop {
            let stopped = self.table.stop_all();
            if stopped > 0 {
                tracing::warn!(jobs = stopped, "ending the jobs that still run");
            }
            self.ended.stopped += stopped;
        }
        if phase == Phase::Kill {
            for run in self.runs.values() {
                run.stop.send_replace(Stop::Now);
            }
        }
    }

    /// Whether there is something left to wait for.
    fn time_is_up(&mut self) -> bool {
        match self.phase {
            Phase::Work | Phase::Drain => {
                self.advance(Phase::Stop);
                true
            }
            Phase::Stop | Phase::Kill => false,
        }
    }

    fn is_done(&self) -> bool {
        // What a stream read last may still be on its way here when the stream has ended.
        let silent = self.tasks.streams.is_empty() && self.tasks.events.is_empty();
        self.phase > Phase::Work && silent && self.runs.is_empty() && self.table.is_empty()
    }

    /// Ends every task that is left.
    async fn close(mut self) -> Ended {
        self.running.shutdown().await;
        self.tasks.streams.shutdown().await;
        self.tasks.services.shutdown().await;
        for id in self.table.ids() {
            tracing::error!(job = %id, "the server could not be told what became of the job");
            self.ended.unreported += 1;
        }
        tracing::info!("ended");
        self.ended
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn not_run(reason: String) -> Outcome {
    Outcome::NotRun { reason, ready_at: clock::now_ms().saturating_add(5_000) }
}
