//! Payloads of jobs in flight. A large one is left to the store once its job has been sent: it stays in the job's
//! record, and is read again before the record is rewritten or the job is sent again.

use std::sync::Arc;

use protocol::id::JobId;
use protocol::job::Status;
use protocol::lease::LeaseToken;
use protocol::stream::CancelReason;

use crate::engine::Engine;
use crate::engine::command::{About, Command, Payloads};
use crate::engine::outbox::Item;
use crate::engine::queues::lanes::Wanted;
use crate::engine::streams::State;
use crate::engine::streams::lease::Lease;
use crate::job::Job;
use crate::job::place::Place;
use crate::store::keys;

/// The most payload bytes that are read for a command and written at once. A command that needs more is carried out in
/// parts.
const MAX_AT_ONCE: usize = if cfg!(test) { 150_000 } else { 4 * 1024 * 1024 };

impl Engine {
    /// Returns the jobs whose payloads have to be read before a command is applied.
    pub fn needs_payloads(&self, command: &Command) -> Vec<Place> {
        self.left(command).into_iter().map(Job::place).collect()
    }

    /// Returns how many of its jobs the first part of a command has; none for all.
    pub fn first_part(&self, command: &Command) -> Option<usize> {
        let mut bytes = 0;
        let last = self.left(command).into_iter().find(|job| {
            bytes += job.left_bytes;
            bytes >= MAX_AT_ONCE
        })?;
        let position = match command.about() {
            About::Deliveries(jobs, _) => jobs.iter().position(|job| job.id == last.id),
            About::Jobs(ids, _) => ids.iter().position(|id| *id == last.id),
            About::Nothing
            | About::NewJobs(..)
            | About::Entry(..)
            | About::Batches(_)
            | About::InFlight(_) => None,
        };
        position.map(|position| position + 1)
    }

    /// Returns the jobs of a command whose payloads only the store has.
    fn left(&self, command: &Command) -> Vec<&Job> {
        if self.leases.are_whole() {
            return Vec::new();
        }
        let needed = |payloads: Payloads, job: &Job| {
            job.left_bytes > 0
                && match payloads {
                    Payloads::No => false,
                    Payloads::OfKept => self.keeps(job),
                    Payloads::All => true,
                }
        };
        match command.about() {
            About::Deliveries(jobs, payloads) => {
                let held = jobs.iter().filter_map(|job| self.held(job.id, job.lease));
                held.filter(|job| needed(payloads, job)).collect()
            }
            About::Jobs(ids, payloads) => {
                let held = ids.iter().filter_map(|id| self.held(*id, None));
                held.filter(|job| needed(payloads, job)).collect()
            }
            About::Nothing
            | About::NewJobs(..)
            | About::Entry(..)
            | About::Batches(_)
            | About::InFlight(_) => Vec::new(),
        }
    }

    fn held(&self, id: JobId, token: Option<LeaseToken>) -> Option<&Job> {
        let lease = self.leases.get(id).filter(|lease| token.is_none_or(|token| token == lease.token));
        lease.map(|lease| lease.job.as_ref())
    }

    /// Whether the job can still be seen after its success.
    fn keeps(&self, job: &Job) -> bool {
        self.completed_ms(job) > 0 || self.listeners.are_waiting_for(job.id)
    }

    /// Returns the jobs whose payloads have to be read before [`Engine::expire`].
    pub fn expiring_payloads(&self) -> Vec<Place> {
        if self.leases.are_whole() { Vec::new() } else { self.places(&self.expiring()) }
    }

    /// Returns the jobs whose payloads have to be read before [`Engine::tick`].
    pub fn overdue_payloads(&self) -> Vec<Place> {
        if self.leases.are_whole() { Vec::new() } else { self.places(&self.overdue()) }
    }

    fn places(&self, ids: &[JobId]) -> Vec<Place> {
        let jobs = ids.iter().filter_map(|id| self.held(*id, None));
        jobs.filter(|job| job.left_bytes > 0).map(Job::place).collect()
    }

    /// Takes in a job whose payload was asked for; none: the store has lost it.
    pub fn provide_payload(&mut self, place: Place, job: Option<Job>) {
        match job {
            Some(job) => self.leases.take_payload(job.id, job.payload),
            None if self.lease_at(place).is_some() => self.lost(place),
            None => {}
        }
    }

    /// Leaves large payloads to the store, which has them by now.
    pub fn leave_payloads(&mut self) {
        self.leases.leave_payloads();
    }

    /// Whether to commit what has changed before more is added.
    pub const fn is_heavy(&self) -> bool {
        self.batch.bytes() >= MAX_AT_ONCE
    }

    /// Sends workers that have come back what they missed, as fast as they read it.
    pub(in crate::engine) fn send_missed(&mut self) {
        let mut resuming = std::mem::take(&mut self.streams.resuming);
        resuming.retain(|key| !self.send_missed_to(*key));
        self.streams.resuming = resuming;
    }

    /// Returns true when nothing is left to send.
    fn send_missed_to(&mut self, key: u64) -> bool {
        loop {
            let Some(stream) = self.streams.get_mut(key) else { return true };
            let State::Open(outbox) = &stream.state else {
                stream.again.clear();
                return true;
            };
            let Some(&id) = stream.again.front() else {
                self.dispatcher.feed(&mut self.streams, key);
                return true;
            };
            if let Some(lease) = self.leases.get(id).filter(|lease| lease.stream == key) {
                if !outbox.has_room() {
                    return false;
                }
                if lease.job.left_bytes > 0 {
                    self.dispatcher.want(Wanted::Payload(lease.job.place()));
                    return false;
                }
                self.send(id);
            }
            if let Some(stream) = self.streams.get_mut(key) {
                stream.again.pop_front();
            }
        }
    }

    /// Returns the job in flight that is stored at this place, if memory has all of it.
    pub fn held_at(&self, place: Place) -> Option<Arc<Job>> {
        self.lease_at(place).map(|lease| lease.job.clone()).filter(|job| job.left_bytes == 0)
    }

    fn lease_at(&self, place: Place) -> Option<&Lease> {
        let at = keys::job(place);
        self.leases.iter().find(|lease| keys::job(lease.job.place()) == at)
    }

    /// Handles a job at this place that the store has lost. Its worker cannot be asked for the payload.
    pub fn lost(&mut self, place: Place) {
        if let Some((id, stream)) = self.lease_at(place).map(|lease| (lease.job.id, lease.stream)) {
            self.streams.tell(stream, Item::Cancel { id, reason: CancelReason::Deleted });
            if let Some(lease) = self.end_lease(id) {
                self.announce(&lease.job, Some(Status::InFlight), None);
            }
        }
        self.queues.count_down(place.queue, place.status);
        if self.budgets.has_draw(place.draw) {
            self.budgets.leave(place.draw);
        }
    }
}
