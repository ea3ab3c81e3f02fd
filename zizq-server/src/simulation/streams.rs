//! Streams as the model sees them.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail, ensure};
use protocol::id::JobId;
use protocol::lease::{DEFAULT_LEASE_MS, LeaseToken};
use protocol::name::QueueName;
use protocol::stream::CancelReason;

use super::act::Opening;
use super::model::{Entry, Lease, Model, Saved};
use crate::clock::Time;
use crate::engine::command::streams::{Link, StreamKind};
use crate::engine::command::{Reject, Reply};
use crate::run::turn::Answer;
use crate::store::record::LeaseEnd;

/// The most leases of a stream that end in one turn, and the most that their jobs weigh, in bytes.
pub(super) const SLICE: usize = 12;
pub(super) const SLICE_BYTES: usize = 200_000;

/// A stream with this much unread gets no more jobs, in bytes.
const MAX_UNREAD: usize = 256 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub id: u128,
    pub kind: StreamKind,
    pub queues: Option<Vec<QueueName>>,
    pub prefetch: u32,
    pub lease_ms: Option<u64>,
    pub resume_ms: u64,
    pub rests: bool,
    pub renewed_at: u64,
    pub connected_at: u64,
    /// Whether more of its leases have run out than end in one turn.
    pub lapses: bool,
    pub state: State,
    pub event: u64,
    pub link: Option<Link>,
    /// The jobs that it has to be sent once more, before others.
    pub again: VecDeque<JobId>,
    /// What its reader has not read, in bytes.
    pub unread: usize,
    /// What it must have been told at the end of the turn, except for deliveries.
    pub told: Vec<Told>,
    /// Cancellations while it was away.
    pub missed: Vec<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Broken { until: u64 },
    Gone { since: u64 },
    Answered,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    /// A job that is sent once more.
    Job {
        token: LeaseToken,
        id: JobId,
        event: u64,
        expires: Option<u64>,
    },
    Cancel(JobId, String),
    Drain,
}

impl Told {
    pub(super) fn cancel(id: JobId, reason: CancelReason) -> Self {
        Self::Cancel(id, format!("{reason:?}"))
    }
}

impl Stream {
    pub(super) fn new(id: u128, kind: StreamKind, lease_ms: Option<u64>, state: State) -> Self {
        Self {
            id,
            kind,
            queues: Some(Vec::new()),
            prefetch: 0,
            lease_ms,
            resume_ms: 0,
            rests: false,
            renewed_at: 0,
            connected_at: 0,
            lapses: false,
            state,
            event: 0,
            link: None,
            again: VecDeque::new(),
            unread: 0,
            told: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Whether its id, of 32 hexadecimal digits, begins like this.
    pub(super) fn begins_with(&self, start: &str) -> bool {
        format!("{:032x}", self.id).starts_with(start)
    }

    pub(super) fn tell(&mut self, told: Told) {
        match self.state {
            State::Open => self.told.push(told),
            State::Broken { .. } if matches!(told, Told::Cancel(..)) => self.missed.push(told),
            State::Broken { .. } | State::Gone { .. } | State::Answered => {}
        }
    }

    /// Drops what the stream was going to be told, which is not sent, and keeps its cancellations as missed.
    fn miss(&mut self) {
        self.missed.extend(self.told.drain(..).filter(|told| matches!(told, Told::Cancel(..))));
    }

    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(&entry.queue))
    }

    /// Whether it may be given a job while it holds `held`.
    pub(super) fn has_credit(&self, held: usize) -> bool {
        let room = self.prefetch == 0 || held < self.prefetch as usize;
        let wants = room && !self.rests && !self.lapses && self.again.is_empty();
        self.state == State::Open && wants && self.unread < MAX_UNREAD
    }

    pub(super) fn save(&self, lease: &Lease, time: Time) -> Saved {
        let resumable = self.kind == StreamKind::Events;
        let granted = time.up + self.lease_ms.unwrap_or(DEFAULT_LEASE_MS);
        let wall = |up: u64| (time.wall + up).saturating_sub(time.up);
        let keeps = self.lease_ms.is_some() || self.kind != StreamKind::Bound;
        let kept_until = lease.kept.filter(|kept| keeps && *kept > granted);
        Saved {
            lease_ms: self.lease_ms,
            stream: resumable.then_some((self.id, lease.event)),
            end: LeaseEnd { kept_until: kept_until.map(wall), restored_at: lease.restored.map(wall) },
        }
    }
}

