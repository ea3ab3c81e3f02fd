//! Dispatch matches ready jobs with waiting streams. The cost of a job does not depend on how many streams are idle.

use std::collections::{BTreeSet, VecDeque};

use smallvec::SmallVec;

use super::{Stream, Streams, Takes};
use crate::engine::Engine;
use crate::engine::queues::Queues;
use crate::engine::queues::lanes::{Head, Wanted};
use crate::hash::{HashMap, HashSet};
use crate::job::Job;
use crate::job::draw::DrawId;
use crate::job::id::{QueueId, Stamp};
use crate::job::place::LaneAt;
use crate::store::view::Part;

/// The next jobs of all queues in order, for streams that take from every queue. Kept from the first such stream on.
#[derive(Debug, Default)]
struct Heads {
    active: bool,
    order: BTreeSet<(u16, Stamp, QueueId)>,
    listed: HashMap<QueueId, (u16, Stamp)>,
}

impl Heads {
    fn rebuild(&mut self, queues: &Queues) {
        self.order.clear();
        self.listed.clear();
        if self.active {
            queues.ids().for_each(|id| self.update(queues, id));
        }
    }

    /// Begins to keep the order, for good: starting over with every stream would cost more.
    fn activate(&mut self, queues: &Queues) {
        if !self.active {
            self.active = true;
            self.rebuild(queues);
        }
    }

    /// Follows a possible change of the head of this queue.
    fn update(&mut self, queues: &Queues, id: QueueId) {
        if !self.active {
            return;
        }
        let head = queues.get(id).and_then(|queue| queue.head().order());
        let before = self.listed.get(&id).copied();
        if before == head {
            return;
        }
        if let Some((priority, stamp)) = before {
            self.order.remove(&(priority, stamp, id));
            self.listed.remove(&id);
        }
        if let Some((priority, stamp)) = head {
            self.order.insert((priority, stamp, id));
            self.listed.insert(id, (priority, stamp));
        }
    }

    fn first(&self) -> Option<QueueId> {
        self.order.first().map(|(_, _, id)| *id)
    }

    fn first_order(&self) -> Option<(u16, Stamp)> {
        self.order.first().map(|(priority, stamp, _)| (*priority, *stamp))
    }
}

/// The result of trying to give a stream a job.
enum Fed {
    /// It got a job.
    Job,
    /// It has no credit.
    Full,
    /// There is no job for it.
    Nothing,
    /// The store must be read first.
    Later,
}

/// Who waits for what: the streams that may take more jobs, and the queues that may have jobs for them.
///
/// - A queue is in `queues` at most once, a stream in `to_feed` at most once: their own `to_dispatch` and `to_feed` say
///   whether they are.
/// - A stream that waits is in `waiting_for_all`, or in the list of every queue that it takes from, each in the order
///   in which they began to wait; `awaited` are the queues whose lists are not empty.
/// - `heads` is told of every change of the first job of a queue.
#[derive(Debug, Default)]
pub(in crate::engine) struct Dispatcher {
    /// The next jobs of all queues, kept while a stream takes from all of them.
    heads: Heads,
    /// Queues that may have jobs for waiting streams.
    queues: VecDeque<QueueId>,
    /// Streams that may take more jobs.
    to_feed: VecDeque<u64>,
    /// The number of times that a stream began to wait.
    waits: u64,
    /// Streams that wait for a job of any queue, the longest waiting first, with when they began to wait.
    waiting_for_all: VecDeque<(u64, u64)>,
    /// Queues that streams wait for by name.
    awaited: HashSet<QueueId>,
    /// What has to be read from the store before more jobs can be delivered.
    wanted: HashSet<Wanted>,
}

impl Dispatcher {
    /// Notes that a stream may take more jobs.
    pub(in crate::engine) fn feed(&mut self, streams: &mut Streams, key: u64) {
        if let Some(stream) = streams.get_mut(key)
            && !stream.to_feed
        {
            stream.to_feed = true;
            self.to_feed.push_back(key);
        }
    }

    /// Notes that a queue may have a job for a waiting stream.
    pub(in crate::engine) fn dispatch_later(&mut self, queues: &mut Queues, id: QueueId) {
        self.heads.update(queues, id);
        if let Some(queue) = queues.get_mut(id)
            && !queue.to_dispatch
        {
            queue.to_dispatch = true;
            self.queues.push_back(id);
        }
    }

    /// Notes that the first job of a queue may have changed.
    pub(in crate::engine) fn follow_head(&mut self, queues: &Queues, id: QueueId) {
        self.heads.update(queues, id);
    }

    /// Begins to keep the first jobs of all queues in order.
    pub(in crate::engine) fn order_heads(&mut self, queues: &Queues) {
        self.heads.activate(queues);
    }

    /// Returns the order of the first job of all queues.
    pub(in crate::engine) fn first_order(&self) -> Option<(u16, Stamp)> {
        self.heads.first_order()
    }

