//! Delivery of a ready job: it gets a token and a lease, and its stream is told.

use std::sync::Arc;

use protocol::id::JobId;

use super::State;
use super::lease::Lease;
use super::renew;
use crate::engine::Engine;
use crate::engine::outbox::{Delivery, Item};
use crate::job::Job;

impl Engine {
    /// Delivers a ready job to a stream.
    pub(in crate::engine) fn deliver(&mut self, key: u64, mut job: Arc<Job>) {
        self.leaves_ready(&job);
        self.queues.delivered(job.queue, self.waited(&job));
        let token = self.clock.next_token();
        let delivered = Arc::make_mut(&mut job);
        delivered.deliveries = delivered.deliveries.saturating_add(1);
        delivered.dequeued_at = Some(self.clock.now());
        // The job is ready, whatever the clock said when it became so: the clock may have been set back since.
        delivered.ready_at = delivered.ready_at.min(self.clock.now());
        delivered.last_lease = Some(token);
        delivered.lapsed = false;
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.event += 1;
        let (id, event, draw) = (job.id, stream.event, job.draw);
        self.lease_to(
            key,
            Lease {
                job,
                token,
                stream: key,
                since: self.clock.up(),
                kept_until: None,
                deadline: None,
                event,
                restored_at: None,
                progress: None,
                saved: None,
            },
        );
        self.send(id);
        if !draw.is_none() {
            self.budgets.spend(draw, self.clock.up());
            self.budgets.settle(self.clock.up());
        }
    }

    /// Sends the job of a lease to the holder of the lease.
    pub(in crate::engine) fn send(&mut self, id: JobId) {
        let Some(lease) = self.leases.get(id) else { return };
        let (Some(stream), Some(queue)) = (self.streams.get(lease.stream), self.queues.name(lease.job.queue))
        else {
            return;
        };
        let delivery = Delivery {
            job: lease.job.clone(),
            queue: queue.clone(),
            token: lease.token,
            lease_expires_at: renew::end_of(lease, stream).map(|end| self.clock.wall_of(end)),
            event: lease.event,
        };
        if let State::Open(outbox) = &stream.state {
            outbox.reserve(delivery.job.weight());
        }
        let key = lease.stream;
        self.streams.tell(key, Item::Job(delivery));
    }
}
