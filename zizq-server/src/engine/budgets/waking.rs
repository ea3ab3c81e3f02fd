//! Queues wake up when a gate opens at which they sleep, and go back to sleep when they find it closed.
//!
//! Before a stream takes a job, the queues that may have a better one than those in view are woken. For a stream that
//! takes from every queue, these are the first sleepers, for as long as they come before the job it would get; for any
//! other stream, its own queues. While other streams wait, sleepers are woken one by one until the gate is closed again
//! or no queue sleeps there. Being awake reserves nothing: a queue that no stream takes from keeps no token from
//! another queue.
//!
//! So a queue is woken, and goes back to sleep, about once for every job delivered. Two cases still cost a step for
//! every queue: when all jobs draw on two budgets that run empty in turn, and when streams wait for more than [`FEW`]
//! queues by name while those that take from every queue are busy.

use super::Gate;
use super::drawing::Stand;
use crate::engine::Engine;
use crate::engine::streams::Takes;
use crate::job::id::QueueId;

/// While streams wait for at most this many queues, only those queues are woken.
const FEW: usize = if cfg!(test) { 1 } else { 64 };

impl Engine {
    /// Follows a change of the first job of a queue at a gate.
    pub(in crate::engine) fn note_stand(&mut self, id: QueueId, Stand { gate, awake, before, after }: Stand) {
        if awake || before == after {
            return;
        }
        if before.is_none() && self.budgets.lets_pass(gate, self.clock.up()) {
            if let Some(queue) = self.queues.get_mut(id) {
                queue.drawing.set_awake(gate, true);
            }
            return;
        }
        self.budgets.follow(gate, id, before, after, self.clock.up());
    }

    /// Moves jobs of a queue that are first but short of tokens to the gate that is closed for them, until the first
    /// one can go. Returns whether there were any.
    pub(in crate::engine) fn pass_gates(&mut self, id: QueueId) -> bool {
        let mut moved_any = false;
        loop {
            let Some(draw) = self.queues.get(id).map(|queue| queue.head().draw()) else { return moved_any };
            if draw.is_none() {
                return moved_any;
            }
            self.budgets.refresh(draw, self.clock.up());
            let (gate, false) = self.budgets.gate_for(draw) else { return moved_any };
            moved_any = true;
            let moved = self.queues.get_mut(id).map(|queue| queue.drawing.move_to(draw, gate));
            for stand in moved.into_iter().flatten().flatten() {
                self.note_stand(id, stand);
            }
            self.sleep_at(id, gate);
            self.dispatcher.follow_head(&self.queues, id);
        }
    }

    fn sleep_at(&mut self, id: QueueId, gate: Gate) {
        let slept = self.queues.get_mut(id).and_then(|queue| queue.drawing.set_awake(gate, false));
        if slept.is_some() {
            self.budgets.follow(gate, id, None, slept, self.clock.up());
        }
    }

    /// Wakes a queue at a gate. Returns whether it slept.
    fn wake_at(&mut self, id: QueueId, gate: Gate) -> bool {
        let woken = self.queues.get_mut(id).and_then(|queue| queue.drawing.set_awake(gate, true));
        if woken.is_some() {
            self.budgets.follow(gate, id, woken, None, self.clock.up());
            self.dispatcher.dispatch_later(&mut self.queues, id);
        }
        woken.is_some()
    }

    fn wake_first(&mut self) -> bool {
        self.budgets.first_sleeper().is_some_and(|(id, gate)| self.wake_at(id, gate))
    }

    /// Wakes a queue at every open gate.
    fn wake_up(&mut self, id: QueueId) {
        let gates = self.queues.get(id).map(|queue| queue.drawing.sleeps_at_open(&self.budgets));
        for gate in gates.into_iter().flatten() {
            self.wake_at(id, gate);
        }
    }

    /// Wakes the queues that may have the next job for a stream.
    pub(in crate::engine) fn wake_for(&mut self, key: u64) {
        if self.budgets.first_sleeping().is_none() {
            return;
        }
        match self.streams.get(key).map(|stream| stream.takes.clone()) {
            Some(Takes::All) => {
                while let Some(sleeping) = self.budgets.first_sleeping()
                    && self.dispatcher.first_order().is_none_or(|awake| sleeping < awake)
                    && self.wake_first()
                {}
            }
            Some(Takes::Queues(ids)) => ids.into_iter().for_each(|id| self.wake_up(id)),
            None => {}
        }
    }

    /// Returns the next queue that may have a job for a waiting stream. Wakes one if no other is left.
    pub(in crate::engine) fn next_to_dispatch(&mut self) -> Option<QueueId> {
        if self.dispatcher.has_no_queue() && self.budgets.first_sleeping().is_some() {
            if let Some(awaited) = self.dispatcher.awaited(FEW) {
                awaited.into_iter().for_each(|id| self.wake_up(id));
            } else {
                while self.dispatcher.has_no_queue() && self.wake_first() {}
            }
        }
        self.dispatcher.next_queue()
    }
}