    /// Whether no queue is left that may have jobs for waiting streams.
    pub(in crate::engine) fn has_no_queue(&self) -> bool {
        self.queues.is_empty()
    }

    /// Returns the next queue that may have jobs for waiting streams.
    pub(in crate::engine) fn next_queue(&mut self) -> Option<QueueId> {
        self.queues.pop_front()
    }

    /// Returns the queues that streams wait for; none if they wait for any queue, or for more than `most`.
    pub(in crate::engine) fn awaited(&self, most: usize) -> Option<SmallVec<[QueueId; 8]>> {
        let are_few = self.waiting_for_all.is_empty() && self.awaited.len() <= most;
        are_few.then(|| self.awaited.iter().copied().collect())
    }

    /// Notes what has to be read from the store.
    pub(in crate::engine) fn want(&mut self, wanted: Wanted) {
        self.wanted.insert(wanted);
    }

    /// Returns what has to be read from the store, each once.
    pub(in crate::engine) fn take_wanted(&mut self) -> Vec<Wanted> {
        self.wanted.drain().collect()
    }

    /// Takes the stream that has waited longest for a queue off its list.
    fn next_waiting(&mut self, queues: &mut Queues, streams: &mut Streams, id: QueueId) -> Option<u64> {
        let queue = queues.get_mut(id)?;
        let for_all = self.waiting_for_all.front().map(|(since, _)| *since);
        let for_queue = queue.waiting.front().map(|(since, _)| *since);
        let all_first = match (for_all, for_queue) {
            (Some(all), Some(queue)) => all < queue,
            (all, _) => all.is_some(),
        };
        if all_first {
            let (_, key) = self.waiting_for_all.pop_front()?;
            streams.get_mut(key)?.waits_for_all = false;
            Some(key)
        } else {
            let (_, key) = queue.waiting.pop_front()?;
            if queue.waiting.is_empty() {
                self.awaited.remove(&id);
            }
            streams.get_mut(key)?.waits_for.remove(&id);
            Some(key)
        }
    }

    /// Makes a stream with credit wait for every queue that it takes from.
    fn wait(&mut self, queues: &mut Queues, streams: &mut Streams, key: u64) {
        let Some(stream) = streams.get_mut(key) else { return };
        if !stream.has_credit() {
            return;
        }
        self.waits += 1;
        match &stream.takes {
            Takes::All => {
                if !std::mem::replace(&mut stream.waits_for_all, true) {
                    self.waiting_for_all.push_back((self.waits, key));
                }
            }
            Takes::Queues(ids) => {
                for id in ids {
                    if let Some(queue) = queues.get_mut(*id)
                        && stream.waits_for.insert(*id)
                    {
                        if queue.waiting.is_empty() {
                            self.awaited.insert(*id);
                        }
                        queue.waiting.push_back((self.waits, key));
                    }
                }
            }
        }
    }

    /// Takes a stream off every waiting list.
    pub(in crate::engine) fn stop_waiting(&mut self, queues: &mut Queues, streams: &mut Streams, key: u64) {
        let Some(stream) = streams.get_mut(key) else { return };
        let ids = std::mem::take(&mut stream.waits_for);
        if std::mem::take(&mut stream.waits_for_all) {
            self.waiting_for_all.retain(|(_, waiting)| *waiting != key);
        }
        for id in ids {
            if let Some(queue) = queues.get_mut(id) {
                queue.waiting.retain(|(_, waiting)| *waiting != key);
                if queue.waiting.is_empty() {
                    self.awaited.remove(&id);
                }
            }
        }
    }

    /// Returns the first job, by priority and then by age, of the queues that a stream takes from.
    fn best_head(&self, queues: &Queues, stream: &Stream) -> Option<(QueueId, Head)> {
        let head_of = |id: QueueId| queues.get(id).map(|queue| (id, queue.head()));
        match &stream.takes {
            Takes::All => self.heads.first().and_then(head_of),
            Takes::Queues(ids) => {
                let heads = ids.iter().filter_map(|id| head_of(*id));
                heads
                    .filter_map(|(id, head)| Some((head.order()?, id, head)))
                    .min_by_key(|(order, ..)| *order)
                    .map(|(_, id, head)| (id, head))
            }
        }
    }

    /// Follows the deletion of all jobs: the waiting streams go on waiting.
    pub(in crate::engine) fn without_jobs(mut self, queues: &Queues) -> Self {
        self.wanted.clear();
        self.heads.rebuild(queues);
        self
    }
}

impl Engine {
    /// Delivers every job that can be delivered. Afterwards no stream with credit waits for a queue with a ready job,
    /// unless something must be read first ([`Engine::wants`]).
    pub fn dispatch(&mut self) {
        self.send_missed();
        if self.draining {
            return;
        }
        self.budgets.settle(self.clock.up());
        self.feed_streams();
        self.dispatch_queues();
    }

