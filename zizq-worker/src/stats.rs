//! The counters of a worker, for metrics, readiness and the live view.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::id::JobId;
use protocol::plural::plural;
use tokio::time::Instant;
use zizq_log::grouped;
use zizq_spans::Spans;

use crate::logging::one_line;
use crate::outcome::Outcome;
use crate::report::{Progress, Usage};
use crate::rest::Rest;

/// The counters of a worker.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) started: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) stopped: AtomicU64,
    pub(crate) cpu_ms: AtomicU64,
    pub(crate) run_ms: AtomicU64,
    /// Outcomes that the server does not have yet.
    pub(crate) undelivered: AtomicU64,
    pub(crate) draining: AtomicBool,
    spans: Spans,
    board: Mutex<Board>,
}

/// The current state.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) slots: BTreeMap<JobId, Slot>,
    /// Whether each stream is open, by its queues.
    pub(crate) streams: BTreeMap<String, bool>,
    /// The last failed jobs, the newest last.
    pub(crate) failures: VecDeque<Failed>,
    pub(crate) rest: Rest,
}

/// A failed job.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) at: Instant,
    pub(crate) what: String,
    pub(crate) message: String,
}

/// How many failed jobs are kept.
const FAILURES: usize = 5;

/// A running job.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its queue, type and label.
    pub(crate) what: String,
    pub(crate) since: Instant,
    pub(crate) progress: Progress,
}

/// A duration for people, without insignificant units.
pub(crate) fn rounded(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let unit = match seconds {
        0..600 => 1,
        600..36_000 => 60,
        _ => 3_600,
    };
    humantime::format_duration(Duration::from_secs(seconds / unit * unit)).to_string()
}

impl Stats {
    pub(crate) fn new(spans: Spans) -> Self {
        Self { spans, ..Self::default() }
    }

    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begins(&self, id: JobId, what: String, since: Instant) {
        self.started.fetch_add(1, Ordering::Relaxed);
        let slot = Slot { what, since, progress: Progress::default() };
        self.board().slots.insert(id, slot);
    }

    pub(crate) fn ends(&self, id: JobId, outcome: &Outcome, run_ms: u64, usage: Option<Usage>) {
        {
            let mut board = self.board();
            let slot = board.slots.remove(&id);
            if let (Some(slot), Outcome::Failure(failure)) = (slot, outcome) {
                let (at, message) = (Instant::now(), one_line(&failure.message));
                board.failures.push_back(Failed { at, what: slot.what, message });
                let surplus = board.failures.len().saturating_sub(FAILURES);
                board.failures.drain(..surplus);
            }
        }
        let counter = match outcome {
            Outcome::Success(_) => &self.succeeded,
            Outcome::Failure(failure) if failure.kill == Some(true) => &self.dead,
            Outcome::Failure(_) | Outcome::Suspect(_) => &self.failed,
            Outcome::Release { .. } | Outcome::BackOff { .. } => &self.released,
            Outcome::Stopped => &self.stopped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.run_ms.fetch_add(run_ms, Ordering::Relaxed);
        self.cpu_ms.fetch_add(usage.map_or(0, |usage| usage.cpu_ms), Ordering::Relaxed);
    }

    /// Records that a stream opened or closed.
    pub(crate) fn stream_is(&self, queues: &str, open: bool) {
        if let Some(stream) = self.board().streams.get_mut(queues) {
            *stream = open;
        }
    }

    /// All queues, comma-separated.
    pub(crate) fn queues(&self) -> String {
        self.board().streams.keys().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// The progress in a sentence: `12,345 of 50,000 jobs done, 3 failed; about 4m 10s to go`.
    pub(crate) fn how_it_goes(&self) -> String {
        let failed = self.failed.load(Ordering::Relaxed) + self.dead.load(Ordering::Relaxed);
        let (done, time) = {
            let board = self.board();
            let running = u64::try_from(board.slots.len()).unwrap_or_default();
            (
                board.rest.done(self.started.load(Ordering::Relaxed), running),
                board.rest.time_left(Instant::now()),
            )
        };
        let done = match done {
            Some((done, total)) => {
                format!("{} of {} {} done", grouped(done), grouped(total), plural(total, "job", "jobs"))
            }
            None => {
                let ended = self.ended();
                format!("{} {} ended", grouped(ended), plural(ended, "job has", "jobs have"))
            }
        };
        let time = time.map_or_else(String::new, |time| format!("; about {} to go", rounded(time)));
        format!("{done}, {} failed{time}", grouped(failed))
    }

    /// Whether jobs can come: all streams are open, and the worker is not shutting down.
    pub(crate) fn is_ready(&self) -> bool {
        let board = self.board();
        let all = !board.streams.is_empty() && board.streams.values().all(|&open| open);
        all && !self.draining.load(Ordering::Relaxed)
    }

    /// Whether the server is reachable: a stream is open.
    pub(crate) fn is_reached(&self) -> bool {
        self.board().streams.values().any(|&open| open)
    }

    /// How many jobs have ended.
    pub(crate) fn ended(&self) -> u64 {
        let counters = [&self.succeeded, &self.failed, &self.dead, &self.released, &self.stopped];
        counters.into_iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// The counters in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (running, streams, open) = {
            let board = self.board();
            (board.slots.len(), board.streams.len(), board.streams.values().filter(|&&open| open).count())
        };
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, lines: &[(&str, f64)]| {
            let name = format!("zizq_worker_{name}");
            let mut written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in lines {
                written = written.and_then(|()| writeln!(text, "{name}{labels} {value}"));
            }
            // Writing to a string cannot fail.
            written.unwrap_or_default();
        };
        #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
        let float = |n: u64| n as f64;
        #[expect(clippy::cast_precision_loss, reason = "these are small")]
        let small = |n: usize| n as f64;
        let version = concat!(r#"{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
        metric("build_info", "gauge", "The version of the worker", &[(version, 1.0)]);
        metric(
            "jobs_started_total",
            "counter",
            "Attempts at jobs that were started",
            &[("", float(get(&self.started)))],
        );
        metric(
            "jobs_ended_total",
            "counter",
            "Attempts that ended, by outcome; stopped: given back because the worker ended",
            &[
                (r#"{outcome="completed"}"#, float(get(&self.succeeded))),
                (r#"{outcome="retried"}"#, float(get(&self.failed))),
                (r#"{outcome="dead"}"#, float(get(&self.dead))),
                (r#"{outcome="released"}"#, float(get(&self.released))),
                (r#"{outcome="stopped"}"#, float(get(&self.stopped))),
            ],
        );
        let seconds = |counter: &AtomicU64| float(get(counter)) / 1000.0;
        metric("run_seconds_total", "counter", "Total run time of jobs", &[("", seconds(&self.run_ms))]);
        metric("cpu_seconds_total", "counter", "Total CPU time of commands", &[("", seconds(&self.cpu_ms))]);
        metric("jobs_running", "gauge", "Running jobs", &[("", small(running))]);
        let undelivered = float(get(&self.undelivered));
        metric(
            "outcomes_undelivered",
            "gauge",
            "Outcomes that the server does not have yet",
            &[("", undelivered)],
        );
        metric("streams", "gauge", "Wanted streams", &[("", small(streams))]);
        metric("streams_open", "gauge", "Open streams", &[("", small(open))]);
        let lost = float(self.spans.lost());
        metric("spans_lost_total", "counter", "Spans that did not reach the collector", &[("", lost)]);
        text
    }
}
