//! Leases: which stream holds which job.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::payload::Payload;

use crate::hash::HashMap;
use crate::job::Job;
use crate::job::event::Progress;
use crate::store::record::LeaseEnd;

/// The age at which a lease is written down, in milliseconds.
pub(in crate::engine) const SAVE_AFTER_MS: u64 = 1_000;

/// The right to run one attempt of a job. Its times are by the clock that never steps ([`crate::engine::clock`]).
#[derive(Debug)]
pub(in crate::engine) struct Lease {
    /// The job, with this delivery counted.
    pub job: Arc<Job>,
    pub token: LeaseToken,
    pub stream: u64,
    /// When the delivery was made, or the lease was restored.
    pub since: u64,
    /// The time until which a heartbeat for this job alone keeps it.
    pub kept_until: Option<u64>,
    /// When the attempt is overdue.
    pub deadline: Option<u64>,
    /// The number of its event on the stream.
    pub event: u64,
    /// When it was restored, until its worker is heard of again.
    pub restored_at: Option<u64>,
    /// What its worker last said about the attempt.
    pub progress: Option<Arc<Progress>>,
    /// What the store knows of its end, by the wall clock; none: the store does not know of the lease.
    pub saved: Option<LeaseEnd>,
}

/// The leases of all jobs in flight.
///
/// - A job is in flight exactly if it has a lease here, and it has at most one.
/// - A lease that the store does not know of is in `unsaved`, one with a deadline in `deadlines`.
/// - `light` is the number of jobs that have left their payloads to the store.
#[derive(Debug, Default)]
pub(in crate::engine) struct Leases {
    by_job: HashMap<JobId, Lease>,
    /// Leases that may have to be written down, in the order of delivery. Most are over before that.
    unsaved: VecDeque<(u64, LeaseToken, JobId)>,
    /// The deadlines of attempts with a time limit.
    deadlines: BTreeSet<(u64, LeaseToken, JobId)>,
    /// The number of jobs that have left their payloads to the store.
    light: usize,
    /// Jobs whose large payloads are still here.
    heavy: Vec<JobId>,
}

impl Leases {
    pub(in crate::engine) fn insert(&mut self, lease: Lease) {
        if lease.saved.is_none() {
            self.unsaved.push_back((lease.since, lease.token, lease.job.id));
        }
        self.deadlines.extend(lease.deadline.map(|at| (at, lease.token, lease.job.id)));
        self.light += usize::from(lease.job.left_bytes > 0);
        if lease.job.is_large() {
            self.heavy.push(lease.job.id);
        }
        self.by_job.insert(lease.job.id, lease);
    }

    /// Leaves large payloads to the store, which has them by now.
    pub(in crate::engine) fn leave_payloads(&mut self) {
        for id in self.heavy.drain(..) {
            if let Some(lease) = self.by_job.get_mut(&id)
                && lease.job.left_bytes == 0
            {
                Arc::make_mut(&mut lease.job).leave_payload();
                self.light += usize::from(lease.job.left_bytes > 0);
            }
        }
    }

    /// Gives a job its payload again.
    pub(in crate::engine) fn take_payload(&mut self, id: JobId, payload: Payload) {
        if let Some(lease) = self.by_job.get_mut(&id)
            && lease.job.left_bytes > 0
        {
            Arc::make_mut(&mut lease.job).take_payload(payload);
            self.light -= 1;
            self.heavy.push(id);
        }
    }

    /// Whether all jobs have their payloads.
    pub(in crate::engine) const fn are_whole(&self) -> bool {
        self.light == 0
    }

    pub(in crate::engine) fn get(&self, id: JobId) -> Option<&Lease> {
        self.by_job.get(&id)
    }

    pub(in crate::engine) fn get_mut(&mut self, id: JobId) -> Option<&mut Lease> {
        self.by_job.get_mut(&id)
    }

    pub(in crate::engine) fn remove(&mut self, id: JobId) -> Option<Lease> {
        let lease = self.by_job.remove(&id)?;
        self.light -= usize::from(lease.job.left_bytes > 0);
        if let Some(at) = lease.deadline {
            self.deadlines.remove(&(at, lease.token, id));
        }
        Some(lease)
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.by_job.len()
    }

    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_job.values()
    }

    /// Returns when the next attempt is overdue.
    pub(in crate::engine) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    /// Returns the leases whose attempts are overdue by now, the longest overdue first.
    pub(in crate::engine) fn overdue(&self, now: u64) -> impl Iterator<Item = &Lease> {
        let over = self.deadlines.iter().take_while(move |(at, ..)| *at <= now);
        over.filter_map(|(.., id)| self.by_job.get(id))
    }

    /// Returns the next job whose lease began at or before `until`, is still held, and is not written down.
    pub(in crate::engine) fn next_unsaved(&mut self, until: u64) -> Option<JobId> {
        while let Some(&(since, token, id)) = self.unsaved.front() {
            if since > until {
                return None;
            }
            self.unsaved.pop_front();
            if self
                .by_job
                .get(&id)
                .is_some_and(|lease| lease.token == token && lease.since == since && lease.saved.is_none())
            {
                return Some(id);
            }
        }
        None
    }

    /// Returns when the next lease may have to be written down.
    pub(in crate::engine) fn next_save(&self) -> Option<u64> {
        self.unsaved.front().map(|(since, ..)| since + SAVE_AFTER_MS)
    }
}