impl Model {
    pub(super) fn drain_workers(&mut self, start: &str, answer: &Answer) -> Result<()> {
        let mut meant = 0;
        for stream in self.connected(start) {
            stream.tell(Told::Drain);
            stream.rests = true;
            meant += 1;
        }
        ensure!(
            matches!(answer, Ok(Reply::DrainWorkers(n)) if *n == meant),
            "{meant} streams, but: {answer:?}"
        );
        Ok(())
    }

    pub(super) fn cut_off(&mut self, start: &str, answer: &Answer) -> Result<()> {
        let (up, mut meant) = (self.up, 0);
        for stream in self.connected(start) {
            stream.state = State::Gone { since: up };
            stream.link = None;
            stream.miss();
            meant += 1;
        }
        ensure!(matches!(answer, Ok(Reply::CutOff(n)) if *n == meant), "{meant} streams, but: {answer:?}");
        Ok(())
    }

    /// The connected streams whose ids begin like this.
    fn connected(&mut self, start: &str) -> impl Iterator<Item = &mut Stream> {
        let is_meant = move |stream: &&mut Stream| stream.state == State::Open && stream.begins_with(start);
        self.streams.values_mut().filter(is_meant)
    }

    pub(super) fn add_stream(&mut self, stream: Stream) -> u64 {
        self.next_stream += 1;
        self.streams.insert(self.next_stream, stream);
        self.next_stream
    }

    /// Returns when a lease ends; none: with its stream.
    pub(super) fn lease_end(&self, lease: &Lease) -> Option<u64> {
        let stream = self.streams.get(&lease.stream)?;
        let alone = |ms: u64| lease.kept.unwrap_or(lease.since + ms);
        match (stream.state, stream.kind) {
            (State::Gone { since }, _) => Some(since),
            (State::Broken { until }, _) => Some(until.max(lease.kept.unwrap_or(0))),
            (_, StreamKind::Bound | StreamKind::Poll) => stream.lease_ms.map(alone),
            (_, StreamKind::Events) => {
                let since = lease.since.max(stream.connected_at);
                let most = since.saturating_add(self.settings.stream_renewal_ms);
                let renewed = lease.since.max(stream.renewed_at.min(most)) + stream.lease_ms?;
                Some(renewed.max(lease.kept.unwrap_or(0)))
            }
        }
    }

    pub(super) fn held_by(&self, key: u64) -> impl Iterator<Item = &Lease> {
        self.leases.values().filter(move |lease| lease.stream == key)
    }

    pub(super) fn open(&mut self, open: &Opening, answer: &Answer) -> Result<()> {
        if self.draining {
            ensure!(matches!(answer, Err(Reject::Draining)), "draining, but answered {answer:?}");
            return Ok(());
        }
        let Ok(Reply::OpenStream(opened)) = answer else { bail!("answered {answer:?}") };
        let is_gone = |stream: &Stream| matches!(stream.state, State::Gone { .. });
        let resumable = |id: u128, stream: &Stream| {
            stream.kind == StreamKind::Events && stream.id == id && !is_gone(stream)
        };
        let resumed = open.resume.and_then(|(id, event)| {
            let (key, _) = self.streams.iter().find(|(_, stream)| resumable(id, stream))?;
            Some((*key, event))
        });
        ensure!(opened.resumed == resumed.is_some(), "{opened:?}, but it was {resumed:?}");
        ensure!(self.links.insert((opened.link.stream, opened.link.number)), "{opened:?} was there before");
        let (key, event) = resumed.unwrap_or_else(|| {
            (self.add_stream(Stream::new(open.id, open.kind, open.lease_ms, State::Open)), 0)
        });
        let up = self.up;
        if let Some(stream) = self.streams.get_mut(&key) {
            ensure!(opened.id == stream.id, "{opened:?} is {:x}", stream.id);
            stream.queues.clone_from(&open.queues);
            stream.prefetch = open.prefetch;
            stream.lease_ms = open.lease_ms;
            stream.resume_ms = open.resume_ms;
            stream.renewed_at = up;
            stream.connected_at = up;
            stream.lapses = false;
            stream.state = State::Open;
            stream.event = stream.event.max(event);
            stream.link = Some(opened.link);
            stream.unread = 0;
            stream.miss();
            stream.told.append(&mut stream.missed);
        }
        let held: Vec<JobId> = self.held_by(key).map(|lease| lease.job.id).collect();
        held.into_iter().for_each(|id| self.hear_of(id));
        self.send_again(key, event);
        Ok(())
    }

