//! Leases that are renewed, given up, or run out.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::{DEFAULT_LEASE_MS, JobHeartbeat, JobRelease, RenewedLease};
use protocol::outcome::{LeasedJob, NotDone};
use protocol::stream::CancelReason;

use super::lease::{Lease, Leases};
use super::{State, Stream, Takes};
use crate::engine::command::jobs::{Holder, Renewed};
use crate::engine::command::queues::LastRelease;
use crate::engine::command::streams::{Link, StreamKind};
use crate::engine::command::{Reject, leased};
use crate::engine::jobs::transition::Claim;
use crate::engine::outbox::Item;
use crate::engine::{Engine, Found};
use crate::job::Job;
use crate::store::record::{LeaseEnd, LeaseRecord};

/// Returns when a lease ends; none: with its stream.
pub(in crate::engine) fn end_of(lease: &Lease, stream: &Stream) -> Option<u64> {
    let by_stream = stream.lease_end(lease.since);
    match (lease.kept_until, stream.kind) {
        (None, _) => by_stream,
        // Without time to come back, not even a heartbeat keeps a job.
        _ if matches!(stream.state, State::Gone { .. }) => by_stream,
        // The stream keeps it as long as it lives; a heartbeat for the job can only add to that.
        (Some(_), StreamKind::Bound) if stream.lease_ms.is_none() => by_stream,
        (Some(kept), StreamKind::Events) => by_stream.max(Some(kept)),
        (Some(kept), StreamKind::Bound | StreamKind::Poll) => Some(kept),
    }
}

/// Returns what a start must know of the end of a lease, by the clock that never steps. The time that a start grants
/// every lease is not written down with every heartbeat.
fn end_to_save(lease: &Lease, stream: Option<&Stream>, up: u64) -> LeaseEnd {
    let length = stream.and_then(|stream| stream.lease_ms);
    let ends_with_stream = length.is_none() && stream.is_some_and(|stream| stream.kind == StreamKind::Bound);
    let granted = up + length.unwrap_or(DEFAULT_LEASE_MS);
    let kept_until = lease.kept_until.filter(|kept| *kept > granted && !ends_with_stream);
    LeaseEnd { kept_until, restored_at: lease.restored_at }
}

/// The most leases of a stream that end in one turn, so that a million that end together do not hold up anything else.
const SLICE: usize = if cfg!(test) { 12 } else { 1_024 };
/// The most that their jobs may weigh, not counting the last, in bytes.
pub(in crate::engine) const SLICE_BYTES: usize = if cfg!(test) { 200_000 } else { 4 * 1024 * 1024 };

/// The state of a stream's leases at a time.
struct Look {
    /// Those that end in this turn, in the order of delivery.
    over: Vec<JobId>,
    /// When the next one ends.
    next: Option<u64>,
    /// Whether more have run out.
    is_cut: bool,
}

/// Returns which leases of a stream end now, and when the next one does.
fn look_at(stream: &Stream, leases: &Leases, up: u64) -> Look {
    let mut next: Option<u64> = stream.waits_until(up);
    let (mut over, mut bytes, mut is_cut) = (Vec::new(), 0, false);
    for id in stream.held.values() {
        let Some(lease) = leases.get(*id) else { continue };
        match end_of(lease, stream) {
            Some(end) if end <= up && (over.len() >= SLICE || bytes >= SLICE_BYTES) => {
                // This one and those behind it end in the next turn.
                (next, is_cut) = (Some(up), true);
                break;
            }
            Some(end) if end <= up => {
                bytes += lease.job.weight();
                over.push(*id);
            }
            Some(end) => next = Some(next.map_or(end, |n| n.min(end))),
            None => {}
        }
    }
    Look { over, next, is_cut }
}

/// How much of a message about progress is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 1_024;

impl Engine {
    pub(in crate::engine) fn renew(&mut self, link: Link) {
        let up = self.clock.up();
        if let Some(stream) = self.streams.linked(link) {
            stream.renewed_at = up;
        }
    }

    pub(in crate::engine) fn heartbeat(&mut self, jobs: &[JobHeartbeat], found: &mut Found) -> Renewed {
        let mut renewed = Renewed::default();
        for job in jobs {
            match self.claim(leased(job.id, job.lease), found) {
                // Other jobs may have drawn meanwhile what it would need to go on.
                Ok(Claim::Late(late)) if self.is_short(&late) => renewed.not_done.not_found.push(job.id),
                Ok(claim) => {
                    if let (Claim::Late(late), Some(token)) = (claim, job.lease) {
                        self.restore_late(late, token, job.lease_ms);
                    }
                    let lease_expires_at = self.extend(job.id, job.lease_ms);
                    self.note_progress(job);
                    renewed.jobs.push(RenewedLease { id: job.id, lease_expires_at });
                }
                Err(Reject::LeaseLost) => renewed.not_done.lost.push(job.id),
                Err(_) => renewed.not_done.not_found.push(job.id),
            }
        }
        renewed
    }

