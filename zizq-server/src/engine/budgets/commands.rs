//! Requests about budgets, and about the bindings of jobs to them.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::budget::{Binding, BudgetView, MAX_BINDINGS, NewBinding, Policy};
use protocol::enqueue::NewJob;
use protocol::flow::Flow;
use protocol::name::BudgetKey;
use protocol::plural::plural;

use crate::engine::Engine;
use crate::engine::command::budgets::{BindingChange, CreateBudget, PatchBudget, PutBudget};
use crate::engine::command::{Edited, Reject};
use crate::engine::jobs::transition::Then;
use crate::hash::HashMap;
use crate::job::Job;

/// The characters of a key that cannot stand in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

fn unknown(key: &BudgetKey) -> String {
    format!("no budget has the key `{key}`")
}

/// For those who want to draw on the budget.
fn unknown_yet(key: &BudgetKey) -> String {
    let in_path = utf8_percent_encode(key.as_str(), IN_PATH);
    format!("{}; create it with PUT /budgets/{in_path}", unknown(key))
}

fn too_costly(key: &BudgetKey, cost: u32, policy: Policy) -> String {
    let highest = policy.highest_cost();
    format!("cost: {cost} is more than the budget `{key}` can ever pay; it holds at most {highest}")
}

impl Engine {
    /// Returns the budget with this key.
    pub(in crate::engine) fn budget(&self, key: &BudgetKey) -> Result<BudgetView, Reject> {
        self.budgets.view(key).ok_or_else(|| Reject::Missing(unknown(key)))
    }

    pub(in crate::engine) fn create_budget(&mut self, create: CreateBudget) -> Result<BudgetView, Reject> {
        let CreateBudget(key, policy) = create;
        if self.budgets.id(&key).is_some() {
            return Err(Reject::Exists(format!("the budget `{key}` exists already")));
        }
        self.make_budget(key.clone(), policy)?;
        self.budget(&key)
    }

    pub(in crate::engine) fn put_budget(
        &mut self,
        PutBudget(key, policy): PutBudget,
    ) -> Result<Edited<BudgetView>, Reject> {
        let before = self.budgets.view(&key);
        if before.is_none() {
            self.make_budget(key.clone(), policy)?;
        } else {
            self.change_budget(&key, policy)?;
        }
        Ok(Edited::of(before, self.budget(&key)?))
    }

    pub(in crate::engine) fn patch_budget(
        &mut self,
        PatchBudget(key, patch): PatchBudget,
    ) -> Result<Edited<BudgetView>, Reject> {
        let before = self.budget(&key)?;
        let policy = Policy { allocation: before.allocation, strategy: before.strategy };
        self.change_budget(&key, patch.apply(policy).map_err(Reject::NotAllowed)?)?;
        Ok(Edited::of(Some(before), self.budget(&key)?))
    }

    fn make_budget(&mut self, key: BudgetKey, policy: Policy) -> Result<(), Reject> {
        self.check_room(1)?;
        self.budgets.create(key, policy, self.clock.time(), &mut self.batch);
        Ok(())
    }

    /// Checks that the limit leaves room for this many more budgets.
    fn check_room(&self, more: usize) -> Result<(), Reject> {
        let limit = self.settings.max_budgets;
        if more == 0 || self.budgets.len() + more <= limit {
            return Ok(());
        }
        Err(Reject::NotAllowed(format!(
            "this server allows at most {limit} {}",
            plural(limit, "budget", "budgets")
        )))
    }

    fn change_budget(&mut self, key: &BudgetKey, policy: Policy) -> Result<(), Reject> {
        let id = self.budgets.id(key).ok_or_else(|| Reject::Missing(unknown(key)))?;
        if let Some(cost) = self.budgets.highest_cost_in_use(id).filter(|cost| *cost > policy.highest_cost())
        {
            let highest = policy.highest_cost();
            return Err(Reject::NotAllowed(format!(
                "the budget `{key}` would hold at most {highest}, but a job draws {cost} on it"
            )));
        }
        if self.budgets.policy(key) != Some(policy) {
            self.budgets.change(id, policy, self.clock.time(), &mut self.batch);
        }
        Ok(())
    }

    pub(in crate::engine) fn delete_budget(&mut self, key: &BudgetKey) -> Result<BudgetView, Reject> {
        let before = self.budget(key)?;
        let id = self.budgets.id(key).ok_or_else(|| Reject::Missing(unknown(key)))?;
        if self.budgets.highest_cost_in_use(id).is_some() {
            return Err(Reject::InUse(format!("unfinished jobs or cron entries draw on the budget `{key}`")));
        }
        let dropped = self.budgets.remove(id, &mut self.batch);
        self.drop_draws(dropped);
        Ok(before)
    }

    /// Whether the attempt would draw more than is left if it went on.
    pub(in crate::engine) fn is_short(&self, job: &Job) -> bool {
        !self.budgets.can_hold(job.draw, self.clock.up())
    }