    /// Notes that the worker of a lease is alive: the record of its end may have to change.
    pub(super) fn hear_of(&mut self, id: JobId) {
        let time = self.time();
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.restored = None;
        let now = self.streams.get(&lease.stream).map(|stream| stream.save(lease, time));
        if let (Some(saved), Some(now)) = (lease.saved, now)
            && saved.end != now.end
        {
            lease.saved = Some(now);
        }
    }

    /// Handles a worker that comes back and has seen the events up to this one, but not the later ones.
    fn send_again(&mut self, key: u64, event: u64) {
        let missed = self.held_by(key).filter(|lease| lease.event > event);
        let missed: BTreeMap<LeaseToken, JobId> = missed.map(|lease| (lease.token, lease.job.id)).collect();
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.again = missed.into_values().collect();
        }
    }

    /// Sends workers what they missed, as fast as they read it.
    pub(super) fn send_missed(&mut self) {
        let ends: BTreeMap<JobId, Option<u64>> =
            self.leases.values().map(|lease| (lease.job.id, self.lease_end(lease))).collect();
        let ahead = self.now.wrapping_sub(self.up);
        for (key, stream) in &mut self.streams {
            if stream.state != State::Open {
                stream.again.clear();
            }
            while let Some(id) = stream.again.front().copied() {
                if let Some(lease) = self.leases.get(&id).filter(|lease| lease.stream == *key) {
                    if stream.unread >= MAX_UNREAD {
                        break;
                    }
                    let expires = ends.get(&id).copied().flatten().map(|end| end.wrapping_add(ahead));
                    stream.unread += lease.job.weight();
                    stream.tell(Told::Job { token: lease.token, id, event: lease.event, expires });
                }
                stream.again.pop_front();
            }
        }
    }

    pub(super) fn is_gone(&self, key: u64) -> bool {
        self.streams.get(&key).is_some_and(|stream| matches!(stream.state, State::Gone { .. }))
    }

    pub(super) fn close(&mut self, link: Link) {
        let up = self.up;
        let is_it = |stream: &Stream| stream.link == Some(link) && stream.state == State::Open;
        let Some(stream) = self.streams.values_mut().find(|stream| is_it(stream)) else { return };
        let wait_ms = match stream.kind {
            StreamKind::Events => stream.resume_ms.min(stream.lease_ms.unwrap_or(DEFAULT_LEASE_MS)),
            StreamKind::Bound | StreamKind::Poll => 0,
        };
        let until = up + wait_ms;
        stream.state = if wait_ms == 0 { State::Gone { since: up } } else { State::Broken { until } };
        stream.miss();
    }

    /// Returns the jobs whose leases end in this turn (those of a stream from the oldest on, up to a limit), and the
    /// connections that are closed because the last lease that had run out on them has ended.
    pub(super) fn ended_leases(&mut self) -> (Vec<JobId>, Vec<Link>) {
        let (mut ended, mut lapsed, mut cut) = (Vec::new(), Vec::new(), Vec::new());
        for (key, stream) in &self.streams {
            let mut over: Vec<&Lease> = self.held_by(*key).collect();
            over.retain(|lease| self.lease_end(lease).is_some_and(|end| end <= self.up));
            over.sort_by_key(|lease| lease.token);
            let (mut number, mut bytes) = (0, 0);
            for lease in &over {
                if number == SLICE || bytes >= SLICE_BYTES {
                    break;
                }
                (number, bytes) = (number + 1, bytes + lease.job.weight());
                ended.push(lease.job.id);
            }
            let is_open = stream.state == State::Open && stream.kind == StreamKind::Events;
            if number < over.len() {
                cut.push((*key, is_open));
            } else if is_open && (number > 0 || stream.lapses) {
                lapsed.extend(stream.link);
            }
        }
        self.is_cut = !cut.is_empty();
        for (key, _) in cut.into_iter().filter(|(_, is_open)| *is_open) {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.lapses = true;
            }
        }
        (ended, lapsed)
    }

    /// Makes the holder of a lease of an earlier process.
    pub(super) fn restored_stream(&mut self, saved: Saved, since: u64) -> u64 {
        let lease_ms = saved.lease_ms.unwrap_or(DEFAULT_LEASE_MS);
        let Some((id, event)) = saved.stream else {
            return self.add_stream(Stream::new(0, StreamKind::Poll, Some(lease_ms), State::Answered));
        };
        let known = self.streams.iter().find(|(_, s)| s.kind == StreamKind::Events && s.id == id);
        let key = known.map(|(key, _)| *key).unwrap_or_else(|| {
            let until = since + lease_ms;
            self.add_stream(Stream::new(id, StreamKind::Events, Some(lease_ms), State::Broken { until }))
        });
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.event = stream.event.max(event);
        }
        key
    }
}
