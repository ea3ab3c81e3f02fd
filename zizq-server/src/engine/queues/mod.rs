//! Queues by name and number, and the number of jobs in each.

mod commands;
pub(super) mod cursors;
pub(super) mod lanes;
mod report;
pub(super) mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::job::Status;
use protocol::name::QueueName;

use crate::engine::budgets::drawing::Drawing;
use crate::engine::command::jobs::{JobCounts, Seen};
use crate::engine::command::queues::{LastRelease, OldestReadyAt, QueueState};
use crate::engine::command::report::{QueueTimes, Tally};
use crate::engine::streams::lease::Lease;
use crate::hash::{HashMap, HashSet};
use crate::job::Job;
use crate::job::counts::Counts;
use crate::job::draw::DrawId;
use crate::job::extent::Extents;
use crate::job::id::{QueueId, Stamp};
use crate::store::batch::Batch;
use crate::store::record::QueueRecord;
use lanes::{Head, Lanes, Oldest};
use report::News;

#[derive(Debug)]
pub(in crate::engine) struct Queue {
    pub record: QueueRecord,
    in_flight: u64,
    /// Ready jobs that draw on no budget.
    pub lanes: Lanes,
    /// Ready jobs that draw on budgets.
    pub drawing: Drawing,
    /// Streams that wait for a job, the longest waiting first, with when they began to wait.
    pub waiting: VecDeque<(u64, u64)>,
    /// Whether it is in the list of queues to dispatch.
    pub to_dispatch: bool,
    /// Whether its record must be written at the end of the turn.
    changed: bool,
    /// Whether its name is known to be stored apart from its record.
    named: bool,
    /// Whether it is in the list of queues that may no longer be needed.
    may_go: bool,
    /// The number of streams that take from it by name.
    takers: usize,
    /// The number of connected streams that take from it by name.
    workers: u64,
    tally: Tally,
    /// Where jobs have come to lie since it was last reported.
    entered: Extents,
    /// Its times since it was last reported, if they are kept.
    times: Option<Box<QueueTimes>>,
    /// Whether it is in the list of queues to report.
    has_news: bool,
    /// Whether it was ever reported.
    is_reported: bool,
    pub last_release: Option<Arc<LastRelease>>,
}

/// All queues that there is a reason to know.
///
/// - `by_name` and `by_id` have the same queues. While the engine runs, no number is given to a second queue.
/// - A queue that has changed is in `changed`, one without jobs that may go in `may_go`, and one that has changed since it
///   was last reported in `news`, each once.
#[derive(Debug, Default)]
pub(in crate::engine) struct Queues {
    by_name: HashMap<QueueName, QueueId>,
    by_id: HashMap<QueueId, Queue>,
    changed: Vec<QueueId>,
    /// Queues that had no job when they were last checked.
    may_go: Vec<QueueId>,
    news: News,
    next: u32,
}

impl Queues {
    /// Loads a queue from the store.
    pub(in crate::engine) fn load(&mut self, id: QueueId, record: QueueRecord) {
        self.next = self.next.max(id.0 + 1);
        self.by_name.insert(record.name.clone(), id);
        let lanes = Lanes::new(id, DrawId::NONE, record.counts.ready == 0);
        let entered = Extents::of_counts(&record.counts);
        self.by_id.insert(id, Queue { entered, ..Queue::new(record, lanes) });
        self.has_news(id);
    }

    /// Keeps the numbers of queues without jobs from being given out again.
    pub(in crate::engine) fn skip(&mut self, id: QueueId) {
        self.next = self.next.max(id.0 + 1);
    }