    /// Remembers what a worker says about its job, and tells the listeners.
    fn note_progress(&mut self, JobHeartbeat { id, progress, message, .. }: &JobHeartbeat) {
        if progress.is_none() && message.is_none() {
            return;
        }
        let Some(lease) = self.leases.get_mut(*id) else { return };
        let known = lease.progress.get_or_insert_default();
        let news = Arc::make_mut(known);
        news.share = progress.or(news.share);
        if let Some(message) = message {
            let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
            news.message = Some(message.get(..end).unwrap_or(message).to_owned());
        }
        self.listeners.announce_progress(&self.queues, self.clock.now(), &lease.job, known);
    }

    /// Returns who holds these jobs, for those that are in flight.
    pub(in crate::engine) fn holders(&self, ids: &[JobId]) -> Vec<Holder> {
        let holder = |id: &JobId| {
            let lease = self.leases.get(*id)?;
            let stream = self.streams.get(lease.stream)?;
            Some(Holder {
                id: *id,
                stream: stream.id,
                about: stream.about.clone(),
                lease_expires_at: end_of(lease, stream).map(|end| self.clock.wall_of(end)),
                deliveries: lease.job.deliveries,
                progress: lease.progress.clone(),
            })
        };
        ids.iter().filter_map(holder).collect()
    }

    /// Renews one lease for its own length, or for the given one, from now on. Returns when it ends.
    fn extend(&mut self, id: JobId, lease_ms: Option<u64>) -> Option<u64> {
        let lease = self.leases.get_mut(id)?;
        let stream = self.streams.get(lease.stream)?;
        let length = lease_ms.or(stream.lease_ms).unwrap_or(DEFAULT_LEASE_MS);
        lease.kept_until = Some(self.clock.up() + length);
        let (end, key) = (end_of(lease, stream), lease.stream);
        self.streams.watch(key, end);
        self.hear_of(id);
        end.map(|end| self.clock.wall_of(end))
    }

    /// Notes that the worker of a lease is alive: the next start gives it time again.
    pub(in crate::engine) fn hear_of(&mut self, id: JobId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.restored_at = None;
        let end = end_to_save(lease, self.streams.get(lease.stream), self.clock.up());
        let end = self.clock.dated(end);
        let Some(lease) = self.leases.get(id) else { return };
        if lease.saved.is_some_and(|saved| saved != end) {
            self.save_lease(id);
        }
    }

    /// Gives a job back to the worker whose lease ran out, or was forgotten in a crash, before anyone else got the job.
    fn restore_late(&mut self, job: Arc<Job>, token: protocol::lease::LeaseToken, lease_ms: Option<u64>) {
        self.leaves_ready(&job);
        self.unready(&job);
        let stream = self.answered_stream(lease_ms.unwrap_or(DEFAULT_LEASE_MS));
        self.lease_to(
            stream,
            Lease {
                job,
                token,
                stream,
                since: self.clock.up(),
                kept_until: None,
                deadline: None,
                event: 0,
                restored_at: None,
                progress: None,
                saved: None,
            },
        );
    }

    /// Makes a holder for leases that run by themselves.
    pub(in crate::engine) fn answered_stream(&mut self, lease_ms: u64) -> u64 {
        let id = self.random.u128(..);
        self.streams.insert(Stream {
            state: State::Answered,
            ..Stream::new(id, StreamKind::Poll, Takes::Queues(smallvec::SmallVec::new()), Some(lease_ms))
        })
    }

