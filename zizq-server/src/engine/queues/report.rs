//! What has happened in queues, and which have changed since they were last reported.
//!
//! Nothing is copied until somebody asks: a queue that changes a thousand times in between is one entry of a list.

use std::mem;
use std::sync::Arc;

use super::{Queue, Queues};
use crate::engine::Engine;
use crate::engine::command::queues::LastRelease;
use crate::engine::command::report::{
    Levels, MAX_LEVELS, QueueReport, QueueTimes, Report, StreamCounts, Tally,
};
use crate::engine::command::streams::StreamKind;
use crate::engine::streams::{State, Stream, Takes};
use crate::histogram::Histogram;
use crate::job::Job;
use crate::job::extent::Extents;
use crate::job::id::QueueId;

/// The most queues in a report: more would delay others.
const SLICE: usize = if cfg!(test) { 3 } else { 1_000 };
/// The most last reports of queues that have gone; the rest is reported as one sum.
const MAX_GONE: usize = if cfg!(test) { 4 } else { 10_000 };

/// What is to be reported.
///
/// - A queue is in `changed` exactly if it says that it has news; some there may have gone.
/// - `streams` counts what is connected, but for `resumed`.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The number of this engine among those of the process.
    engine: u64,
    changed: Vec<QueueId>,
    gone: Vec<QueueReport>,
    others: Tally,
    waited: Histogram,
    ran: Histogram,
    streams: StreamCounts,
    /// Whether times are kept by queue, too.
    by_queue: bool,
}

impl News {
    /// Notes that a queue has changed.
    pub(super) fn note(&mut self, id: QueueId, queue: &mut Queue) {
        if !queue.has_news {
            queue.has_news = true;
            self.changed.push(id);
        }
    }

    /// Keeps what is to be said of a queue that goes.
    pub(super) fn last(&mut self, id: QueueId, queue: &mut Queue) {
        if queue.is_reported || (queue.has_news && self.gone.len() < MAX_GONE) {
            self.gone.push(queue.report(id, true));
        } else {
            self.others += queue.tally;
        }
    }

    pub(super) const fn workers_for_all(&self) -> u64 {
        self.streams.for_all
    }

    const fn streams_of(&mut self, kind: StreamKind) -> &mut u64 {
        match kind {
            StreamKind::Events => &mut self.streams.events,
            StreamKind::Bound => &mut self.streams.bound,
            StreamKind::Poll => &mut self.streams.polls,
        }
    }
}

impl Queue {
    fn report(&mut self, id: QueueId, is_gone: bool) -> QueueReport {
        let entered = mem::replace(&mut self.entered, Extents::NONE);
        QueueReport {
            id,
            state: self.state(0),
            entered,
            is_gone,
            tally: self.tally,
            times: self.times.take(),
        }
    }
}

impl Queues {
    /// Gives the engine a number that sets its reports apart from those of an earlier one.
    pub(in crate::engine) const fn number_engine(&mut self, engine: u64, by_queue: bool) {
        (self.news.engine, self.news.by_queue) = (engine, by_queue);
    }

    pub(super) fn has_news(&mut self, id: QueueId) {
        if let Some(queue) = self.by_id.get_mut(&id) {
            self.news.note(id, queue);
        }
    }

    fn change(&mut self, id: QueueId, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.by_id.get_mut(&id) {
            change(queue);
            self.news.note(id, queue);
        }
    }

    /// Counts what has happened in a queue.
    pub(in crate::engine) fn tally(&mut self, id: QueueId, count: impl FnOnce(&mut Tally)) {
        self.change(id, |queue| count(&mut queue.tally));
    }

    /// Counts one more job in flight.
    pub(in crate::engine) fn hold(&mut self, id: QueueId) {
        self.change(id, |queue| queue.in_flight += 1);
    }

    /// Counts one job in flight less.
    pub(in crate::engine) fn let_go(&mut self, id: QueueId) {
        self.change(id, |queue| queue.in_flight -= 1);
    }