    /// Returns the number of a queue, and creates the queue if needed.
    pub(in crate::engine) fn id(&mut self, name: &QueueName) -> QueueId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = QueueId(self.next);
        self.next += 1;
        self.by_name.insert(name.clone(), id);
        let record = QueueRecord { name: name.clone(), counts: Counts::default(), paused: false };
        self.by_id.insert(id, Queue::new(record, Lanes::new(id, DrawId::NONE, true)));
        self.may_go(id);
        id
    }

    /// Counts a stream that takes from these queues by name.
    pub(in crate::engine) fn count_taker(&mut self, ids: &[QueueId]) {
        for id in ids {
            if let Some(queue) = self.by_id.get_mut(id) {
                queue.takers += 1;
            }
        }
    }

    /// Stops counting a stream that took from these queues.
    pub(in crate::engine) fn forget_taker(&mut self, ids: &[QueueId]) {
        for id in ids {
            if let Some(queue) = self.by_id.get_mut(id) {
                queue.takers -= 1;
            }
            self.may_go(*id);
        }
    }

    /// Notes that a queue may no longer be needed.
    fn may_go(&mut self, id: QueueId) {
        if let Some(queue) = self.by_id.get_mut(&id)
            && !queue.may_go
        {
            queue.may_go = true;
            self.may_go.push(id);
        }
    }

    /// Drops the queues that have no jobs, are not paused, and that no stream takes from: memory does not keep every
    /// name that was ever asked for.
    pub(in crate::engine) fn drop_unused(&mut self) -> Vec<(QueueId, Drawing)> {
        let mut gone = Vec::new();
        for id in self.may_go.drain(..) {
            let Some(queue) = self.by_id.get_mut(&id) else { continue };
            queue.may_go = false;
            if queue.record.counts.total() == 0 && !queue.record.paused && queue.takers == 0 {
                self.by_name.remove(&queue.record.name);
                gone.extend(self.by_id.remove(&id).map(|mut queue| {
                    self.news.last(id, &mut queue);
                    (id, queue.drawing)
                }));
            }
        }
        gone
    }

    pub(in crate::engine) fn get(&self, id: QueueId) -> Option<&Queue> {
        self.by_id.get(&id)
    }

    pub(in crate::engine) fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.by_id.get_mut(&id)
    }

    pub(in crate::engine) fn name(&self, id: QueueId) -> Option<&QueueName> {
        self.by_id.get(&id).map(|queue| &queue.record.name)
    }

    pub(in crate::engine) fn ids(&self) -> impl Iterator<Item = QueueId> {
        self.by_id.keys().copied()
    }

    /// Returns the number of a queue that is known already.
    pub(in crate::engine) fn known(&self, name: &QueueName) -> Option<QueueId> {
        self.by_name.get(name).copied()
    }

    /// Returns the numbers of the known queues among these.
    pub(in crate::engine) fn ids_of(&self, names: &[QueueName]) -> Vec<QueueId> {
        names.iter().filter_map(|name| self.known(name)).collect()
    }

    /// Returns a job that no worker holds, as seen from outside.
    pub(in crate::engine) fn seen(&self, job: Arc<Job>) -> Option<Seen> {
        let queue = self.name(job.queue)?.clone();
        Some(Seen { status: job.status, queue, job })
    }

    /// Returns a job in flight, as seen from outside.
    pub(in crate::engine) fn seen_held(&self, lease: &Lease) -> Option<Seen> {
        let queue = self.name(lease.job.queue)?.clone();
        Some(Seen { job: lease.job.clone(), queue, status: Status::InFlight })
    }

    /// Moves a job in flight from one queue to another.
    pub(in crate::engine) fn move_held(&mut self, from: QueueId, to: QueueId, stamp: Stamp) {
        self.count_down(from, Status::InFlight);
        self.count_up(to, Status::InFlight, stamp);
        self.let_go(from);
        self.hold(to);
    }

    /// Counts one more job of a status.
    pub(in crate::engine) fn count_up(&mut self, id: QueueId, status: Status, stamp: Stamp) {
        self.count(id, |queue| {
            *queue.record.counts.of_mut(status) += 1;
            queue.entered.of_mut(status).include(stamp);
        });
    }

    /// Counts one job of a status less.
    pub(in crate::engine) fn count_down(&mut self, id: QueueId, status: Status) {
        self.count(id, |queue| {
            // A damaged store may have a wrong count.
            let count = queue.record.counts.of_mut(status);
            *count = count.saturating_sub(1);
        });
        if self.by_id.get(&id).is_some_and(|queue| queue.record.counts.total() == 0) {
            self.may_go(id);
        }
    }

    fn count(&mut self, id: QueueId, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.by_id.get_mut(&id) {
            change(queue);
            if !queue.changed {
                queue.changed = true;
                self.changed.push(id);
            }
            self.news.note(id, queue);
        }
    }

    /// Pauses or resumes a queue.
    pub(in crate::engine) fn pause(&mut self, id: QueueId, paused: bool) {
        if let Some(queue) = self.by_id.get_mut(&id) {
            queue.record.paused = paused;
        }
        // Marks the record as changed, so that it is written.
        self.count(id, |_| {});
        self.may_go(id);
    }

    /// Returns since when the oldest ready job of each of these queues has been ready.
    pub(in crate::engine) fn oldest_ready(&self, names: &[QueueName]) -> Vec<OldestReadyAt> {
        let of_queue = |name: &QueueName| {
            let queue = self.known(name).and_then(|id| self.by_id.get(&id));
            match queue.map(|queue| queue.lanes.oldest().or(queue.drawing.oldest())) {
                None | Some(Oldest::None) => OldestReadyAt::None,
                Some(Oldest::Since(_, at)) => OldestReadyAt::At(at),
                Some(Oldest::InStore) => OldestReadyAt::InStore,
            }
        };
        names.iter().map(of_queue).collect()
    }

    /// Returns the state of the queues with these names, or of all that have a job or are paused.
    pub(in crate::engine) fn states(&self, names: Option<&[QueueName]>) -> Vec<QueueState> {
        let for_all = self.news.workers_for_all();
        let state = |queue: &Queue| queue.state(for_all);
        match names {
            None => {
                let used = |queue: &&Queue| queue.record.paused || queue.record.counts.total() > 0;
                self.by_id.values().filter(used).map(state).collect()
            }
            Some(names) => names
                .iter()
                .map(|name| match self.known(name).and_then(|id| self.by_id.get(&id)) {
                    Some(queue) => state(queue),
                    None => QueueState { workers: for_all, ..QueueState::empty(name.clone()) },
                })
                .collect(),
        }
    }

    /// Writes the records of the queues that have changed.
    pub(in crate::engine) fn save(&mut self, batch: &mut Batch) {
        for id in self.changed.drain(..) {
            if let Some(queue) = self.by_id.get_mut(&id) {
                queue.changed = false;
                batch.put_queue(id, &queue.record);
                if !std::mem::replace(&mut queue.named, true) {
                    batch.put_queue_name(id, &queue.record.name);
                }
            }
        }
    }

    /// Returns the number of jobs in these queues, or in all.
    pub(in crate::engine) fn counts(&self, names: Option<&[QueueName]>) -> JobCounts {
        let mut sum = JobCounts::default();
        let mut add = |queue: &Queue| {
            sum.stored.add(&queue.record.counts);
            sum.in_flight += queue.in_flight;
        };
        match names {
            None => self.by_id.values().for_each(&mut add),
            Some(names) => {
                let distinct: HashSet<&QueueName> = names.iter().collect();
                let ids = distinct.into_iter().filter_map(|name| self.by_name.get(name));
                ids.filter_map(|id| self.by_id.get(id)).for_each(&mut add);
            }
        }
        sum
    }

    /// Forgets every job; names, numbers and waiting streams stay.
    pub(in crate::engine) fn without_jobs(mut self) -> Self {
        self.changed.clear();
        self.may_go = self.by_id.keys().copied().collect();
        for (id, queue) in &mut self.by_id {
            queue.record.counts = Counts::default();
            queue.record.paused = false;
            queue.changed = false;
            queue.may_go = true;
            queue.in_flight = 0;
            queue.last_release = None;
            self.news.note(*id, queue);
            queue.lanes = Lanes::new(*id, DrawId::NONE, true);
            queue.drawing = Drawing::default();
        }
        self
    }
}

