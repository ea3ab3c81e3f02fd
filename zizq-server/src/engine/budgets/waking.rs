//! Queues that wake up when a gate opens at which they sleep, and fall asleep when they find it closed.
//!
//! Who is about to take a job wakes those queues first that may have a better one than is to be seen: a stream that takes
//! from every queue has the first sleepers woken for as long as they come before what it would get, any other stream
//! those of its own queues. While others wait, sleepers are woken one after the other until the gate is closed again or
//! nobody sleeps there. To be awake reserves nothing: a queue from which nobody takes keeps no token from another.
//!
//! So a queue is woken, and falls asleep again, about once for every job that goes. Two things still cost a step for
//! every queue: that of two budgets, on which all jobs draw, now the one and now the other is empty; and that streams
//! wait for more than [`FEW`] queues by name while those that take from every queue are busy.

use super::Gate;
use super::drawing::Stand;
use crate::engine::Engine;
use crate::engine::streams::Takes;
use crate::job::id::QueueId;

/// While streams wait for no more queues than so many, only those are woken.
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

    /// Lets jobs of a queue that are first but short of tokens wait at the gate that is closed for them, until the
    /// first one can go. Whether there were such.
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

    /// Whether it slept.
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

    /// Wakes a queue at every gate that is open.
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

    /// The next queue that may have a job for a waiting stream; if nothing else is left, one that has to be woken.
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