    /// Counts a delivery. `waited`: since when the job was ready, in milliseconds; none for a job that came back.
    pub(in crate::engine) fn delivered(&mut self, id: QueueId, waited: Option<u64>) {
        self.tally(id, |tally| {
            tally.delivered += 1;
            waited.into_iter().for_each(|ms| tally.waited.add(ms));
        });
        if let Some(ms) = waited {
            self.news.waited.add(ms);
            self.time(id, |times| times.waited.add(ms));
        }
    }

    /// Counts the end of an attempt, which took this many milliseconds.
    pub(in crate::engine) fn ended(&mut self, id: QueueId, ran: u64, count: impl FnOnce(&mut Tally)) {
        self.tally(id, |tally| {
            count(tally);
            tally.ran.add(ran);
        });
        self.news.ran.add(ran);
        self.time(id, |times| times.ran.add(ran));
    }

    /// Keeps a time by queue if that is asked for.
    fn time(&mut self, id: QueueId, add: impl FnOnce(&mut QueueTimes)) {
        if self.news.by_queue
            && let Some(queue) = self.by_id.get_mut(&id)
        {
            add(queue.times.get_or_insert_default());
        }
    }

    /// Remembers why a worker gave back a job of a queue.
    pub(in crate::engine) fn note_release(&mut self, id: QueueId, release: Arc<LastRelease>) {
        self.change(id, |queue| queue.last_release = Some(release));
    }

    /// Counts a stream while it is connected.
    pub(in crate::engine) fn connected(&mut self, stream: &Stream) {
        self.count_worker(stream, |workers| *workers += 1);
    }

    /// Stops counting a stream that is connected, and is about to be so no longer or to take from other queues.
    pub(in crate::engine) fn disconnected(&mut self, stream: &Stream) {
        if matches!(stream.state, State::Open(_)) {
            self.count_worker(stream, |workers| *workers -= 1);
        }
    }

    fn count_worker(&mut self, stream: &Stream, count: impl Fn(&mut u64)) {
        count(self.news.streams_of(stream.kind));
        match &stream.takes {
            Takes::All => count(&mut self.news.streams.for_all),
            Takes::Queues(ids) => {
                ids.iter().for_each(|id| self.change(*id, |queue| count(&mut queue.workers)))
            }
        }
    }

    /// Counts a stream that was resumed.
    pub(in crate::engine) const fn resumed(&mut self) {
        self.news.streams.resumed += 1;
    }
}

impl Engine {
    /// Reports what has changed since the last report.
    pub(in crate::engine) fn report(&mut self) -> Box<Report> {
        let news = &mut self.queues.news;
        let gone = news.gone.split_off(news.gone.len().saturating_sub(SLICE));
        let rest = news.changed.len().saturating_sub(SLICE - gone.len());
        let changed = news.changed.split_off(rest);
        let is_complete = news.changed.is_empty() && news.gone.is_empty();
        let mut queues = gone;
        for id in changed {
            if let Some(queue) = self.queues.by_id.get_mut(&id) {
                (queue.has_news, queue.is_reported) = (false, true);
                queues.push(queue.report(id, false));
            }
        }
        let news = &mut self.queues.news;
        Box::new(Report {
            engine: news.engine,
            queues,
            others: mem::take(&mut news.others),
            is_complete,
            waited: mem::take(&mut news.waited),
            ran: mem::take(&mut news.ran),
            streams: news.streams,
            draining: self.draining,
        })
    }

    /// How budgets and cron entries are.
    pub(in crate::engine) fn levels(&self) -> Box<Levels> {
        let budgets = self.budgets.levels(MAX_LEVELS, self.clock.up());
        Box::new(Levels { budgets, entries: self.crons.levels(MAX_LEVELS) })
    }

    /// How long a job has been ready for its delivery, which is now; none if it came back from an earlier one.
    pub(in crate::engine) fn waited(&self, job: &Job) -> Option<u64> {
        let is_new = job.dequeued_at.is_none_or(|at| at < job.ready_at);
        is_new.then(|| self.clock.now().saturating_sub(job.ready_at))
    }

    /// How long the present attempt at a job has taken.
    pub(in crate::engine) fn ran(&self, job: &Job) -> u64 {
        self.clock.now().saturating_sub(job.dequeued_at.unwrap_or(self.clock.now()))
    }
}
