//! The streams that take jobs, and what each holds.

mod connect;
mod deliver;
pub(super) mod dispatch;
pub(super) mod lease;
pub(super) mod renew;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use smallvec::SmallVec;

use crate::engine::command::queues::LastRelease;
use crate::engine::command::streams::{Link, StreamKind, WorkerInfo, WorkerState};
use crate::engine::outbox::{Item, Outbox};
use crate::engine::queues::Queues;
use crate::hash::{HashMap, HashSet};
use crate::job::id::QueueId;

/// The queues that a stream takes jobs from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum Takes {
    All,
    Queues(SmallVec<[QueueId; 2]>),
}

#[derive(Debug)]
pub(in crate::engine) struct Stream {
    pub id: u128,
    pub kind: StreamKind,
    pub takes: Takes,
    /// The most jobs it holds at a time; 0: no limit.
    pub prefetch: u32,
    /// How long its leases last, in milliseconds; none: as long as it is open.
    pub lease_ms: Option<u64>,
    /// How long its leases wait for it to come back, in milliseconds.
    pub resume_ms: u64,
    /// Whether it wants no more jobs.
    pub rests: bool,
    /// The jobs that it holds, in the order of delivery.
    pub held: BTreeMap<LeaseToken, JobId>,
    /// When its peer last took a heartbeat, or connected, by the clock that never steps.
    pub renewed_at: u64,
    /// How long that renews a lease, from the delivery or from when the peer last connected, in milliseconds.
    pub renewal_ms: u64,
    /// When its connection was made, by the clock that never steps.
    pub came_at: u64,
    /// Whether more of its leases ran out than end in one turn: it then gets nothing more, and is closed with the last
    /// of them.
    pub lapses: bool,
    /// When its connection was made, by the wall clock.
    pub connected_at: u64,
    pub about: WorkerInfo,
    pub last_release: Option<Arc<LastRelease>>,
    pub state: State,
    /// The number of its current connection.
    pub connection: u64,
    /// The number of its last event.
    pub event: u64,
    /// Cancellations that its worker, away at the moment, has not heard of.
    pub missed: Vec<Item>,
    /// Jobs that its worker missed while it was away; they are sent again before others.
    pub again: VecDeque<JobId>,
    /// What this turn will send.
    pub pending: Vec<Item>,
    /// When its leases are checked next, by the clock that never steps.
    pub check_at: Option<u64>,
    /// The queues that it waits for at present; meaningless if it takes from all.
    pub waits_for: HashSet<QueueId>,
    pub waits_for_all: bool,
    /// Whether it is in the list of streams to feed.
    pub to_feed: bool,
}

#[derive(Debug)]
pub(in crate::engine) enum State {
    Open(Arc<Outbox>),
    /// Its connection broke; its leases wait until this time, by the clock that never steps.
    Broken {
        until: u64,
    },
    /// Its connection broke, and is not waited for: its leases end as time permits.
    Gone {
        since: u64,
    },
    /// A poll that has been answered: each of its leases runs by itself.
    Answered,
}

impl Stream {
    /// Whether it can take one more job.
    pub(in crate::engine) fn has_credit(&self) -> bool {
        let room = self.prefetch == 0 || self.held.len() < self.prefetch as usize;
        let wants = room && !self.rests && !self.lapses && self.again.is_empty();
        wants && matches!(&self.state, State::Open(outbox) if outbox.has_room())
    }

    /// Whether nothing depends on it.
    pub(in crate::engine) fn is_over(&self, now: u64) -> bool {
        !matches!(self.state, State::Open(_)) && self.held.is_empty() && self.waits_until(now).is_none()
    }

    /// Returns the time until which it waits for its worker even if it holds nothing, because it has news for the
    /// worker.
    pub(in crate::engine) fn waits_until(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Broken { until } if now < until && !self.missed.is_empty() => Some(until),
            _ => None,
        }
    }

    /// Keeps the cancellations that this turn was going to send, for when the worker comes back.
    pub(in crate::engine) fn miss(&mut self) {
        self.missed.extend(self.pending.drain(..).filter(|item| matches!(item, Item::Cancel { .. })));
    }

    /// Returns when a lease that began at `since` ends, unless a heartbeat for its job alone says otherwise.
    pub(in crate::engine) fn lease_end(&self, since: u64) -> Option<u64> {
        match (&self.state, self.kind) {
            (State::Broken { until: end } | State::Gone { since: end }, _) => Some(*end),
            (_, StreamKind::Events) => {
                let most = since.max(self.came_at).saturating_add(self.renewal_ms);
                Some(since.max(self.renewed_at.min(most)) + self.lease_ms?)
            }
            (_, StreamKind::Bound | StreamKind::Poll) => Some(since + self.lease_ms?),
        }
    }
}

/// All streams, also those that are away and those that only hold leases.
///
/// - A stream with something pending is in `touched`.
/// - The `check_at` of a stream is in `checks`; other times for it there mean nothing.
/// - A key is never given out twice, not even by an earlier engine of the process.
#[derive(Debug, Default)]
pub(in crate::engine) struct Streams {
    by_key: HashMap<u64, Stream>,
    by_id: HashMap<u128, u64>,
    next: u64,
    /// Streams with something pending.
    touched: Vec<u64>,
    /// When the leases of each stream have to be checked.
    checks: BinaryHeap<Reverse<(u64, u64)>>,
    /// Streams that have to be sent again what their workers missed.
    pub resuming: Vec<u64>,
}

