//! The owner of the jobs: carries out what the table of jobs decides, and shuts the worker down.

mod end;
mod pauses;
mod streams;
mod suspects;
mod tick;
mod told;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::id::JobId;
use protocol::job::DeliveredJob;
use protocol::name::{JobType, QueueName};
use protocol::stream::CancelReason;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use self::pauses::{LIMIT, Pauses};
use self::streams::Streams;
use self::suspects::Suspects;
use self::told::{About, Line};
use crate::config::{Config, Fixed, Until};
use crate::ended::{Ended, Why};
use crate::event::Event;
use crate::exec::{Handler, Handlers, Ran, Shared, Stop};
use crate::label::Labels;
use crate::outcome::{Outcome, millis};
use crate::report::{Heartbeat, Report};
use crate::report::{Progress, Settled};
use crate::retry_after::LONGEST;
use crate::route::{RouteMap, RouteName, Stream};
use crate::screen;
use crate::shutdown::Phase;
use crate::stats::Stats;
use crate::stream::Source;
use crate::table::{Effect, Slots, Table};
use crate::thin::Thinner;

/// The longest rest of a route whose jobs all fail in the same way: the jobs may be at fault after all.
const SUSPICION: Duration = Duration::from_secs(30);

/// After this many rests in a row, a worker with `--once` gives a route up.
const TRIES_ONCE: u32 = 3;

/// The tasks around the pool, and the channels to them.
pub(crate) struct Tasks {
    pub(crate) source: Source,
    pub(crate) shared: Shared,
    pub(crate) stats: Arc<Stats>,
    pub(crate) services: JoinSet<()>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) renewals: mpsc::Sender<Vec<Heartbeat>>,
    /// The folder that keeps outcomes until the server has them, if there is one.
    pub(crate) spool: Option<PathBuf>,
}

/// A running job.
struct Run {
    id: JobId,
    about: About,
    since: Instant,
    stop: watch::Sender<Stop>,
    handler: Option<Arc<Handler>>,
}

pub(crate) struct Pool {
    table: Table,
    handlers: Handlers,
    streams: Streams,
    tasks: Tasks,
    running: JoinSet<Ran>,
    runs: HashMap<task::Id, Run>,
    /// Reports that the outbox has no room for yet.
    unsent: VecDeque<Report>,
    renewal: Interval,
    progress: HashMap<JobId, Progress>,
    /// A job reported progress since the last heartbeat.
    progress_is_news: bool,
    /// Routes that rest because this worker cannot serve them now.
    at_fault: Pauses<RouteName>,
    /// Failures that may be this worker's fault.
    suspects: Suspects,
    /// Routes that `--once` has given up: the worker ends when the others have nothing left.
    given_up: HashSet<RouteName>,
    /// Routes whose endpoint or command is too busy.
    busy: Pauses<RouteName>,
    /// Jobs that were given back.
    put_back: Pauses<JobId>,
    /// Jobs for which this worker has no route.
    unknown: Pauses<(QueueName, JobType)>,
    tick: Interval,
    idle_since: Instant,
    asks_for_rest: bool,
    /// How many jobs had been started when the server last said that none is left.
    none_left_at: Option<u64>,
    /// When the server was last reachable.
    server_seen: Instant,
    labels: Labels,
    thinner: Thinner,
    /// Log lines about failed jobs, held until the server has said what follows.
    untold: HashMap<JobId, Line>,
    /// Jobs that failed and have not succeeded since, if the exit code depends on it.
    failing: HashSet<JobId>,
    /// Jobs that were given back and have not come again, with the time they become ready.
    given_back: HashMap<JobId, Instant>,
    /// Successes that the server refused.
    late: u64,
    began: Instant,
    why: Option<Why>,
    ticks: u32,
    until: Until,
    total: u16,
    phase: Phase,
    /// When the next phase of the shutdown begins.
    deadline: Option<Instant>,
    shutdown_timeout: Duration,
    grace: Duration,
    /// Settings that a reload does not change.
    fixed: Fixed,
    /// Jobs that were stopped.
    stopped: usize,
}

impl Pool {
    pub(crate) fn new(config: &Config, tasks: Tasks) -> Result<Self, String> {
        let starts_left = config.until.max_jobs.map_or(u64::MAX, Into::into);
        let mut pool = Self {
            table: Table::new(usize::MAX, starts_left),
            handlers: Handlers::new(&[], &tasks.shared)?,
            streams: Streams::new(tasks.source.clone()),
            tasks,
            running: JoinSet::new(),
            runs: HashMap::new(),
            unsent: VecDeque::new(),
            renewal: every(config.lease / 3),
            progress: HashMap::new(),
            progress_is_news: false,
            at_fault: Pauses::new(),
            suspects: Suspects::default(),
            given_up: HashSet::new(),
            busy: Pauses::new(),
            put_back: Pauses::new(),
            unknown: Pauses::new(),
            tick: every(tick::PACE),
            idle_since: Instant::now(),
            asks_for_rest: false,
            none_left_at: None,
            server_seen: Instant::now(),
            labels: Labels::default(),
            thinner: Thinner::new(config.log.0),
            untold: HashMap::new(),
            failing: HashSet::new(),
            given_back: HashMap::new(),
            late: 0,
            began: Instant::now(),
            why: None,
            ticks: 0,
            until: config.until,
            total: u16::MAX,
            phase: Phase::Work,
            deadline: None,
            shutdown_timeout: config.shutdown_timeout,
            grace: Duration::ZERO,
            fixed: config.fixed(),
            stopped: 0,
        };
        pool.set_routes(config)?;
        Ok(pool)
    }

