//! Requests about what has happened since they were last made: the source of all statistics.

use std::ops::{AddAssign, Sub};

use protocol::job::Status;
use protocol::name::{BudgetKey, CronName};

use super::queues::QueueState;
use crate::histogram::Histogram;
use crate::job::extent::Extents;
use crate::job::id::QueueId;

/// Asks for what has changed since the last report. Only one may ask: what is reported is not reported again.
#[derive(Debug)]
pub struct GetReport;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which engine this is about. After a restart of the engine all counters begin at 0 again.
    pub engine: u64,
    /// The queues that have changed since the last report; only a part of them if there are many.
    pub queues: Vec<QueueReport>,
    /// What happened in queues that came and went so fast that they are not reported one by one.
    pub others: Tally,
    /// Whether there are no more: otherwise the next report has the next part.
    pub is_complete: bool,
    /// How long jobs waited since they had become ready, in milliseconds.
    pub waited: Histogram,
    /// How long attempts took that ended in success or failure, in milliseconds.
    pub ran: Histogram,
    pub streams: StreamCounts,
    pub draining: bool,
}

#[cfg(test)]
impl Report {
    /// A complete report about these queues and nothing else.
    pub(crate) fn of_queues(engine: u64, queues: Vec<QueueReport>) -> Self {
        Self {
            engine,
            queues,
            others: Tally::default(),
            is_complete: true,
            waited: Histogram::default(),
            ran: Histogram::default(),
            streams: StreamCounts::default(),
            draining: false,
        }
    }
}

/// Asks how budgets and cron entries are.
#[derive(Debug)]
pub struct GetLevels;

/// How budgets and cron entries are; of each kind at most [`MAX_LEVELS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// The oldest ones, so that those that are here stay here.
    pub budgets: Vec<BudgetLevel>,
    /// By name.
    pub entries: Vec<EntryLevel>,
}

/// The most budgets, and the most cron entries, in [`Levels`].
pub(crate) const MAX_LEVELS: usize = 1_000;

/// How a budget is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetLevel {
    pub key: BudgetKey,
    pub allocation: u32,
    /// Its tokens.
    pub available: u32,
    /// Unfinished jobs that draw on it and are not in flight.
    pub parked: u64,
}

/// How a cron entry is. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryLevel {
    pub group: CronName,
    pub name: CronName,
    pub last_at: Option<u64>,
    pub next_at: Option<u64>,
    /// How many of its times went by without a job, since the engine started.
    pub missed: u64,
}

/// What is new of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReport {
    pub id: QueueId,
    /// Its state, but for the streams that take from all queues: they are not counted here.
    pub state: QueueState,
    /// Where jobs have come to lie since its last report; some may have left since.
    pub entered: Extents,
    /// Whether the queue has gone since: this is its last report, and another queue of the same name has another number.
    pub is_gone: bool,
    pub tally: Tally,
    /// How long its jobs waited, and how long attempts took, since its last report; only if that is [asked
    /// for](crate::engine::Settings::queue_histograms).
    pub times: Option<Box<QueueTimes>>,
}

/// Two kinds of times of a queue, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueTimes {
    pub waited: Histogram,
    pub ran: Histogram,
}

impl QueueTimes {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.waited.merge(&other.waited);
        self.ran.merge(&other.ran);
    }
}

/// The streams of all queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Connected streams of server-sent events.
    pub events: u64,
    /// Connected streams of NDJSON and MessagePack.
    pub bound: u64,
    /// Waiting polls.
    pub polls: u64,
    /// Connected streams that take from all queues.
    pub for_all: u64,
    /// How often a stream was resumed.
    pub resumed: u64,
}

/// How often something has happened in a queue since the engine started. These numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// New jobs.
    pub enqueued: u64,
    /// Enqueues that found the job with their unique key.
    pub duplicates: u64,
    /// Enqueues that were folded into a batch.
    pub folded: u64,
    pub delivered: u64,
    pub completed: u64,
    /// Failures after which the job is tried again.
    pub retried: u64,
    /// Jobs that are dead, for whatever reason.
    pub dead: u64,
    /// Attempts that took longer than they may, after which the job is tried again.
    pub timed_out: u64,
    /// Jobs that were given back by their workers.
    pub released: u64,
    /// Jobs that came back because the connection of their worker ended.
    pub returned: u64,
    /// Jobs that came back because their leases ran out.
    pub expired: u64,
    /// Jobs that were deleted by a call.
    pub deleted: u64,
    /// The time that jobs were ready before their delivery.
    pub waited: Sum,
    /// The time that attempts took.
    pub ran: Sum,
}

/// A number of lengths of time, and their sum in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub ms: u64,
}

impl Sum {
    pub const fn add(&mut self, ms: u64) {
        self.count += 1;
        self.ms = self.ms.saturating_add(ms);
    }

    /// The mean, in milliseconds.
    pub const fn mean(self) -> Option<u64> {
        self.ms.checked_div(self.count)
    }
}

/// Applies a function to each member of two tallies.
macro_rules! members {
    ($one:expr, $other:expr, $each:expr) => {{
        let (one, other): (&mut Tally, &Tally) = ($one, $other);
        let each: fn(&mut u64, u64) = $each;
        each(&mut one.enqueued, other.enqueued);
        each(&mut one.duplicates, other.duplicates);
        each(&mut one.folded, other.folded);
        each(&mut one.delivered, other.delivered);
        each(&mut one.completed, other.completed);
        each(&mut one.retried, other.retried);
        each(&mut one.dead, other.dead);
        each(&mut one.timed_out, other.timed_out);
        each(&mut one.released, other.released);
        each(&mut one.returned, other.returned);
        each(&mut one.expired, other.expired);
        each(&mut one.deleted, other.deleted);
        for (one, other) in [(&mut one.waited, other.waited), (&mut one.ran, other.ran)] {
            each(&mut one.count, other.count);
            each(&mut one.ms, other.ms);
        }
    }};
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        members!(self, &other, |one, other| *one += other);
    }
}

impl Sub for Tally {
    type Output = Self;

    /// What came in since an earlier tally.
    fn sub(mut self, earlier: Self) -> Self {
        members!(&mut self, &earlier, |one, earlier| *one = one.saturating_sub(earlier));
        self
    }
}

impl Tally {
    /// The counter of a failure, after which the job has this status.
    pub const fn failures_of(&mut self, status: Status, timed_out: bool) -> &mut u64 {
        match (status, timed_out) {
            (Status::Dead, _) => &mut self.dead,
            (_, true) => &mut self.timed_out,
            (_, false) => &mut self.retried,
        }
    }

    /// Failures of all kinds: those after which the job is tried again, and those after which it is dead.
    pub const fn failed(&self) -> u64 {
        self.retried + self.timed_out + self.dead
    }
}
