//! Budgets, what jobs draw on them, and whether their tokens suffice.
//!
//! All jobs that draw the same costs on the same budgets form one *draw*. A draw has a number, so that the order of its
//! jobs can be stored apart from that of other jobs (`drawing.rs`). This module holds what all draws share: the pools,
//! and the number of unfinished jobs of each draw.

pub(super) mod commands;
pub(super) mod drawing;
mod gates;
pub(super) mod pool;
mod waking;

use crate::job::draw::BudgetId;
use crate::job::draw::DrawId;
use std::collections::{BTreeMap, BTreeSet};

use protocol::budget::{Binding, BudgetView, Policy, Strategy};
use protocol::name::BudgetKey;
use smallvec::SmallVec;

use crate::clock::Time;
use crate::engine::command::report::BudgetLevel;
use crate::hash::{HashMap, HashSet};
use crate::job::id::{QueueId, Stamp};
use crate::store::batch::Batch;
use crate::store::record::{BudgetRecord, DrawRecord};
use gates::Sleepers;
use pool::Pool;

/// The place where jobs stand that need `cost` tokens of a budget. It is open while the budget has that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct Gate {
    pub budget: BudgetId,
    pub cost: u32,
}

/// What jobs draw, in the order of the budgets.
pub(in crate::engine) type Costs = SmallVec<[Gate; 2]>;

/// The number of draws without jobs that are kept. Any more are forgotten.
const MAX_IDLE_DRAWS: usize = if cfg!(test) { 2 } else { 1_024 };

#[derive(Debug)]
struct Budget {
    record: BudgetRecord,
    pool: Pool,
    /// The queues that sleep at its gates, by cost.
    sleepers: BTreeMap<u32, Sleepers>,
    /// The highest cost whose gate is open.
    open_to: u32,
    /// The draws that include it.
    draws: HashSet<DrawId>,
    /// The number of cron entries, and of jobs in bulks being taken in, that will draw on it, by cost.
    expected: BTreeMap<u32, usize>,
    wakes_at: Option<u64>,
}

#[derive(Debug)]
struct Draw {
    costs: Costs,
    /// Jobs that have not ended.
    unfinished: u64,
    /// Those of them that are in flight.
    held: u64,
    /// Queues that have lanes for this draw.
    queues: HashSet<QueueId>,
    changed: bool,
}

/// All budgets, and what jobs draw on them.
///
/// - `by_key` and `by_id` have the same budgets, `draws` and `by_costs` the same draws.
/// - [`Budgets::settle`] leaves `touched` empty. A gate is in `opened` exactly if it was open then and queues sleep at
///   it.
#[derive(Debug, Default)]
pub(in crate::engine) struct Budgets {
    by_id: HashMap<BudgetId, Budget>,
    by_key: BTreeMap<BudgetKey, BudgetId>,
    draws: HashMap<DrawId, Draw>,
    by_costs: HashMap<Costs, DrawId>,
    next_budget: u32,
    last_draw: u32,
    idle_draws: usize,
    changed: Vec<DrawId>,
    /// When each budget has enough tokens for the next of its closed gates.
    wakes: BTreeSet<(u64, BudgetId)>,
    /// The open gates at which queues sleep, by the first job that sleeps there.
    opened: BTreeSet<(u16, Stamp, Gate)>,
    /// Budgets whose pools have changed.
    touched: Vec<BudgetId>,
    /// The number of times that a queue was told about a gate, or noted at one.
    #[cfg(test)]
    pub steps: usize,
}

impl Budgets {
    /// Loads what is stored. A draw without jobs is not kept.
    pub(in crate::engine) fn load(
        &mut self,
        budgets: Vec<(BudgetId, BudgetRecord)>,
        draws: Vec<(DrawId, DrawRecord)>,
        up: u64,
        batch: &mut Batch,
    ) {
        for (id, record) in budgets {
            self.next_budget = self.next_budget.max(id.0 + 1);
            self.insert(id, record, up);
        }
        for (id, DrawRecord { costs, unfinished }) in draws {
            self.last_draw = self.last_draw.max(id.0);
            // A budget whose record was damaged and lost has left its number here.
            let budgets = costs.iter().map(|(budget, _)| budget.saturating_add(1));
            self.next_budget = budgets.fold(self.next_budget, u32::max);
            if unfinished == 0 {
                batch.remove_draw(id);
                continue;
            }
            let costs = costs.into_iter().map(|(budget, cost)| Gate { budget: BudgetId(budget), cost });
            self.insert_draw(id, costs.collect(), unfinished);
        }
    }