    /// Takes jobs by these routes from now on. Running jobs are not affected.
    fn set_routes(&mut self, config: &Config) -> Result<(), String> {
        let handlers = Handlers::new(&config.routes, &self.tasks.shared)?;
        let map = RouteMap::new(handlers.routes())?;
        let wanted = Stream::of(config.routes.iter().map(|route| &**route));
        self.handlers = handlers;
        self.labels = Labels::new(config.label.clone());
        let slots = wanted.iter().map(|stream| u64::from(stream.slots)).sum::<u64>();
        self.tasks
            .shared
            .processes
            .allow(slots.min(config.total.map_or(u64::MAX, |total| total.get().into())));
        self.grace = self
            .handlers
            .routes()
            .filter_map(|route| route.grace())
            .chain([config.grace])
            .max()
            .unwrap_or_default();
        self.total = config.total.map_or(u16::MAX, Into::into);
        let room_of: HashMap<&RouteName, u16> = wanted
            .iter()
            .flat_map(|stream| stream.routes.iter().map(|route| (route, stream.slots)))
            .collect();
        let slots: Vec<Slots> = self
            .handlers
            .routes()
            .map(|route| Slots {
                route: route.name.clone(),
                limit: route.concurrency.get().into(),
                room: room_of.get(&route.name).copied().unwrap_or_default().into(),
            })
            .collect();
        self.table.set_routes(map, slots, self.total.into());
        self.streams.set(wanted, self.total);
        self.given_up.clear();
        Ok(())
    }

