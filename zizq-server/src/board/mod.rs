//! What is going on: counts, rates and waiting times of all queues, and how they developed. Statistics are answered
//! from here, so that looking costs neither scans of the store nor work per job.
//!
//! The board asks the engine what has changed since it last asked: once a second, and before it answers anybody, so that
//! its answers include everything that was confirmed before the question. Callers that come together share one report.
//! A queue that changes a thousand times in between is one row of a report.

mod extents;
mod history;
mod rates;
mod rows;
mod stored;
mod totals;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::name::QueueName;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::clock::{self, Time};
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::{GetReport, Report, StreamCounts, Tally};
use crate::job::id::QueueId;
use crate::run::handle::{CallError, Handle};
use crate::store::record::HistoryStep;
pub(crate) use extents::{Known, Start, Version, between};
use history::{Beat, Step};
pub(crate) use history::{Point, Range, Series};
pub(crate) use rates::{Flow, Rates};
use rows::Rows;
pub(crate) use rows::{Order, Position, QueueRow, Selected, Selection};
use totals::Totals;
pub(crate) use totals::{Summary, Times};

/// How often the board looks by itself.
const TICK: Duration = Duration::from_secs(1);

/// The board of an engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Board {
    engine: Handle,
    state: Arc<Mutex<State>>,
    /// When the last report was asked for, by the clock that never steps; locked while one is under way.
    asked_at: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// How often the board has looked by itself.
    ticks: watch::Sender<u64>,
}

/// What metrics show.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The tracked queues.
    pub queues: Vec<QueueRow>,
    /// What has happened in queues while they were not tracked.
    pub untracked: Tally,
    /// The jobs of all queues.
    pub counts: JobCounts,
    /// The number of queues that have jobs or are paused.
    pub all_queues: u64,
    /// All times since the server started.
    pub times: Times,
    pub streams: StreamCounts,
    pub uptime_ms: u64,
}

struct State {
    rows: Rows,
    totals: Totals,
    beat: Beat,
    started: Time,
}

impl Board {
    /// A board that knows nothing but how things developed before the server stopped. [`Self::follow`] keeps it up to
    /// date. `max_tracked` queues have a history and metrics of their own.
    pub(crate) fn new(engine: Handle, history: Vec<HistoryStep>, max_tracked: usize) -> Self {
        let started = clock::now();
        let (rows, beat) = (Rows::new(max_tracked), Beat::starting(started.wall));
        let mut state = State { rows, totals: Totals::default(), beat, started };
        state.restore(history, started);
        Self {
            engine,
            state: Arc::new(Mutex::new(state)),
            asked_at: Arc::default(),
            ticks: watch::Sender::default(),
        }
    }

    /// Keeps the board up to date until the server stops. `keep` stores the history, once a minute.
    pub(crate) async fn follow(self, mut closing: watch::Receiver<bool>, keep: impl Fn(Vec<HistoryStep>)) {
        // In the middle of seconds, so that each second has exactly one tick.
        let first = (TICK / 2 + TICK).saturating_sub(Duration::from_millis(clock::now().wall % 1_000));
        let mut ticks = interval_at(Instant::now() + first, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
            // While the store is closed the board shows what it knew.
            drop(self.refresh().await);
            let steps = self.state().tick(clock::now());
            if !steps.is_empty() {
                keep(steps);
            }
            self.ticks.send_modify(|ticks| *ticks += 1);
        }
    }

    /// Changes each time the board has looked by itself: once a second.
    pub(crate) fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    /// Waits until the board includes everything that was committed before this call.
    ///
    /// # Errors
    /// [`CallError`] when the engine does not answer.
    pub(crate) async fn refresh(&self) -> Result<(), CallError> {
        let (board, now) = (self.clone(), Instant::now());
        // What is reported is not reported again, so a caller that goes away must not take a report with it.
        let task = tokio::spawn(async move { board.look(now).await });
        task.await.map_err(|_| CallError::Stopped)?
    }

    async fn look(&self, asked_by: Instant) -> Result<(), CallError> {
        let mut asked_at = self.asked_at.lock().await;
        if asked_at.is_some_and(|at| at >= asked_by) {
            return Ok(());
        }
        let now = Instant::now();
        loop {
            let report = self.engine.ask(GetReport).await?;
            let is_complete = report.is_complete;
            self.state().take(*report, clock::now());
            if is_complete {
                *asked_at = Some(now);
                return Ok(());
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues of a list, as of the last [refresh](Self::refresh).
    pub(crate) async fn select(&self, selection: Selection) -> Selected {
        let board = self.clone();
        let select = move || board.state().rows.select(&selection, clock::now().up);
        // Ordering a hundred thousand queues takes some milliseconds.
        tokio::task::spawn_blocking(select).await.unwrap_or_default()
    }

    /// The names of all queues of a list, whatever its limit, sorted.
    pub(crate) fn names(&self, selection: &Selection) -> Vec<QueueName> {
        self.state().rows.names(selection)
    }

    /// One queue, if it has jobs, workers or a pause, or had jobs lately.
    pub(crate) fn queue(&self, name: &QueueName) -> Option<QueueRow> {
        self.state().rows.get(name, clock::now().up)
    }

    /// Where the jobs of each queue lie, including everything that was committed before this call.
    ///
    /// # Errors
    /// [`CallError`] when the engine does not answer.
    pub(crate) async fn known(&self) -> Result<Vec<(QueueId, Known)>, CallError> {
        self.refresh().await?;
        Ok(self.state().rows.known())
    }

    /// Takes in where a reader has found the first job of a queue and status.
    pub(crate) fn learn(&self, start: &Start) {
        self.state().rows.learn(start);
    }

    /// The sums over all queues.
    pub(crate) fn summary(&self) -> Summary {
        let (state, now) = (self.state(), clock::now());
        state.totals.summary(&state.rows, now, now.up - state.started.up)
    }

    /// What metrics show.
    pub(crate) fn sample(&self) -> Sample {
        let (state, now) = (self.state(), clock::now().up);
        Sample {
            queues: state.rows.tracked(now),
            untracked: state.rows.untracked(),
            counts: state.rows.totals().counts,
            all_queues: state.rows.totals().queues,
            times: state.totals.times(),
            streams: state.totals.streams(),
            uptime_ms: now - state.started.up,
        }
    }

    /// The most queues that are tracked.
    pub(crate) fn max_tracked(&self) -> usize {
        self.state().rows.max_tracked()
    }

    /// How one queue, or all together, developed; none for a queue that is not tracked.
    pub(crate) fn history(&self, queue: Option<&QueueName>, range: Range) -> Option<Vec<Option<Point>>> {
        let state = self.state();
        match queue {
            None => Some(state.totals.history(range)),
            Some(name) => state.rows.history(name, range),
        }
    }
}

impl State {
    fn take(&mut self, report: Report, now: Time) {
        self.totals.take(&report);
        let happened = self.rows.take(report, now.up);
        self.totals.add(happened, now.up);
    }

    /// Handles the end of a second. Returns what is to be stored of the history.
    fn tick(&mut self, now: Time) -> Vec<HistoryStep> {
        let ended = self.beat.pass(now.wall);
        self.totals.tick(self.rows.totals(), ended);
        self.rows.tick(ended, now.up);
        let steps = [(Step::Minute, ended.minute), (Step::Hour, ended.hour)];
        let ended = steps.into_iter().filter(|(_, ended)| ended.is_some());
        ended.flat_map(|(step, _)| self.to_store(step, now.wall)).collect()
    }
}
