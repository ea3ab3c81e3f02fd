//! What is known of all queues together.

use std::collections::VecDeque;

use super::history::{Ended, History, Kept, Point, Range, Seconds, Step};
use super::rates::Rates;
use super::rows::{Rows, Sums};
use crate::clock::Time;
use crate::engine::command::jobs::JobCounts;
use crate::engine::command::report::{Report, StreamCounts, Tally};
use crate::histogram::Histogram;

/// How many minutes and hours are kept.
pub(super) const KEPT: Kept = Kept { minutes: 1_440, hours: 720 };
/// Percentiles are about the times of this many last seconds.
const RECENT: usize = 60;

/// Two kinds of times, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    /// How long jobs were ready before they were delivered.
    pub waited: Histogram,
    /// How long attempts took that ended in success or failure.
    pub ran: Histogram,
}

impl Times {
    fn merge(&mut self, other: &Self) {
        self.waited.merge(&other.waited);
        self.ran.merge(&other.ran);
    }
}

/// The sums over all queues.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub uptime_ms: u64,
    pub now: u64,
    pub counts: JobCounts,
    /// Queues that have jobs or are paused.
    pub queues: u64,
    pub paused: u64,
    pub streams: StreamCounts,
    pub draining: bool,
    pub rates: Rates,
    /// What happened in the last second.
    pub second: Tally,
    /// The times of the last minute.
    pub recent: Times,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    streams: StreamCounts,
    draining: bool,
    rates: Rates,
    times: Times,
    /// The times of the last seconds; none for a second without any.
    recent: VecDeque<Option<Box<Times>>>,
    /// The times of the present second.
    present: Times,
    /// What has happened in this second, and in the one before.
    second: Tally,
    last_second: Tally,
    seconds: Seconds,
    pub history: History,
}

impl Totals {
    /// Takes in the part of a report that is not about single queues.
    pub(super) fn take(&mut self, report: &Report) {
        self.streams = report.streams;
        self.draining = report.draining;
        self.present.waited.merge(&report.waited);
        self.present.ran.merge(&report.ran);
    }

    /// Counts what has happened in all queues.
    pub(super) fn add(&mut self, happened: Tally, now: u64) {
        self.second += happened;
        self.history.add(happened);
        self.rates.add(&happened, now);
    }

    /// Handles the end of a second, and of longer steps.
    pub(super) fn tick(&mut self, sums: &Sums, ended: Ended) {
        if let Some(gap) = ended.second {
            self.last_second = std::mem::take(&mut self.second);
            self.seconds.turn(gap, Point::new(&sums.counts, &self.last_second));
        }
        self.history.turn(ended, &sums.counts, KEPT);
        let present = std::mem::take(&mut self.present);
        let any = present.waited.count() + present.ran.count() > 0;
        self.times.merge(&present);
        self.recent.push_back(any.then(|| present.into()));
        let over = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..over);
    }

    pub(super) const fn streams(&self) -> StreamCounts {
        self.streams
    }

    /// All times since the server started.
    pub(super) fn times(&self) -> Times {
        let mut times = self.times.clone();
        times.merge(&self.present);
        times
    }

    pub(super) fn summary(&self, rows: &Rows, now: Time, uptime_ms: u64) -> Summary {
        let mut recent = self.present.clone();
        self.recent.iter().flatten().for_each(|times| recent.merge(times));
        let Sums { counts, queues, paused } = *rows.totals();
        Summary {
            uptime_ms,
            now: now.wall,
            counts,
            queues,
            paused,
            streams: self.streams,
            draining: self.draining,
            rates: self.rates.now(now.up),
            second: self.last_second,
            recent,
        }
    }

    pub(super) fn history(&self, range: Range) -> Vec<Option<Point>> {
        match range.step() {
            Step::Second => self.seconds.last(range.points()),
            Step::Minute | Step::Hour => self.history.last(range),
        }
    }
}