    /// Runs jobs until the worker has shut down.
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
                _ = self.tick.tick() => self.tick(),
                Some(end) = self.streams.next_end() => self.stream_ended(&end),
                Some(end) = self.tasks.services.join_next() => self.broke(&end),
                Ok(()) = phase.changed() => {
                    let next = *phase.borrow_and_update();
                    self.end(Why::Asked, next);
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
            Event::Unreadable { lease, why } => {
                let (pause, _) = self.put_back.hit(lease.id, Instant::now(), LIMIT);
                tracing::error!(job = %lease.id, "{why}; given back for {pause:.1?}");
                self.table.unreadable(lease, millis(pause), why);
            }
            Event::Cancelled(cancel) => {
                if self.table.cancelled(cancel.id) {
                    tracing::warn!(job = %cancel.id, "{}; stopping it", why_cancelled(cancel.reason));
                }
            }
            Event::Progress { id, progress } => self.progressed(id, progress),
            Event::Renewed { asked, reply } => {
                let gone: HashSet<JobId> = reply.lost.into_iter().chain(reply.cancel).collect();
                for lease in asked.into_iter().filter(|lease| gone.contains(&lease.id)) {
                    if self.table.lost(lease) {
                        tracing::warn!(job = %lease.id, "{}; stopping it", why_cancelled(CancelReason::LeaseLost));
                    }
                }
            }
            Event::Settled(Settled { lease, refused, is_success, after }) => {
                self.tell_next(lease.id, after);
                let is_still_ours = self.table.settled(lease, refused.is_none());
                match refused {
                    Some(why) if is_still_ours => {
                        tracing::debug!(job = %lease.id, "{why}; it is reported under its new lease");
                    }
                    Some(why) => {
                        tracing::warn!(job = %lease.id, "{why}");
                        self.late += u64::from(is_success);
                    }
                    None => {}
                }
            }
            Event::Remaining(left) => self.remaining(left),
            Event::AskedToEnd => self.end(Why::Asked, Phase::Drain),
            Event::NotAllowed(why) => self.end(Why::NotAllowed(why), Phase::Drain),
            Event::Reload(config) => self.reload(&config),
        }
    }

    fn apply_effects(&mut self) {
        loop {
            let effects = self.table.take_effects();
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.apply(effect));
        }
        if self.table.is_spent() && self.phase == Phase::Work {
            let most = self.until.max_jobs.map_or(0, Into::into);
            self.end(Why::Enough(most), Phase::Drain);
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Start(job, route) => self.start(job, &route),
            Effect::Stop(id) => {
                let stop = if self.phase == Phase::Kill { Stop::Now } else { Stop::Gently };
                for run in self.runs.values().filter(|run| run.id == id) {
                    run.stop.send_replace(stop);
                }
            }
            Effect::Report(report) => self.unsent.push_back(report),
            Effect::NoRoute(job) => {
                let key = (job.queue.clone(), job.job_type.clone());
                let (pause, _) = self.unknown.hit(key, Instant::now(), LIMIT);
                let (queue, job_type) = (&job.queue, &job.job_type);
                tracing::error!(
                    job = %job.id, %queue, %job_type,
                    "no route for this job; given back for {pause:.1?}: add a route for its type, or take the queue out"
                );
                let reason = format!("this worker has no route for type `{job_type}` of queue `{queue}`");
                self.table.give_back(job.id, millis(pause), reason);
            }
        }
    }

    fn start(&mut self, job: Box<DeliveredJob>, route: &str) {
        tracing::debug!(job = %job.id, queue = %job.queue, job_type = %job.job_type, "started");
        let (stop_in, stop) = watch::channel(Stop::No);
        let (id, handler) = (job.id, self.handlers.of(route).cloned());
        let (since, about) = (Instant::now(), About::of(&job));
        let label = if screen::is_on() { self.labels.of(&job) } else { String::new() };
        self.tasks.stats.begins(id, format!("{about} {label}"), since);
        self.idle_since = since;
        let runs = handler.clone();
        let task = self.running.spawn(async move {
            match runs {
                Some(handler) => handler.run(job, stop).await,
                None => not_run(format!("no route for queue `{}`", job.queue)),
            }
        });
        self.runs.insert(task.id(), Run { id, about, since, stop: stop_in, handler });
    }

    fn finished(&mut self, run: Result<(task::Id, Ran), JoinError>) {
        let (task, ran) = run.unwrap_or_else(|e| (e.id(), not_run(format!("the worker has a bug: {e}"))));
        let Some(Run { id, about, since, handler, .. }) = self.runs.remove(&task) else { return };
        let Ran { outcome, usage } = ran;
        let route = handler.map_or_else(|| "".into(), |handler| handler.route.name.clone());
        let outcome = self.told_apart(id, outcome, &route);
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tasks.stats.ends(id, &outcome, ms, usage);
        self.progress.remove(&id);
        self.idle_since = Instant::now();
        let line = about.line(&outcome, ms, usage);
        let outcome = self.paused(id, outcome, &route);
        self.note(id, &outcome);
        self.tell(id, line, &outcome);
        self.table.finished(id, outcome, usage);
        if self.at_fault.is_on(&route, Instant::now()) {
            self.set_credits();
        }
    }

    /// Decides whether a suspect failure is the job's fault or this worker's.
    fn told_apart(&mut self, id: JobId, outcome: Outcome, route: &RouteName) -> Outcome {
        match outcome {
            Outcome::Suspect(failure) if self.suspects.is_fault(route, id, &failure.message) => {
                Outcome::BackOff { reason: format!("all jobs fail in the same way: {}", failure.message) }
            }
            Outcome::Suspect(failure) => Outcome::Failure(failure),
            Outcome::Success(_) | Outcome::Failure(_) => {
                self.suspects.clear(route);
                outcome
            }
            Outcome::Release { .. } | Outcome::BackOff { .. } | Outcome::Stopped => outcome,
        }
    }

    /// Sets the pause of a job that is given back, and lets a route rest that this worker cannot serve.
    fn paused(&mut self, id: JobId, outcome: Outcome, route: &RouteName) -> Outcome {
        let now = Instant::now();
        match outcome {
            Outcome::BackOff { reason } => {
                let limit = if self.suspects.has(route) { SUSPICION } else { LIMIT };
                let (rest, is_new) = self.at_fault.hit(route.clone(), now, limit);
                if is_new {
                    tracing::error!(%route, "this worker cannot serve the route; it rests for {rest:.1?}: {reason}");
                }
                if self.until.once && self.at_fault.in_a_row(route) >= TRIES_ONCE {
                    self.give_up(route);
                }
                // Twice as long: when the route resumes, jobs that were not tried yet come first.
                Outcome::Release { reason, pause: Some(rest * 2) }
            }
            Outcome::Release { reason, pause: asked } => {
                let (own, _) = self.put_back.hit(id, now, LIMIT);
                let pause = match asked {
                    Some(asked) => asked.max(own),
                    None => self.busy.hit(route.clone(), now, LIMIT).0.max(own),
                };
                Outcome::Release { reason, pause: Some(pause.min(LONGEST)) }
            }
            Outcome::Success(_) | Outcome::Failure(_) | Outcome::Suspect(_) => {
                self.at_fault.clear(route);
                self.busy.clear(route);
                self.put_back.clear(&id);
                outcome
            }
            Outcome::Stopped => outcome,
        }
    }

    /// Stops trying to serve a route, so that the worker can end.
    fn give_up(&mut self, route: &RouteName) {
        if self.given_up.insert(route.clone()) {
            tracing::error!(%route, "this worker cannot serve the route and gives it up");
            self.streams.give_up(&self.given_up);
        }
    }
}

/// Why the server cancels a running job, for the log.
const fn why_cancelled(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Deleted => "the job was deleted",
        CancelReason::TimedOut => "the job exceeded its timeout",
        CancelReason::LeaseLost => "the job's lease was lost, so it no longer belongs to this worker",
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn not_run(reason: String) -> Ran {
    Ran { outcome: Outcome::BackOff { reason }, usage: None }
}
