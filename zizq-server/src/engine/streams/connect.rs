//! How streams connect, resume and disconnect.

use std::collections::VecDeque;

use protocol::id::JobId;
use protocol::lease::DEFAULT_LEASE_MS;
use protocol::stream::DrainReason;

use super::{State, Stream, Takes};
use crate::engine::Engine;
use crate::engine::command::Reject;
use crate::engine::command::streams::{DrainWorkers, Link, OpenStream, Opened, StreamKind, WorkerInfo};
use crate::engine::outbox::Item;
use crate::hash::HashSet;
use crate::store::record::MAX_EVENT;

impl Engine {
    pub(in crate::engine) fn open(&mut self, open: OpenStream) -> Result<Opened, Reject> {
        if self.draining {
            return Err(Reject::Draining);
        }
        let takes = match &open.queues {
            None => Takes::All,
            Some(names) => Takes::Queues(names.iter().map(|name| self.queues.id(name)).collect()),
        };
        match &takes {
            Takes::All => self.dispatcher.order_heads(&self.queues),
            Takes::Queues(ids) => self.queues.count_taker(ids),
        }
        let resumed = open.resume.and_then(|(id, event)| Some((self.resumable(id, &open)?, event)));
        let opened = match resumed {
            Some((key, event)) => self.take_over(key, event, takes, &open),
            None => self.open_new(takes, &open),
        };
        if let Some(stream) = self.streams.get(opened.link.stream) {
            self.queues.connected(stream);
        }
        self.dispatcher.feed(&mut self.streams, opened.link.stream);
        Ok(opened)
    }

    /// The stream of this id, if it can be resumed, and by this caller.
    fn resumable(&self, id: u128, open: &OpenStream) -> Option<u64> {
        let key = self.streams.by_id(id)?;
        let stream = self.streams.get(key)?;
        let is_there = !stream.is_over(self.clock.up()) && !matches!(stream.state, State::Gone { .. });
        (stream.kind == StreamKind::Events && is_there && self.may_take_over(stream, open)).then_some(key)
    }

    /// Whether a caller may have the jobs of a stream: its own, or of queues that it may take from. Whose a stream is, is
    /// not known after a restart.
    fn may_take_over(&self, stream: &Stream, open: &OpenStream) -> bool {
        if open.within.is_all() || (stream.about.by.is_some() && stream.about.by == open.about.by) {
            return true;
        }
        let is_covered = |id: &JobId| {
            let queue = self.leases.get(*id).and_then(|lease| self.queues.name(lease.job.queue));
            queue.is_some_and(|queue| open.within.covers(queue))
        };
        stream.about.by.is_none() && stream.held.values().all(is_covered)
    }

    fn open_new(&mut self, takes: Takes, open: &OpenStream) -> Opened {
        let key = self.streams.insert(Stream {
            prefetch: open.prefetch,
            resume_ms: open.resume_ms,
            renewed_at: self.clock.up(),
            renewal_ms: self.settings.stream_renewal_ms,
            came_at: self.clock.up(),
            connected_at: self.clock.now(),
            about: (*open.about).clone(),
            state: State::Open(open.outbox.clone()),
            ..Stream::new(open.id, open.kind, takes, open.lease_ms)
        });
        Opened { link: Link { stream: key, number: 0 }, id: open.id, resumed: false }
    }

    /// Takes over the stream of a worker that has come back: its new connection gets what it may have missed.
    fn take_over(&mut self, key: u64, event: u64, takes: Takes, open: &OpenStream) -> Opened {
        self.dispatcher.stop_waiting(&mut self.queues, &mut self.streams, key);
        self.queues.resumed();
        if let Some(stream) = self.streams.get(key) {
            self.queues.disconnected(stream);
        }
        if let Some(Takes::Queues(ids)) = self.streams.get(key).map(|stream| &stream.takes) {
            self.queues.forget_taker(ids);
        }
        let mut opened = Opened { link: Link { stream: key, number: 0 }, id: open.id, resumed: true };
        let (mut cancels, mut held) = (Vec::new(), Vec::new());
        if let Some(stream) = self.streams.get_mut(key) {
            if let State::Open(old) = &stream.state {
                drop(old.take());
                old.close();
            }
            stream.connection += 1;
            stream.takes = takes;
            stream.prefetch = open.prefetch;
            stream.lease_ms = open.lease_ms;
            stream.resume_ms = open.resume_ms;
            stream.renewed_at = self.clock.up();
            stream.renewal_ms = self.settings.stream_renewal_ms;
            stream.came_at = self.clock.up();
            stream.lapses = false;
            stream.connected_at = self.clock.now();
            stream.about = (*open.about).clone();
            stream.state = State::Open(open.outbox.clone());
            // After a crash the worker may have seen more events than the store knows of; a number that it makes up
            // must not overflow ours.
            stream.event = stream.event.max(event.min(MAX_EVENT));
            stream.miss();
            cancels.append(&mut stream.missed);
            opened.link.number = stream.connection;
            opened.id = stream.id;
            held.extend(stream.held.values().copied());
            let leases = held.iter().filter_map(|id| self.leases.get(*id));
            stream.again = leases.filter(|lease| lease.event > event).map(|lease| lease.job.id).collect();
        }
        if !self.streams.resuming.contains(&key) {
            self.streams.resuming.push(key);
        }
        held.into_iter().for_each(|id| self.hear_of(id));
        for cancel in cancels {
            self.streams.tell(key, cancel);
        }
        let end = self.streams.get(key).and_then(|stream| stream.lease_end(self.clock.up()));
        self.streams.watch(key, end);
        opened
    }

