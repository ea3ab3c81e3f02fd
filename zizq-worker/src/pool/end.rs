//! The shutdown of a worker: its phases and their deadlines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use super::{Pool, every};
use crate::ended::{Ended, Why};
use crate::exec::Stop;
use crate::notify;
use crate::shutdown::Phase;

/// How long to wait for the server to accept the last reports, after the last job has ended.
const LAST_REPORTS: Duration = Duration::from_secs(5);

/// The longest pause between heartbeats once the streams are closed. A server may notice a closed stream late, and then
/// keeps its jobs for only a moment.
const RENEWAL_WITHOUT_STREAM: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn stream_ended(&mut self, end: &Result<(), JoinError>) {
        if end.is_err() {
            return self.broke(end);
        }
        if self.phase == Phase::Work || self.streams.are_closed() {
            // Without a stream, only heartbeats keep the leases of running jobs.
            self.renewal = every(self.renewal.period().min(RENEWAL_WITHOUT_STREAM));
            self.renew();
        }
    }

    pub(super) fn broke(&mut self, end: &Result<(), JoinError>) {
        tracing::error!("a task of the worker ended unexpectedly, which is a bug; shutting down: {end:?}");
        self.end(Why::Broken, Phase::Drain);
    }

    /// Moves on to this phase. The first reason counts, unless something breaks.
    pub(super) fn end(&mut self, why: Why, phase: Phase) {
        if self.why.is_none() || why == Why::Broken {
            self.why = Some(why);
        }
        self.advance(phase);
    }

    fn advance(&mut self, phase: Phase) {
        if phase <= self.phase {
            return;
        }
        if self.phase < Phase::Drain {
            tracing::info!(running = self.runs.len(), "shutting down: taking no more jobs");
            notify::is_stopping();
            self.tasks.stats.draining.store(true, Ordering::Relaxed);
            self.table.drain();
            self.renewal = every(self.renewal.period().min(RENEWAL_WITHOUT_STREAM));
        }
        self.phase = phase;
        self.streams.follow(phase);
        let patience = match phase {
            Phase::Work | Phase::Drain => self.shutdown_timeout,
            // The grace period is for running jobs only.
            Phase::Stop if self.runs.is_empty() => LAST_REPORTS,
            Phase::Stop => self.grace + LAST_REPORTS,
            Phase::Kill => LAST_REPORTS,
        };
        self.deadline = Some(Instant::now() + patience);
        if phase >= Phase::Stop {
            let stopped = self.table.stop_all();
            if stopped > 0 {
                tracing::warn!(jobs = stopped, "stopping the jobs that still run");
            }
            self.stopped += stopped;
            if !self.table.is_empty() {
                let patience = humantime::format_duration(patience);
                tracing::info!("waiting up to {patience} for the server to accept the last outcomes");
            }
        }
        if phase == Phase::Kill {
            for run in self.runs.values() {
                run.stop.send_replace(Stop::Now);
            }
        }
    }

    /// A deadline has passed. Returns whether there is something left to wait for.
    pub(super) fn time_is_up(&mut self) -> bool {
        match self.phase {
            Phase::Work | Phase::Drain => {
                self.advance(Phase::Stop);
                true
            }
            Phase::Stop | Phase::Kill => false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        // A closed stream may have left events in the channel.
        let silent = self.streams.are_closed() && self.tasks.events.is_empty();
        self.phase > Phase::Work && silent && self.runs.is_empty() && self.table.is_empty()
    }

    /// Ends all remaining tasks.
    pub(super) async fn close(mut self) -> Ended {
        self.running.shutdown().await;
        self.streams.shutdown().await;
        self.tasks.services.shutdown().await;
        self.tasks.shared.processes.sweep();
        self.tell_late(Duration::ZERO);
        let mut unreported = 0;
        for id in self.table.ids() {
            match &self.tasks.spool {
                Some(folder) => tracing::error!(
                    job = %id, folder = %folder.display(),
                    "the job's outcome did not reach the server; it is kept here, and the next worker reports it"
                ),
                None => tracing::error!(job = %id, "the job's outcome did not reach the server and is lost"),
            }
            unreported += 1;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &self.tasks.stats;
        let is_batch = self.until.is_batch();
        let failed = match is_batch {
            true => u64::try_from(self.failing.len()).unwrap_or(u64::MAX),
            false => count(&stats.failed) + count(&stats.dead),
        };
        let ended = Ended {
            why: self.why.unwrap_or(Why::Asked),
            is_batch,
            succeeded: count(&stats.succeeded).saturating_sub(self.late),
            failed,
            late: self.late,
            released: count(&stats.released),
            stopped: self.stopped,
            unreported,
            time: self.began.elapsed(),
        };
        ended.tell();
        ended
    }
}