impl Queue {
    fn new(record: QueueRecord, lanes: Lanes) -> Self {
        Self {
            record,
            in_flight: 0,
            lanes,
            drawing: Drawing::default(),
            waiting: VecDeque::new(),
            to_dispatch: false,
            changed: false,
            named: false,
            may_go: false,
            takers: 0,
            workers: 0,
            tally: Tally::default(),
            entered: Extents::NONE,
            times: None,
            has_news: false,
            is_reported: false,
            last_release: None,
        }
    }

    /// Returns its state, where this many streams take from all queues.
    fn state(&self, for_all: u64) -> QueueState {
        QueueState {
            name: self.record.name.clone(),
            paused: self.record.paused,
            counts: JobCounts { stored: self.record.counts, in_flight: self.in_flight },
            workers: self.workers + for_all,
            last_release: self.last_release.clone(),
        }
    }

    /// Returns the lanes of jobs with this draw.
    pub(in crate::engine) fn lanes_of_mut(&mut self, draw: DrawId) -> Option<&mut Lanes> {
        if draw.is_none() { Some(&mut self.lanes) } else { self.drawing.lanes_mut(draw) }
    }

    /// Returns the next job, judging by the gates that are open; none while the queue is paused.
    pub(in crate::engine) fn head(&self) -> Head {
        if self.record.paused {
            return Head::None;
        }
        let plain = self.lanes.head();
        let drawing = self.drawing.head();
        match (plain.order(), drawing.order()) {
            (plain, Some(other)) if plain.is_none_or(|plain| other < plain) => drawing,
            _ => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(queues: &mut Queues) -> Vec<QueueId> {
        queues.drop_unused().into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn a_queue_without_jobs_or_takers_is_forgotten() {
        let mut queues = Queues::default();
        let [asked, taken, full, left, paused] =
            ["asked", "taken", "full", "left", "paused"].map(|name| queues.id(&name.parse().unwrap()));
        for id in [full, left] {
            queues.count_up(id, Status::Ready, Stamp::MIN);
        }
        queues.count_down(left, Status::Ready);
        queues.pause(paused, true);
        queues.count_taker(&[taken]);
        queues.count_taker(&[taken]);
        queues.forget_taker(&[taken]);
        assert_eq!(dropped(&mut queues), [asked, left]);
        assert!(queues.get(left).is_none() && queues.known(&"left".parse().unwrap()).is_none());
        assert!(queues.get(taken).is_some() && queues.get(full).is_some());
        assert_eq!(dropped(&mut queues), []);
        // A pause is kept, and can end.
        queues.pause(taken, true);
        queues.forget_taker(&[taken]);
        assert_eq!(dropped(&mut queues), []);
        queues.pause(taken, false);
        // A queue is forgotten as soon as its last stream or its last job is gone.
        queues.count_down(full, Status::Ready);
        queues.pause(paused, false);
        assert_eq!(dropped(&mut queues), [taken, full, paused]);
        let mut batch = Batch::default();
        queues.save(&mut batch);
        assert!(batch.is_empty(), "what is gone is not written again");
    }
}
