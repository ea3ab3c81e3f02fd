//! Gates: one for each cost that jobs draw on a budget. It is open while the budget has that many tokens.
//!
//! A queue with jobs at a gate is *awake* there while it assumes that the gate is open; otherwise it *sleeps*. No queue
//! is told that a gate closes: it finds the gate closed when its turn comes, and goes to sleep. When a gate opens,
//! sleeping queues are told one by one, in the order of their first jobs, for as long as it stays open (`waking.rs`).
//! So a budget costs the same however many queues draw on it.

use std::collections::BTreeSet;

use super::{Budgets, Gate};
use crate::job::draw::{BudgetId, DrawId};
use crate::job::id::{QueueId, Stamp};

/// The queues that sleep at a gate.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// The sleeping queues, by their first jobs at the gate.
    order: BTreeSet<(u16, Stamp, QueueId)>,
    /// The order under which the gate is listed among the open gates; none if it is closed.
    listed: Option<(u16, Stamp)>,
}

impl Sleepers {
    /// Updates the order of the open gates with sleepers.
    fn relist(&mut self, gate: Gate, is_open: bool, opened: &mut BTreeSet<(u16, Stamp, Gate)>) {
        let first = self.order.first().filter(|_| is_open);
        let first = first.map(|(priority, stamp, _)| (*priority, *stamp));
        let before = std::mem::replace(&mut self.listed, first);
        if before != first {
            Self::unlist(before, gate, opened);
            opened.extend(first.map(|(priority, stamp)| (priority, stamp, gate)));
        }
    }

    fn unlist(listed: Option<(u16, Stamp)>, gate: Gate, opened: &mut BTreeSet<(u16, Stamp, Gate)>) {
        if let Some((priority, stamp)) = listed {
            opened.remove(&(priority, stamp, gate));
        }
    }
}

impl Budgets {
    /// Returns the first gate that a draw cannot pass now, or its first gate if it can pass all; and whether that gate
    /// is open.
    pub(in crate::engine) fn gate_for(&self, id: DrawId) -> (Gate, bool) {
        let costs = self.draws.get(&id).map(|draw| draw.costs.as_slice()).unwrap_or_default();
        let closed = costs.iter().find(|gate| !self.is_open(**gate));
        match closed.or(costs.first()) {
            Some(gate) => (*gate, closed.is_none()),
            // The record of the draw was damaged and lost: nothing holds its jobs up.
            None => (Gate { budget: BudgetId(u32::MAX), cost: 0 }, true),
        }
    }

    /// Recalculates the pools of a draw: time may have filled them.
    pub(in crate::engine) fn refresh(&mut self, id: DrawId, up: u64) {
        let costs = self.draws.get(&id).map(|draw| draw.costs.as_slice()).unwrap_or_default();
        self.touched.extend(costs.iter().map(|gate| gate.budget));
        self.settle(up);
    }

    /// Whether a budget has enough tokens now.
    pub(in crate::engine) fn lets_pass(&mut self, gate: Gate, up: u64) -> bool {
        self.touched.push(gate.budget);
        self.settle(up);
        self.is_open(gate)
    }

    /// Whether a budget had enough tokens at the last [`Budgets::settle`].
    pub(in crate::engine) fn is_open(&self, gate: Gate) -> bool {
        self.by_id.get(&gate.budget).is_none_or(|budget| gate.cost <= budget.open_to)
    }

    /// Follows the first job of a queue that sleeps at a gate, from before to after; none if the queue does not sleep
    /// there yet, or no longer does.
    pub(in crate::engine) fn follow(
        &mut self,
        gate: Gate,
        queue: QueueId,
        before: Option<(u16, Stamp)>,
        after: Option<(u16, Stamp)>,
        up: u64,
    ) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let Some(budget) = self.by_id.get_mut(&gate.budget) else { return };
        let sleepers = budget.sleepers.entry(gate.cost).or_default();
        let none_before = sleepers.order.is_empty();
        if let Some((priority, stamp)) = before {
            sleepers.order.remove(&(priority, stamp, queue));
        }
        sleepers.order.extend(after.map(|(priority, stamp)| (priority, stamp, queue)));
        sleepers.relist(gate, gate.cost <= budget.open_to, &mut self.opened);
        let none_after = sleepers.order.is_empty();
        if none_after {
            budget.sleepers.remove(&gate.cost);
        }
        if none_before != none_after {
            // The budget has to wake up for this gate, or no longer needs to.
            self.touched.push(gate.budget);
            self.settle(up);
        }
    }

    /// Returns the order of the first job that sleeps at an open gate.
    pub(in crate::engine) fn first_sleeping(&self) -> Option<(u16, Stamp)> {
        self.opened.first().map(|(priority, stamp, _)| (*priority, *stamp))
    }

    /// Returns the open gates at which queues sleep.
    pub(in crate::engine) fn opened(&self) -> impl ExactSizeIterator<Item = Gate> {
        self.opened.iter().map(|(.., gate)| *gate)
    }

    /// Returns the first queue that sleeps at an open gate, and the gate.
    pub(in crate::engine) fn first_sleeper(&self) -> Option<(QueueId, Gate)> {
        let (.., gate) = *self.opened.first()?;
        let (.., queue) = *self.by_id.get(&gate.budget)?.sleepers.get(&gate.cost)?.order.first()?;
        Some((queue, gate))
    }

    /// Forgets the queues that sleep at the gates of a budget.
    pub(super) fn forget_sleepers(&mut self, id: BudgetId) {
        let Some(budget) = self.by_id.get_mut(&id) else { return };
        for (cost, sleepers) in std::mem::take(&mut budget.sleepers) {
            Sleepers::unlist(sleepers.listed, Gate { budget: id, cost }, &mut self.opened);
        }
    }

    /// Returns when the next gate opens by itself.
    pub(in crate::engine) fn next_wake(&self) -> Option<u64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Opens and closes gates according to what the pools hold now.
    pub(in crate::engine) fn settle(&mut self, up: u64) {
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= up) {
            self.wakes.remove(&(at, id));
            if let Some(budget) = self.by_id.get_mut(&id) {
                budget.wakes_at = None;
            }
            self.touched.push(id);
        }
        while let Some(id) = self.touched.pop() {
            self.settle_one(id, up);
        }
    }

    fn settle_one(&mut self, id: BudgetId, up: u64) {
        let Some(budget) = self.by_id.get_mut(&id) else { return };
        let policy = budget.record.policy;
        let before = budget.open_to;
        budget.open_to = budget.pool.tokens(policy, up);
        let (low, high) = (before.min(budget.open_to), before.max(budget.open_to));
        if low < high {
            let is_open = budget.open_to > before;
            for (cost, sleepers) in budget.sleepers.range_mut(low + 1..=high) {
                sleepers.relist(Gate { budget: id, cost: *cost }, is_open, &mut self.opened);
            }
        }
        let next = budget.open_to.checked_add(1).and_then(|above| budget.sleepers.range(above..).next());
        let wakes_at = next.and_then(|(cost, _)| budget.pool.has_at(policy, *cost));
        if wakes_at != budget.wakes_at {
            if let Some(at) = budget.wakes_at {
                self.wakes.remove(&(at, id));
            }
            self.wakes.extend(wakes_at.map(|at| (at, id)));
            budget.wakes_at = wakes_at;
        }
    }
}
