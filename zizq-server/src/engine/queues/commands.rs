//! Requests about queues: to show their state, and to pause or resume them.

use protocol::name::QueueName;
use protocol::plural::plural;

use crate::engine::Engine;
use crate::engine::command::queues::{PauseQueue, QueueState};
use crate::engine::command::{Edited, Reject};

impl Engine {
    pub(in crate::engine) fn pause(
        &mut self,
        PauseQueue { queue, paused }: PauseQueue,
    ) -> Edited<QueueState> {
        let before = self.queue_state(&queue);
        let id = self.queues.id(&queue);
        self.queues.pause(id, paused);
        // Also if it is paused: it must leave the order of those that have a job to deliver.
        self.dispatcher.dispatch_later(&mut self.queues, id);
        Edited::of(Some(before), self.queue_state(&queue))
    }

    fn queue_state(&self, queue: &QueueName) -> QueueState {
        let state = self.queue_states(Some(std::slice::from_ref(queue))).pop();
        state.unwrap_or_else(|| QueueState::empty(queue.clone()))
    }

    /// Forgets a queue that is paused and has no jobs: the pause is the only thing kept of it.
    pub(in crate::engine) fn forget_queue(&mut self, name: &QueueName) -> Result<(), Reject> {
        let id = self.queues.known(name);
        let record = id.and_then(|id| Some((id, &self.queues.get(id)?.record)));
        match record.map(|(id, record)| (id, record.counts.total(), record.paused)) {
            Some((_, jobs @ 1.., _)) => Err(Reject::InUse(format!(
                "queue `{name}` has {jobs} {}; delete {} first, with DELETE /jobs and this queue as filter",
                plural(jobs, "job", "jobs"),
                plural(jobs, "it", "them"),
            ))),
            Some((id, 0, true)) => {
                self.queues.pause(id, false);
                self.dispatcher.dispatch_later(&mut self.queues, id);
                Ok(())
            }
            _ => Err(Reject::Missing(format!(
                "queue `{name}` has no jobs and is not paused, so nothing is kept of it"
            ))),
        }
    }

    pub(in crate::engine) fn queue_states(&self, names: Option<&[QueueName]>) -> Vec<QueueState> {
        self.queues.states(names)
    }
}