    /// Enters a lease everywhere it is known.
    pub(in crate::engine) fn lease_to(&mut self, key: u64, mut lease: Lease) {
        lease.deadline = self.deadline(&lease.job);
        self.queues.hold(lease.job.queue);
        if !lease.job.draw.is_none() {
            self.budgets.hold(lease.job.draw);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.held.insert(lease.token, lease.job.id);
        let end = end_of(&lease, stream);
        self.leases.insert(lease);
        self.streams.watch(key, end);
    }

    pub(in crate::engine) fn release(&mut self, jobs: &[JobRelease], found: &mut Found) -> NotDone {
        let mut not_done = NotDone::default();
        for release in jobs {
            match self.claim(leased(release.id, release.lease), found) {
                Ok(claim) => {
                    if let Some(reason) = &release.reason {
                        self.note_release(release.id, reason);
                    }
                    if let Some(job) = self.take_back(release.id, claim) {
                        self.release_one(job, release.ready_at);
                    }
                }
                Err(Reject::LeaseLost) => not_done.lost.push(release.id),
                Err(_) => not_done.not_found.push(release.id),
            }
        }
        not_done
    }

    pub(in crate::engine) fn attempt(&self, job: LeasedJob, found: &mut Found) -> Result<u32, Reject> {
        let attempts = match self.claim(job, found)? {
            Claim::Held => self.leases.get(job.id).map_or(0, |lease| lease.job.attempts),
            Claim::Late(late) => late.attempts,
        };
        Ok(attempts.saturating_add(1))
    }

    /// Remembers why a worker gives back what it holds: often that is the only sign of what is wrong with it.
    fn note_release(&mut self, id: JobId, reason: &str) {
        let Some(lease) = self.leases.get(id) else { return };
        let Some(queue) = self.queues.name(lease.job.queue) else { return };
        let mut stream = self.streams.get_mut(lease.stream);
        let release = Arc::new(LastRelease {
            reason: reason.to_owned(),
            at: self.clock.now(),
            queue: queue.clone(),
            worker: stream.as_ref().and_then(|stream| stream.about.worker.clone()),
        });
        if let Some(stream) = &mut stream {
            stream.last_release = Some(release.clone());
        }
        self.queues.note_release(lease.job.queue, release);
    }

    fn release_one(&mut self, mut job: Arc<Job>, ready_at: Option<u64>) {
        self.queues.tally(job.queue, |tally| tally.released += 1);
        let released = Arc::make_mut(&mut job);
        // It was not delivered after all, and its worker has said all it has to say.
        released.lapsed = false;
        released.deliveries = released.deliveries.saturating_sub(1);
        match ready_at.filter(|at| *at > self.clock.now()) {
            None => self.requeue(job),
            Some(at) => self.put_off(job, at),
        }
    }

    /// Ends leases whose time is over. A stream with very many ends them over several turns.
    pub(in crate::engine) fn expire_leases(&mut self) {
        let due = self.streams.take_due(self.clock.up());
        due.into_iter().for_each(|key| self.check_stream(key));
    }

    /// Closes an open stream of events on which a lease ran out: its worker does not do its part, and must not get the
    /// job once more. A worker that is alive comes back.
    fn hang_up(&mut self, key: u64) {
        let Some(stream) = self.streams.get(key) else { return };
        if let (State::Open(outbox), StreamKind::Events) = (&stream.state, stream.kind) {
            outbox.close();
            self.disconnect(Link { stream: key, number: stream.connection });
        }
    }

    /// Returns the jobs whose leases end in this turn.
    pub(in crate::engine) fn expiring(&self) -> Vec<JobId> {
        let due = self.streams.due(self.clock.up());
        due.flat_map(|stream| look_at(stream, &self.leases, self.clock.up()).over).collect()
    }

    fn check_stream(&mut self, key: u64) {
        let Some(stream) = self.streams.get(key) else { return };
        let Look { over, next, is_cut } = look_at(stream, &self.leases, self.clock.up());
        let has_lapsed = stream.lapses || !over.is_empty();
        let was_left = matches!(stream.state, State::Broken { .. } | State::Gone { .. });
        // The youngest first: each goes in front of the one before.
        for id in over.into_iter().rev() {
            self.streams.tell(key, Item::Cancel { id, reason: CancelReason::LeaseLost });
            if let Some(lease) = self.end_lease(id) {
                self.give_back(lease.job, was_left);
            }
        }
        match self.streams.get_mut(key) {
            Some(stream) if is_cut => stream.lapses = stream.kind == StreamKind::Events,
            _ if has_lapsed => self.hang_up(key),
            _ => {}
        }
        self.streams.watch(key, next);
        self.drop_if_over(key);
    }

    /// Writes down the leases that began at or before `until`.
    pub(in crate::engine) fn save_leases(&mut self, until: u64) {
        while let Some(id) = self.leases.next_unsaved(until) {
            self.save_lease(id);
        }
    }

    pub(in crate::engine) fn save_lease(&mut self, id: JobId) {
        let Some(lease) = self.leases.get(id) else { return };
        let stream = self.streams.get(lease.stream);
        let resumable = stream.filter(|s| s.kind == StreamKind::Events);
        let end = self.clock.dated(end_to_save(lease, stream, self.clock.up()));
        let record = LeaseRecord {
            queue: lease.job.queue.0,
            priority: lease.job.priority,
            token: lease.token.to_u64(),
            deliveries: lease.job.deliveries,
            dequeued_at: lease.job.dequeued_at.unwrap_or_else(|| self.clock.wall_of(lease.since)),
            lease_ms: stream.and_then(|s| s.lease_ms),
            stream: resumable.map(|s| (s.id, lease.event)),
            end,
        };
        self.batch.put_lease(id, &record);
        if let Some(lease) = self.leases.get_mut(id) {
            lease.saved = Some(end);
        }
    }
}