    fn is_at_limit(&self) -> bool {
        self.settings.in_flight_limit > 0 && self.leases.len() >= self.settings.in_flight_limit
    }

    /// Gives the streams that came back for more one job each in turn, until they have enough.
    fn feed_streams(&mut self) {
        let mut later = Vec::new();
        while !self.is_at_limit()
            && let Some(key) = self.dispatcher.to_feed.pop_front()
        {
            match self.feed_one(key) {
                Fed::Job => self.dispatcher.to_feed.push_back(key),
                Fed::Later => later.push(key),
                done @ (Fed::Full | Fed::Nothing) => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.to_feed = false;
                    }
                    if matches!(done, Fed::Nothing) {
                        self.dispatcher.wait(&mut self.queues, &mut self.streams, key);
                    }
                }
            }
        }
        self.dispatcher.to_feed.extend(later);
    }

    fn dispatch_queues(&mut self) {
        let mut later = Vec::new();
        while !self.is_at_limit()
            && let Some(id) = self.next_to_dispatch()
        {
            if self.dispatch_queue(id) {
                if let Some(queue) = self.queues.get_mut(id) {
                    queue.to_dispatch = false;
                }
            } else {
                later.push(id);
            }
        }
        self.dispatcher.queues.extend(later);
    }

    /// Gives the jobs of a queue to the streams that wait for them. Returns false if it must be tried again.
    fn dispatch_queue(&mut self, id: QueueId) -> bool {
        loop {
            self.pass_gates(id);
            let Some(queue) = self.queues.get(id) else { return true };
            if queue.head() == Head::None {
                return true;
            }
            if self.is_at_limit() {
                return false;
            }
            let Some(key) = self.dispatcher.next_waiting(&mut self.queues, &mut self.streams, id) else {
                return true;
            };
            match self.feed_one(key) {
                Fed::Job | Fed::Nothing => self.dispatcher.wait(&mut self.queues, &mut self.streams, key),
                Fed::Full => {}
                Fed::Later => self.dispatcher.feed(&mut self.streams, key),
            }
        }
    }

    fn feed_one(&mut self, key: u64) -> Fed {
        let Some(stream) = self.streams.get(key) else { return Fed::Full };
        if !stream.has_credit() {
            return Fed::Full;
        }
        let (id, head) = loop {
            self.wake_for(key);
            let best =
                self.streams.get(key).and_then(|stream| self.dispatcher.best_head(&self.queues, stream));
            let Some((id, head)) = best else { return Fed::Nothing };
            if head.draw().is_none() || !self.pass_gates(id) {
                break (id, head);
            }
        };
        match head {
            Head::None => Fed::Nothing,
            Head::InStore { wanted, .. } => {
                self.dispatcher.wanted.insert(wanted);
                Fed::Later
            }
            Head::Job { priority, draw, .. } => {
                let lanes = self.queues.get_mut(id).and_then(|queue| queue.lanes_of_mut(draw));
                let popped = lanes.and_then(|lanes| lanes.pop(priority, &mut self.ready_bytes));
                let Some((job, wanted)) = popped else { return Fed::Nothing };
                self.dispatcher.wanted.extend(wanted);
                if !draw.is_none() {
                    self.relist(id, draw);
                }
                self.dispatcher.heads.update(&self.queues, id);
                self.deliver(key, job);
                Fed::Job
            }
        }
    }

    /// Takes in the lanes that a queue has in the store.
    pub fn provide_lanes(&mut self, id: QueueId, lanes: Vec<(DrawId, u16, Stamp)>) {
        if let Some(queue) = self.queues.get_mut(id) {
            queue.lanes.discover([]);
        }
        for of_draw in lanes.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some((draw, ..)) = of_draw.first().copied() else { continue };
            if !draw.is_none() {
                self.add_draw(id, draw);
            }
            let lanes = self.queues.get_mut(id).and_then(|queue| queue.lanes_of_mut(draw));
            if let Some(lanes) = lanes {
                lanes.discover(of_draw.iter().map(|(_, priority, from)| (*priority, *from)));
            }
            self.relist(id, draw);
        }
        self.dispatcher.dispatch_later(&mut self.queues, id);
    }

    /// Takes in ready jobs that were read from a lane.
    pub fn provide_jobs(&mut self, lane: LaneAt, part: Part<Job, Stamp>) {
        let idle = part.items.into_iter().filter(|job| self.leases.get(job.id).is_none());
        let jobs = idle.map(std::sync::Arc::new).collect();
        if let Some(lanes) = self.queues.get_mut(lane.queue).and_then(|queue| queue.lanes_of_mut(lane.draw)) {
            lanes.refill(lane, jobs, part.next, &mut self.ready_bytes);
        }
        self.relist(lane.queue, lane.draw);
        self.dispatcher.dispatch_later(&mut self.queues, lane.queue);
    }
}