    fn insert(&mut self, id: BudgetId, record: BudgetRecord, up: u64) {
        self.by_key.insert(record.key.clone(), id);
        let pool = Pool::full(record.policy, up);
        let open_to = pool.tokens(record.policy, up);
        let budget = Budget {
            record,
            pool,
            sleepers: BTreeMap::new(),
            open_to,
            draws: HashSet::default(),
            expected: BTreeMap::new(),
            wakes_at: None,
        };
        self.by_id.insert(id, budget);
    }

    fn insert_draw(&mut self, id: DrawId, costs: Costs, unfinished: u64) {
        for gate in &costs {
            if let Some(budget) = self.by_id.get_mut(&gate.budget) {
                budget.draws.insert(id);
            }
        }
        self.by_costs.insert(costs.clone(), id);
        self.draws
            .insert(id, Draw { costs, unfinished, held: 0, queues: HashSet::default(), changed: false });
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(in crate::engine) fn id(&self, key: &BudgetKey) -> Option<BudgetId> {
        self.by_key.get(key).copied()
    }

    pub(in crate::engine) fn policy(&self, key: &BudgetKey) -> Option<Policy> {
        Some(self.by_id.get(self.by_key.get(key)?)?.record.policy)
    }

    pub(in crate::engine) fn view(&self, key: &BudgetKey) -> Option<BudgetView> {
        let BudgetRecord { key, policy, created_at, updated_at } =
            &self.by_id.get(self.by_key.get(key)?)?.record;
        Some(BudgetView {
            key: key.clone(),
            allocation: policy.allocation,
            strategy: policy.strategy,
            created_at: *created_at,
            updated_at: *updated_at,
        })
    }

    /// Returns all budgets, by key.
    pub(in crate::engine) fn views(&self) -> Vec<BudgetView> {
        self.by_key.keys().filter_map(|key| self.view(key)).collect()
    }

    /// How the oldest budgets are, at most so many: a budget that is among them stays there.
    pub(in crate::engine) fn levels(&self, most: usize, up: u64) -> Vec<BudgetLevel> {
        let mut oldest: Vec<_> = self.by_id.iter().collect();
        oldest.sort_unstable_by_key(|(id, _)| **id);
        let level = |(_, budget): (&BudgetId, &Budget)| {
            let draws = budget.draws.iter().filter_map(|draw| self.draws.get(draw));
            let BudgetRecord { key, policy, .. } = &budget.record;
            BudgetLevel {
                key: key.clone(),
                allocation: policy.allocation,
                available: budget.pool.tokens(*policy, up),
                parked: draws.map(|draw| draw.unfinished.saturating_sub(draw.held)).sum(),
            }
        };
        oldest.into_iter().take(most).map(level).collect()
    }

    pub(in crate::engine) fn create(&mut self, key: BudgetKey, policy: Policy, now: Time, batch: &mut Batch) {
        let id = BudgetId(self.next_budget);
        self.next_budget += 1;
        let record = BudgetRecord { key, policy, created_at: now.wall, updated_at: now.wall };
        batch.put_budget(id, &record);
        self.insert(id, record, now.up);
    }

    /// Changes the policy of a budget, with immediate effect.
    pub(in crate::engine) fn change(&mut self, id: BudgetId, policy: Policy, now: Time, batch: &mut Batch) {
        let Some(budget) = self.by_id.get_mut(&id) else { return };
        budget.pool.change(budget.record.policy, policy, now.up);
        budget.record.policy = policy;
        budget.record.updated_at = now.wall;
        batch.put_budget(id, &budget.record);
        self.touched.push(id);
    }

    /// Returns the highest cost that unfinished or expected jobs draw on a budget; none if nothing draws on it.
    pub(in crate::engine) fn highest_cost_in_use(&self, id: BudgetId) -> Option<u32> {
        let budget = self.by_id.get(&id)?;
        let draws = budget.draws.iter().filter_map(|draw| self.draws.get(draw)).filter(|d| d.unfinished > 0);
        let costs = draws.flat_map(|draw| draw.costs.iter().filter(|gate| gate.budget == id));
        costs.map(|gate| gate.cost).chain(budget.expected.keys().copied()).max()
    }

    /// Forgets a budget that nothing draws on. The caller drops the lanes of its draws.
    pub(in crate::engine) fn remove(
        &mut self,
        id: BudgetId,
        batch: &mut Batch,
    ) -> Vec<(DrawId, Vec<QueueId>)> {
        let idle = self.by_id.get(&id).map(|b| b.draws.iter().copied().collect::<Vec<_>>());
        let dropped = idle.unwrap_or_default().into_iter().map(|draw| self.remove_draw(draw, batch));
        let dropped = dropped.collect();
        self.forget_sleepers(id);
        if let Some(budget) = self.by_id.remove(&id) {
            self.by_key.remove(&budget.record.key);
            if let Some(at) = budget.wakes_at {
                self.wakes.remove(&(at, id));
            }
        }
        batch.remove_budget(id);
        dropped
    }

    fn remove_draw(&mut self, id: DrawId, batch: &mut Batch) -> (DrawId, Vec<QueueId>) {
        batch.remove_draw(id);
        let Some(draw) = self.draws.remove(&id) else { return (id, Vec::new()) };
        self.idle_draws -= usize::from(draw.unfinished == 0);
        self.by_costs.remove(&draw.costs);
        for gate in &draw.costs {
            if let Some(budget) = self.by_id.get_mut(&gate.budget) {
                budget.draws.remove(&id);
            }
        }
        (id, draw.queues.into_iter().collect())
    }

    /// Forgets the draws without jobs if there are many. The caller drops their lanes.
    pub(in crate::engine) fn drop_idle_draws(&mut self, batch: &mut Batch) -> Vec<(DrawId, Vec<QueueId>)> {
        if self.idle_draws <= MAX_IDLE_DRAWS {
            return Vec::new();
        }
        let idle = self.draws.iter().filter(|(_, draw)| draw.unfinished == 0).map(|(id, _)| *id);
        let idle: Vec<DrawId> = idle.collect();
        idle.into_iter().map(|id| self.remove_draw(id, batch)).collect()
    }

    /// Returns these bindings without those to missing budgets, and with no cost higher than can be paid; none if they
    /// are correct as they are.
    pub(in crate::engine) fn correct(&self, bindings: &[Binding]) -> Option<Vec<Binding>> {
        let highest = |binding: &Binding| self.policy(&binding.key).map(|policy| policy.highest_cost());
        if bindings.iter().all(|binding| highest(binding).is_some_and(|most| binding.cost <= most)) {
            return None;
        }
        let correct = |binding: &Binding| {
            Some(Binding { key: binding.key.clone(), cost: binding.cost.min(highest(binding)?) })
        };
        Some(bindings.iter().filter_map(correct).collect())
    }

    /// Returns the draw of these bindings and counts one more unfinished job in it.
    pub(in crate::engine) fn enter(&mut self, bindings: &[Binding]) -> DrawId {
        let gate = |binding: &Binding| Some(Gate { budget: self.id(&binding.key)?, cost: binding.cost });
        let mut costs: Costs = bindings.iter().filter_map(gate).collect();
        if costs.is_empty() {
            return DrawId::NONE;
        }
        costs.sort_unstable();
        let id = match self.by_costs.get(&costs) {
            Some(id) => *id,
            None => {
                self.last_draw += 1;
                self.idle_draws += 1;
                self.insert_draw(DrawId(self.last_draw), costs, 0);
                DrawId(self.last_draw)
            }
        };
        self.count(id, |unfinished| unfinished + 1);
        id
    }

    /// Counts one unfinished job less.
    pub(in crate::engine) fn leave(&mut self, id: DrawId) {
        if !id.is_none() {
            self.count(id, |unfinished| unfinished.saturating_sub(1));
        }
    }

    fn count(&mut self, id: DrawId, change: impl FnOnce(u64) -> u64) {
        let Some(draw) = self.draws.get_mut(&id) else { return };
        let was_idle = draw.unfinished == 0;
        draw.unfinished = change(draw.unfinished);
        match (was_idle, draw.unfinished == 0) {
            (true, false) => self.idle_draws -= 1,
            (false, true) => self.idle_draws += 1,
            _ => {}
        }
        if !draw.changed {
            draw.changed = true;
            self.changed.push(id);
        }
    }

    /// Writes how many jobs the draws have.
    pub(in crate::engine) fn save(&mut self, batch: &mut Batch) {
        for id in self.changed.drain(..) {
            if let Some(draw) = self.draws.get_mut(&id) {
                draw.changed = false;
                let costs = draw.costs.iter().map(|gate| (gate.budget.0, gate.cost)).collect();
                batch.put_draw(id, &DrawRecord { costs, unfinished: draw.unfinished });
            }
        }
    }

    pub(in crate::engine) fn has_draw(&self, id: DrawId) -> bool {
        self.draws.contains_key(&id)
    }

    /// Notes that a queue has lanes for a draw.
    pub(in crate::engine) fn add_queue(&mut self, id: DrawId, queue: QueueId) {
        if let Some(draw) = self.draws.get_mut(&id) {
            draw.queues.insert(queue);
        }
    }

    /// Whether a job that was delivered before could go on. It has already paid the tokens that only time brings back.
    pub(in crate::engine) fn can_hold(&self, id: DrawId, up: u64) -> bool {
        let costs = self.draws.get(&id).map(|draw| draw.costs.as_slice()).unwrap_or_default();
        costs.iter().all(|gate| {
            self.by_id.get(&gate.budget).is_none_or(|budget| {
                let policy = budget.record.policy;
                policy.strategy != Strategy::WhileInFlight || budget.pool.tokens(policy, up) >= gate.cost
            })
        })
    }

    /// Counts a job that goes into flight.
    pub(in crate::engine) fn hold(&mut self, id: DrawId) {
        self.draws.get_mut(&id).into_iter().for_each(|draw| draw.held += 1);
        self.pools(id, |pool, _, cost| pool.hold(cost));
    }

    /// Counts a job that leaves flight.
    pub(in crate::engine) fn let_go(&mut self, id: DrawId) {
        self.draws.get_mut(&id).into_iter().for_each(|draw| draw.held = draw.held.saturating_sub(1));
        self.pools(id, |pool, _, cost| pool.let_go(cost));
    }

    /// Takes the tokens of a job that is delivered.
    pub(in crate::engine) fn spend(&mut self, id: DrawId, up: u64) {
        self.pools(id, |pool, policy, cost| pool.spend(policy, cost, up));
    }

    fn pools(&mut self, id: DrawId, change: impl Fn(&mut Pool, Policy, u32)) {
        let Some(draw) = self.draws.get(&id) else { return };
        for gate in &draw.costs {
            if let Some(budget) = self.by_id.get_mut(&gate.budget) {
                change(&mut budget.pool, budget.record.policy, gate.cost);
                self.touched.push(gate.budget);
            }
        }
    }

    /// Counts bindings that will draw on budgets in or out.
    pub(in crate::engine) fn expect(&mut self, bindings: &[Binding], comes: bool) {
        for Binding { key, cost } in bindings {
            let budget = self.by_key.get(key).and_then(|id| self.by_id.get_mut(id));
            let Some(budget) = budget else { continue };
            let entries = budget.expected.entry(*cost).or_default();
            *entries = if comes { *entries + 1 } else { entries.saturating_sub(1) };
            if *entries == 0 {
                budget.expected.remove(cost);
            }
        }
    }
}