    /// Checks what new jobs draw, and creates the budgets they bring along: all of them or none.
    pub(in crate::engine) fn prepare_budgets<'a>(
        &mut self,
        jobs: impl Iterator<Item = (usize, &'a NewJob)>,
    ) -> Result<(), Reject> {
        let mut new: HashMap<&BudgetKey, Policy> = HashMap::default();
        for (i, job) in jobs {
            let Some(flow) = job.flow.as_ref().filter(|flow| !flow.budgets.is_empty()) else { continue };
            for (key, policy) in &job.create_budgets {
                if self.budgets.id(key).is_none() {
                    new.entry(key).or_insert(*policy);
                }
            }
            for (n, Binding { key, cost }) in flow.budgets.iter().enumerate() {
                let policy = self.budgets.policy(key).or_else(|| new.get(key).copied());
                let refusal = match policy {
                    None => unknown_yet(key),
                    Some(policy) if *cost > policy.highest_cost() => too_costly(key, *cost, policy),
                    Some(_) => continue,
                };
                return Err(Reject::Job { index: i, error: format!("budgets[{n}]: {refusal}") });
            }
        }
        self.check_room(new.len())?;
        let new: Vec<_> = new.into_iter().map(|(key, policy)| (key.clone(), policy)).collect();
        for (key, policy) in new {
            self.budgets.create(key, policy, self.clock.time(), &mut self.batch);
        }
        Ok(())
    }

    /// Checks what the change makes jobs draw, and creates the budgets it brings along.
    pub(in crate::engine) fn prepare_change(&mut self, change: &BindingChange) -> Result<(), Reject> {
        for (key, policy) in self.check_change(change)? {
            self.budgets.create(key, policy, self.clock.time(), &mut self.batch);
        }
        Ok(())
    }

    /// Checks whether such a change is possible, and returns the budgets that it creates.
    pub(in crate::engine) fn check_change(
        &self,
        change: &BindingChange,
    ) -> Result<Vec<(BudgetKey, Policy)>, Reject> {
        let mut to_create = Vec::new();
        for NewBinding { binding: Binding { key, cost }, create_with } in change.news() {
            let policy = match (self.budgets.policy(key), create_with) {
                (Some(policy), _) => policy,
                (None, Some(policy)) => {
                    to_create.push((key.clone(), *policy));
                    *policy
                }
                (None, None) => return Err(Reject::NotAllowed(unknown_yet(key))),
            };
            if *cost > policy.highest_cost() {
                return Err(Reject::NotAllowed(too_costly(key, *cost, policy)));
            }
        }
        if let BindingChange::Cost(key, cost) = change
            && let Some(policy) = self.budgets.policy(key).filter(|policy| *cost > policy.highest_cost())
        {
            return Err(Reject::NotAllowed(too_costly(key, *cost, policy)));
        }
        self.check_room(to_create.len())?;
        Ok(to_create)
    }

    /// Checks whether a change of many jobs is possible.
    pub(in crate::engine) fn check_binding(&self, change: &BindingChange) -> Result<(), Reject> {
        self.check_budget_of(change)?;
        self.check_change(change).map(drop)
    }

    /// Checks that the budget exists on which a change makes jobs draw less, or nothing.
    pub(in crate::engine) fn check_budget_of(&self, change: &BindingChange) -> Result<(), Reject> {
        match change {
            BindingChange::Cost(key, _) | BindingChange::Remove(key) if self.budgets.id(key).is_none() => {
                Err(Reject::Missing(unknown(key)))
            }
            _ => Ok(()),
        }
    }

    /// Changes what a scheduled or ready job draws. Returns none if it draws that already.
    pub(in crate::engine) fn bind(
        &mut self,
        job: &Arc<Job>,
        change: &BindingChange,
    ) -> Result<Option<Arc<Job>>, Reject> {
        let Some(budgets) = bound(job, change)? else { return Ok(None) };
        Ok(Some(self.transition(job.clone(), job.status, |job| {
            let flow = Flow { budgets, ..job.flow.take().map(|flow| *flow).unwrap_or_default() };
            job.flow = flow.boxed();
            Then::Stays
        })))
    }
}

/// Returns the bindings of a job after a change; none if they stay the same.
pub(in crate::engine) fn bound(job: &Job, change: &BindingChange) -> Result<Option<Vec<Binding>>, Reject> {
    let before = job.flow.as_ref().map_or(&[][..], |flow| &flow.budgets);
    let at = |key: &BudgetKey| before.iter().position(|binding| binding.key == *key);
    let mut bindings = before.to_vec();
    let not_bound = |key: &BudgetKey| Reject::Missing(format!("the job is not bound to the budget `{key}`"));
    match change {
        BindingChange::Add(NewBinding { binding, .. }) | BindingChange::Put(NewBinding { binding, .. }) => {
            match at(&binding.key).and_then(|at| bindings.get_mut(at)) {
                None => bindings.push(binding.clone()),
                Some(_) if matches!(change, BindingChange::Add(_)) => {
                    let key = &binding.key;
                    return Err(Reject::Exists(format!("the job is bound to the budget `{key}` already")));
                }
                Some(bound) => bound.cost = binding.cost,
            }
        }
        BindingChange::Cost(key, cost) => {
            bindings.get_mut(at(key).ok_or_else(|| not_bound(key))?).ok_or_else(|| not_bound(key))?.cost =
                *cost;
        }
        BindingChange::Remove(key) => {
            bindings.remove(at(key).ok_or_else(|| not_bound(key))?);
        }
        BindingChange::Replace(news) => bindings = news.iter().map(|new| new.binding.clone()).collect(),
    }
    if bindings.len() > MAX_BINDINGS {
        return Err(Reject::NotAllowed(format!("budgets: a job draws on at most {MAX_BINDINGS}")));
    }
    Ok((bindings != before).then_some(bindings))
}