impl Streams {
    /// Makes an empty set of streams; the first one's number is greater than `number`.
    pub(in crate::engine) fn starting_at(number: u64) -> Self {
        Self { next: number, ..Self::default() }
    }

    /// Ends every connection, once what is on its way has been read.
    pub(in crate::engine) fn close(&self) {
        for stream in self.by_key.values() {
            if let State::Open(outbox) = &stream.state {
                outbox.close();
            }
        }
    }

    pub(in crate::engine) fn insert(&mut self, stream: Stream) -> u64 {
        self.next += 1;
        self.by_id.insert(stream.id, self.next);
        self.by_key.insert(self.next, stream);
        self.next
    }

    pub(in crate::engine) fn get(&self, key: u64) -> Option<&Stream> {
        self.by_key.get(&key)
    }

    pub(in crate::engine) fn get_mut(&mut self, key: u64) -> Option<&mut Stream> {
        self.by_key.get_mut(&key)
    }

    /// Returns the stream if this is its current connection.
    pub(in crate::engine) fn linked(&mut self, link: Link) -> Option<&mut Stream> {
        self.by_key.get_mut(&link.stream).filter(|stream| stream.connection == link.number)
    }

    pub(in crate::engine) fn by_id(&self, id: u128) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    pub(in crate::engine) fn remove(&mut self, key: u64) -> Option<Stream> {
        let stream = self.by_key.remove(&key)?;
        self.by_id.remove(&stream.id);
        Some(stream)
    }

    pub(in crate::engine) fn keys(&self) -> Vec<u64> {
        self.by_key.keys().copied().collect()
    }

    /// Ensures that the stream's leases are checked when the first of them ends.
    pub(in crate::engine) fn watch(&mut self, key: u64, end: Option<u64>) {
        let (Some(stream), Some(end)) = (self.by_key.get_mut(&key), end) else { return };
        if stream.check_at.is_none_or(|at| end < at) {
            stream.check_at = Some(end);
            self.checks.push(Reverse((end, key)));
        }
    }

    /// Returns when leases have to be checked next.
    pub(in crate::engine) fn next_check(&self) -> Option<u64> {
        self.checks.peek().map(|Reverse((at, _))| *at)
    }

    /// Returns the streams whose leases have to be checked now.
    pub(in crate::engine) fn due(&self, up: u64) -> impl Iterator<Item = &Stream> {
        let is_due = self.next_check().is_some_and(|at| at <= up);
        let checks = is_due.then(|| self.checks.iter()).into_iter().flatten();
        let due = checks.filter(move |Reverse((at, _))| *at <= up);
        due.filter_map(|Reverse((at, key))| self.get(*key).filter(|stream| stream.check_at == Some(*at)))
    }

    /// Takes the keys of [`Streams::due`] off the list, each once.
    pub(in crate::engine) fn take_due(&mut self, up: u64) -> Vec<u64> {
        let mut due = Vec::new();
        while let Some(&Reverse((at, key))) = self.checks.peek()
            && at <= up
        {
            self.checks.pop();
            let Some(stream) = self.by_key.get_mut(&key) else { continue };
            if stream.check_at == Some(at) {
                stream.check_at = None;
                due.push(key);
            }
        }
        due
    }

    /// Returns the streams that have a connection, with their keys.
    pub(in crate::engine) fn connected(&self) -> impl Iterator<Item = (u64, &Stream)> {
        let is_open = |(_, stream): &(&u64, &Stream)| matches!(stream.state, State::Open(_));
        self.by_key.iter().filter(is_open).map(|(key, stream)| (*key, stream))
    }

    /// The jobs that a worker holds, or a stream: whichever has this name. Its connections may have ended.
    pub(in crate::engine) fn held_by(&self, name: &str) -> impl Iterator<Item = JobId> {
        let is_meant = move |stream: &&Stream| stream.is_called(name);
        self.by_key.values().filter(is_meant).flat_map(|stream| stream.held.values().copied())
    }

    /// Returns the state of the connected workers.
    pub(in crate::engine) fn workers(&self, queues: &Queues) -> Vec<WorkerState> {
        let state = |(number, stream): (u64, &Stream)| WorkerState {
            stream: stream.id,
            number,
            about: stream.about.clone(),
            queues: match &stream.takes {
                Takes::All => None,
                Takes::Queues(ids) => Some(ids.iter().filter_map(|id| queues.name(*id)).cloned().collect()),
            },
            prefetch: stream.prefetch,
            in_flight: stream.held.len(),
            connected_at: stream.connected_at,
            last_release: stream.last_release.clone(),
        };
        self.connected().map(state).collect()
    }

    /// Adds an item to what the stream sends this turn. A worker that may come back hears of cancellations then.
    pub(in crate::engine) fn tell(&mut self, key: u64, item: Item) {
        let Some(stream) = self.by_key.get_mut(&key) else { return };
        match (&stream.state, &item) {
            (State::Open(_), _) => {
                if stream.pending.is_empty() {
                    self.touched.push(key);
                }
                stream.pending.push(item);
            }
            (State::Broken { .. }, Item::Cancel { .. }) => stream.missed.push(item),
            (State::Broken { .. } | State::Gone { .. } | State::Answered, _) => {}
        }
    }

    /// Hands what is pending over to the connections.
    pub(in crate::engine) fn flush(&mut self) {
        for key in self.touched.drain(..) {
            if let Some(stream) = self.by_key.get_mut(&key) {
                if let State::Open(outbox) = &stream.state {
                    outbox.push(&mut stream.pending);
                }
                stream.pending.clear();
            }
        }
    }
}