    /// Handles a connection that has ended, or is no longer of use.
    pub(in crate::engine) fn disconnect(&mut self, link: Link) {
        let Some(stream) = self.streams.linked(link) else { return };
        if !matches!(stream.state, State::Open(_)) {
            return;
        }
        let wait_ms = match stream.kind {
            StreamKind::Events => stream.resume_ms.min(stream.lease_ms.unwrap_or(DEFAULT_LEASE_MS)),
            StreamKind::Bound | StreamKind::Poll => 0,
        };
        self.part(link.stream, wait_ms);
    }

    /// Handles the end of a connection, whose worker may come back for so long.
    fn part(&mut self, key: u64, wait_ms: u64) {
        let up = self.clock.up();
        let until = up + wait_ms;
        let Some(stream) = self.streams.get_mut(key) else { return };
        self.queues.disconnected(stream);
        stream.state = if wait_ms == 0 { State::Gone { since: up } } else { State::Broken { until } };
        // What this turn was going to send was not sent; the worker must hear of a cancellation when it comes back.
        stream.miss();
        self.dispatcher.stop_waiting(&mut self.queues, &mut self.streams, key);
        self.drop_if_over(key);
        self.streams.watch(key, Some(until));
    }

    pub(in crate::engine) fn rest(&mut self, link: Link) {
        if let Some(stream) = self.streams.linked(link) {
            stream.rests = true;
            self.dispatcher.stop_waiting(&mut self.queues, &mut self.streams, link.stream);
        }
    }

    /// Tells workers to take no more jobs. Returns the number of their streams.
    pub(in crate::engine) fn drain_workers(&mut self, drain: &DrainWorkers) -> usize {
        let meant = self.connected(|stream| match drain {
            DrainWorkers::Stream(start) => stream.begins_with(start),
            DrainWorkers::Named(name) => stream.about.worker.as_ref() == Some(name),
        });
        for key in &meant {
            self.streams.tell(*key, Item::Drain(DrainReason::Asked));
            if let Some(stream) = self.streams.get_mut(*key) {
                stream.rests = true;
            }
            self.dispatcher.stop_waiting(&mut self.queues, &mut self.streams, *key);
        }
        meant.len()
    }

    /// Ends the connection of a stream and takes back its jobs, without waiting for its worker. Returns the number of
    /// streams.
    pub(in crate::engine) fn cut_off(&mut self, start: &str) -> usize {
        let meant = self.connected(|stream| stream.begins_with(start));
        for key in &meant {
            if let Some(stream) = self.streams.get_mut(*key)
                && let State::Open(outbox) = &stream.state
            {
                drop(outbox.take());
                outbox.close();
                // What the connection still says no longer counts.
                stream.connection += 1;
            }
            self.part(*key, 0);
        }
        meant.len()
    }

    fn connected(&self, is_meant: impl Fn(&Stream) -> bool) -> Vec<u64> {
        self.streams.connected().filter(|(_, stream)| is_meant(stream)).map(|(key, _)| key).collect()
    }

    pub(in crate::engine) fn finish(&mut self, link: Link) {
        if let Some(stream) = self.streams.linked(link) {
            self.queues.disconnected(stream);
            stream.state = State::Answered;
            self.dispatcher.stop_waiting(&mut self.queues, &mut self.streams, link.stream);
            self.drop_if_over(link.stream);
        }
    }

    pub(in crate::engine) fn caught_up(&mut self, link: Link) {
        if self.streams.linked(link).is_some() {
            self.dispatcher.feed(&mut self.streams, link.stream);
        }
    }

    pub(in crate::engine) fn drop_if_over(&mut self, key: u64) {
        if self.streams.get(key).is_some_and(|stream| stream.is_over(self.clock.up())) {
            let stream = self.streams.remove(key);
            if let Some(Takes::Queues(ids)) = stream.map(|stream| stream.takes) {
                self.queues.forget_taker(&ids);
            }
        }
    }
}

impl Stream {
    /// Whether this is its name, or that of its worker.
    pub(in crate::engine) fn is_called(&self, name: &str) -> bool {
        self.about.is_called(name, self.id)
    }

    /// Whether its id, of 32 hexadecimal digits, begins like this.
    fn begins_with(&self, start: &str) -> bool {
        format!("{:032x}", self.id).starts_with(start)
    }

    /// Makes a stream without a connection.
    pub(in crate::engine) fn new(id: u128, kind: StreamKind, takes: Takes, lease_ms: Option<u64>) -> Self {
        Self {
            id,
            kind,
            takes,
            prefetch: 0,
            lease_ms,
            resume_ms: 0,
            rests: false,
            held: std::collections::BTreeMap::new(),
            renewed_at: 0,
            renewal_ms: u64::MAX,
            came_at: 0,
            lapses: false,
            connected_at: 0,
            about: WorkerInfo::default(),
            last_release: None,
            state: State::Answered,
            connection: 0,
            event: 0,
            missed: Vec::new(),
            again: VecDeque::new(),
            pending: Vec::new(),
            check_at: None,
            waits_for: HashSet::default(),
            waits_for_all: false,
            to_feed: false,
        }
    }
}
