//! Gates: for every cost that jobs draw on a budget, whether it has so many tokens now. The queues with jobs at a gate
//! hear of it when it opens or closes.

use super::{BudgetId, Budgets, DrawId, Gate};
use crate::engine::id::QueueId;

/// A gate that has opened or closed, for a queue with jobs at it.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Moved {
    pub queue: QueueId,
    pub gate: Gate,
    pub open: bool,
}

impl Budgets {
    /// The first gate that a draw cannot pass now, or else its first gate, and whether that is open.
    pub(in crate::engine) fn gate_for(&self, id: DrawId) -> (Gate, bool) {
        let costs = self.draws.get(&id).map(|draw| draw.costs.as_slice()).unwrap_or_default();
        let closed = costs.iter().find(|gate| !self.is_open(**gate));
        match closed.or(costs.first()) {
            Some(gate) => (*gate, closed.is_none()),
            // The record of the draw was damaged and is lost: nothing holds its jobs up.
            None => (Gate { budget: BudgetId(u32::MAX), cost: 0 }, true),
        }
    }

    /// Has the pools of a draw looked at anew by the next [`Budgets::settle`]: time may have filled them.
    pub(in crate::engine) fn touch(&mut self, id: DrawId) {
        let costs = self.draws.get(&id).map(|draw| draw.costs.as_slice()).unwrap_or_default();
        self.touched.extend(costs.iter().map(|gate| gate.budget));
    }

    /// Whether a budget has tokens enough, as of the last [`Budgets::settle`].
    pub(in crate::engine) fn is_open(&self, gate: Gate) -> bool {
        self.by_id.get(&gate.budget).is_none_or(|budget| gate.cost <= budget.open_to)
    }

    /// Notes whether a queue has jobs at a gate.
    pub(in crate::engine) fn stand(&mut self, gate: Gate, queue: QueueId, stands: bool) {
        let Some(budget) = self.by_id.get_mut(&gate.budget) else { return };
        if stands {
            budget.queues.entry(gate.cost).or_default().insert(queue);
            self.touched.push(gate.budget);
        } else if let Some(queues) = budget.queues.get_mut(&gate.cost) {
            queues.remove(&queue);
            if queues.is_empty() {
                budget.queues.remove(&gate.cost);
                self.touched.push(gate.budget);
            }
        }
    }

    /// When the next gate opens by itself.
    pub(in crate::engine) fn next_wake(&self) -> Option<u64> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Opens and closes gates by what the pools hold now. The queues with jobs at them are to be told.
    pub(in crate::engine) fn settle(&mut self, now: u64) -> Vec<Moved> {
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            if let Some(budget) = self.by_id.get_mut(&id) {
                budget.wakes_at = None;
            }
            self.touched.push(id);
        }
        while let Some(id) = self.touched.pop() {
            self.settle_one(id, now);
        }
        std::mem::take(&mut self.moved)
    }

    fn settle_one(&mut self, id: BudgetId, now: u64) {
        let Some(budget) = self.by_id.get_mut(&id) else { return };
        let policy = budget.record.policy;
        let before = budget.open_to;
        budget.open_to = budget.pool.tokens(policy, now);
        let (low, high) = (before.min(budget.open_to), before.max(budget.open_to));
        let open = budget.open_to > before;
        if low < high {
            for (cost, queues) in budget.queues.range(low + 1..=high) {
                let gate = Gate { budget: id, cost: *cost };
                self.moved.extend(queues.iter().map(|queue| Moved { queue: *queue, gate, open }));
            }
        }
        let next = budget.open_to.checked_add(1).and_then(|above| budget.queues.range(above..).next());
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
