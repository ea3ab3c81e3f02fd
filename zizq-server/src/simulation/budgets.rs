//! Budgets as the model sees them: what is in flight is summed up anew each time it matters.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use protocol::budget::{Binding, BudgetView, NewBinding, Policy, Strategy};
use protocol::enqueue::NewJob;
use protocol::id::JobId;
use protocol::job::Status;
use protocol::name::BudgetKey;

use super::act::Act;
use super::act::BudgetAct;
use super::ledger::Ledger;
use super::model::{Entry, Model};
use super::streams::Stream;
use crate::engine::command::budgets::BindingChange;
use crate::engine::command::jobs::{Change, Changed};
use crate::engine::command::{Reject, Reply};
use crate::job::Job;
use crate::run::turn::Answer;

pub(super) type Budgets = BTreeMap<BudgetKey, Budget>;

#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub policy: Policy,
    /// The tokens that a budget that refills with time had at a time, in parts of a token: as many parts as the
    /// duration has milliseconds.
    parts: u128,
    at: u64,
}

impl Budget {
    fn full(policy: Policy, now: u64) -> Self {
        let parts = match policy.strategy {
            Strategy::TimeBased { duration_ms, .. } => {
                u128::from(policy.capacity()) * u128::from(duration_ms)
            }
            Strategy::WhileInFlight => 0,
        };
        Self { policy, parts, at: now }
    }

    fn parts_at(&self, now: u64, duration_ms: u64) -> u128 {
        let dripped = u128::from(now - self.at) * u128::from(self.policy.allocation);
        let most = (u128::from(self.policy.capacity()) + 1) * u128::from(duration_ms) - 1;
        (self.parts + dripped).min(most)
    }

    fn change(&mut self, policy: Policy, now: u64) {
        let before = self.policy.strategy;
        let kept = match before {
            Strategy::TimeBased { duration_ms, .. } => Some((self.parts_at(now, duration_ms), duration_ms)),
            Strategy::WhileInFlight => None,
        };
        *self = Self::full(policy, now);
        if let (Some((parts, old)), Strategy::TimeBased { duration_ms, .. }) = (kept, policy.strategy) {
            self.parts = parts * u128::from(duration_ms) / u128::from(old);
            self.parts = self.parts_at(now, duration_ms);
        }
    }
}

fn policy_of(view: &BudgetView) -> Policy {
    Policy { allocation: view.allocation, strategy: view.strategy }
}

/// Whether the answer says what was there before, if it can, and what is there now.
fn is_edit(answer: &Answer, before: Option<Policy>, now: Policy) -> bool {
    match answer {
        Ok(Reply::CreateBudget(view)) => before.is_none() && policy_of(view) == now,
        Ok(Reply::PutBudget(edited)) => {
            edited.before.as_deref().map(policy_of) == before && policy_of(&edited.now) == now
        }
        _ => false,
    }
}

fn bindings(job: &Job) -> &[Binding] {
    job.flow.as_ref().map_or(&[], |flow| &flow.budgets)
}

/// Changes what a job draws on budgets. Returns whether that is refused: the job already draws on what is added, or not
/// on what is meant.
fn change_bindings(budgets: &mut Vec<Binding>, change: &BindingChange) -> bool {
    let draws_on = |key: &BudgetKey| budgets.iter().any(|b| b.key == *key);
    match change {
        BindingChange::Add(new) if draws_on(&new.binding.key) => return true,
        BindingChange::Cost(key, _) | BindingChange::Remove(key) if !draws_on(key) => return true,
        BindingChange::Add(new) => budgets.push(new.binding.clone()),
        BindingChange::Put(new) => match budgets.iter_mut().find(|b| b.key == new.binding.key) {
            Some(binding) => binding.cost = new.binding.cost,
            None => budgets.push(new.binding.clone()),
        },
        BindingChange::Cost(key, cost) => {
            budgets.iter_mut().filter(|b| b.key == *key).for_each(|b| b.cost = *cost);
        }
        BindingChange::Remove(key) => budgets.retain(|b| b.key != *key),
        BindingChange::Replace(news) => *budgets = news.iter().map(|new| new.binding.clone()).collect(),
    }
    false
}

impl Model {
    fn drawn(&self, key: &BudgetKey) -> u64 {
        let in_flight = self.leases.values().flat_map(|lease| bindings(&lease.job));
        in_flight.filter(|binding| binding.key == *key).map(|binding| u64::from(binding.cost)).sum()
    }

    fn can_pay_one(&self, Binding { key, cost }: &Binding) -> bool {
        let Some(budget) = self.budgets.get(key) else { return true };
        match budget.policy.strategy {
            Strategy::WhileInFlight => {
                self.drawn(key) + u64::from(*cost) <= u64::from(budget.policy.allocation)
            }
            Strategy::TimeBased { duration_ms, .. } => {
                budget.parts_at(self.up, duration_ms) >= u128::from(*cost) * u128::from(duration_ms)
            }
        }
    }

    /// Whether a job may be delivered.
    pub(super) fn can_pay(&self, job: &Job) -> bool {
        bindings(job).iter().all(|binding| self.can_pay_one(binding))
    }

    /// Whether a job that was delivered before may go on.
    pub(super) fn can_hold(&self, job: &Job) -> bool {
        let by_time = |key| {
            self.budgets.get(key).is_some_and(|budget| budget.policy.strategy != Strategy::WhileInFlight)
        };
        bindings(job).iter().all(|binding| by_time(&binding.key) || self.can_pay_one(binding))
    }

    /// Pays for a job that is delivered.
    pub(super) fn pay(&mut self, job: &Job) {
        for Binding { key, cost } in bindings(job) {
            let Some(budget) = self.budgets.get_mut(key) else { continue };
            if let Strategy::TimeBased { duration_ms, .. } = budget.policy.strategy {
                let paid = u128::from(*cost) * u128::from(duration_ms);
                (budget.parts, budget.at) = (budget.parts_at(self.up, duration_ms) - paid, self.up);
            }
        }
    }

    /// Returns when the first job that waits for tokens can go to a stream that waits for it, if only time holds it up.
    pub(super) fn next_tokens(&self) -> Option<u64> {
        let limit = self.settings.in_flight_limit;
        if self.draining || limit > 0 && self.leases.len() >= limit {
            return None;
        }
        let held = self.held();
        let with_credit = |(key, stream): (&u64, _)| {
            let stream: &Stream = stream;
            stream.has_credit(held.get(key).copied().unwrap_or_default()).then_some(stream)
        };
        let streams: Vec<&Stream> = self.streams.iter().filter_map(with_credit).collect();
        let wanted = |entry: &&Entry| {
            !self.paused.contains(&entry.queue) && streams.iter().any(|stream| stream.takes(entry))
        };
        let wanted = self.jobs.values().filter(wanted).map(|entry| &entry.job);
        let ready = wanted.filter(|job| job.status == Status::Ready);
        let waiting = ready.filter(|job| !self.leases.contains_key(&job.id) && !self.can_pay(job));
        let can_go_at = |job: &Job| {
            bindings(job).iter().try_fold(0, |latest: u64, binding| {
                let Some(budget) = self.budgets.get(&binding.key) else { return Some(latest) };
                if self.can_pay_one(binding) {
                    return Some(latest);
                }
                let Strategy::TimeBased { duration_ms, .. } = budget.policy.strategy else { return None };
                let missing = u128::from(binding.cost) * u128::from(duration_ms) - budget.parts;
                let ms = missing.div_ceil(u128::from(budget.policy.allocation));
                Some(latest.max(budget.at + u64::try_from(ms).ok()?))
            })
        };
        waiting.filter_map(can_go_at).min()
    }

    /// Fills every pool, as a restart does.
    pub(super) fn fill_budgets(&mut self) {
        for budget in self.budgets.values_mut() {
            *budget = Budget::full(budget.policy, self.up);
        }
    }

    /// Corrects what a job draws that comes back after its end: only on the budgets that exist.
    pub(super) fn correct_bindings(&self, job: &mut Job) {
        let Some(mut flow) = job.flow.take() else { return };
        flow.budgets.retain(|binding| self.budgets.contains_key(&binding.key));
        for binding in &mut flow.budgets {
            binding.cost = binding.cost.min(self.budgets[&binding.key].policy.highest_cost());
        }
        job.flow = flow.boxed();
    }

    /// Creates the budgets that new jobs bring along. Returns false if the jobs draw on what cannot exist.
    pub(super) fn prepare_budgets(&mut self, jobs: &[NewJob]) -> bool {
        let mut budgets = self.budgets.clone();
        for job in jobs {
            for (key, policy) in &job.create_budgets {
                budgets.entry(key.clone()).or_insert_with(|| Budget::full(*policy, self.up));
            }
            let budget_of = |binding: &Binding| budgets.get(&binding.key).map(|budget| budget.policy);
            let payable = |b: &Binding| budget_of(b).is_some_and(|policy| b.cost <= policy.highest_cost());
            if !job.flow.as_ref().is_none_or(|flow| flow.budgets.iter().all(payable)) {
                return false;
            }
        }
        let fits = budgets.len() <= self.settings.max_budgets;
        if fits {
            self.budgets = budgets;
        }
        fits
    }

    /// Returns the highest cost that unfinished jobs draw on a budget.
    fn in_use(&self, key: &BudgetKey) -> Option<u32> {
        let unfinished = self.jobs.values().filter(|entry| !entry.job.status.is_terminal());
        let drawn = unfinished.flat_map(|entry| bindings(&entry.job)).chain(self.bulks.draws());
        let costs = drawn.filter(|binding| binding.key == *key);
        costs.map(|binding| binding.cost).max()
    }

    pub(super) fn budget(&mut self, command: &BudgetAct, answer: &Answer) -> Result<()> {
        let (up, full) = (self.up, self.budgets.len() >= self.settings.max_budgets);
        let fits = match command {
            BudgetAct::Create(key, _) if self.budgets.contains_key(key) => {
                matches!(answer, Err(Reject::Exists(_)))
            }
            BudgetAct::Create(key, policy) | BudgetAct::Put(key, policy) => {
                let payable = self.in_use(key).is_none_or(|cost| cost <= policy.highest_cost());
                match self.budgets.get_mut(key) {
                    Some(_) if !payable => matches!(answer, Err(Reject::NotAllowed(_))),
                    None if full => matches!(answer, Err(Reject::NotAllowed(_))),
                    Some(budget) => {
                        let before = budget.policy;
                        budget.change(*policy, up);
                        is_edit(answer, Some(before), *policy)
                    }
                    None => {
                        self.budgets.insert(key.clone(), Budget::full(*policy, up));
                        is_edit(answer, None, *policy)
                    }
                }
            }
            BudgetAct::Delete(key) if self.in_use(key).is_some() => {
                matches!(answer, Err(Reject::InUse(_)))
            }
            BudgetAct::Delete(key) => match self.budgets.remove(key) {
                Some(gone) => {
                    matches!(answer, Ok(Reply::DeleteBudget(view)) if policy_of(view) == gone.policy)
                }
                None => matches!(answer, Err(Reject::Missing(_))),
            },
        };
        ensure!(fits, "answered {answer:?}");
        Ok(())
    }

    pub(super) fn bind(&mut self, ids: &[JobId], change: &BindingChange, answer: &Answer) -> Result<()> {
        if let Err(reject) = answer {
            // An error in the change itself is reported before any job is looked at.
            ensure!(matches!(reject, Reject::NotAllowed(_)), "answered {reject:?}");
            let unpayable = |new: &NewBinding| {
                let budget = self.budgets.get(&new.binding.key).map(|budget| budget.policy);
                let full = self.budgets.len() + 3 > self.settings.max_budgets;
                budget.or(new.create_with).is_none_or(|policy| new.binding.cost > policy.highest_cost())
                    || full
            };
            let wrong = match change {
                BindingChange::Add(new) | BindingChange::Put(new) => unpayable(new),
                BindingChange::Replace(news) => news.iter().any(unpayable),
                BindingChange::Cost(key, cost) => {
                    self.budgets.get(key).is_some_and(|budget| *cost > budget.policy.highest_cost())
                }
                BindingChange::Remove(_) => false,
            };
            ensure!(wrong, "nothing is wrong with {change:?}, but: {reject:?}");
            return Ok(());
        }
        let Ok(Reply::ChangeJobs(bound)) = answer else { bail!("answered {answer:?}") };
        let there = |id: &JobId| self.jobs.get(id).is_some_and(|entry| !entry.job.is_gone(self.now));
        if ids.len() > 1 || ids.iter().all(there) {
            self.create_for(change);
        }
        ensure!(bound.len() == ids.len(), "{} of {} jobs", bound.len(), ids.len());
        for (id, result) in ids.iter().zip(bound) {
            self.bind_one(*id, change, result).with_context(|| format!("{id:?}: {result:?}"))?;
        }
        Ok(())
    }

    fn create_for(&mut self, change: &BindingChange) {
        let news = match change {
            BindingChange::Add(new) | BindingChange::Put(new) => std::slice::from_ref(new),
            BindingChange::Replace(news) => news,
            BindingChange::Cost(..) | BindingChange::Remove(_) => &[],
        };
        for NewBinding { binding, create_with } in news {
            if let Some(policy) = create_with {
                let full = || Budget::full(*policy, self.up);
                self.budgets.entry(binding.key.clone()).or_insert_with(full);
            }
        }
    }

    fn bind_one(&mut self, id: JobId, change: &BindingChange, result: &Changed) -> Result<()> {
        let in_flight = self.leases.contains_key(&id);
        let Some(entry) = self.jobs.get_mut(&id).filter(|entry| !entry.job.is_gone(self.now)) else {
            ensure!(matches!(result, Changed::Missing), "it is gone");
            return Ok(());
        };
        if entry.job.status.is_terminal() {
            let status = entry.job.status;
            ensure!(matches!(result, Changed::Refused(s) if *s == status), "it is {status:?}");
            return Ok(());
        }
        let mut budgets = bindings(&entry.job).to_vec();
        let before = budgets.clone();
        let refused = change_bindings(&mut budgets, change);
        let differs = !refused && budgets != before;
        if in_flight {
            let as_seen = match result {
                Changed::Refused(status) => differs && *status == Status::InFlight,
                Changed::Same(seen) => !differs && seen.status == Status::InFlight,
                _ => false,
            };
            ensure!(as_seen, "it is in flight, and would change: {differs}");
            return Ok(());
        }
        let as_refused = match result {
            Changed::Unfit(Reject::Exists(_)) => refused && matches!(change, BindingChange::Add(_)),
            Changed::Unfit(Reject::Missing(_)) => refused && !matches!(change, BindingChange::Add(_)),
            Changed::Unfit(_) => false,
            _ => !refused,
        };
        ensure!(as_refused, "refused: {refused}");
        ensure!(differs == matches!(result, Changed::Done { now: Some(_), .. }), "it draws {before:?}");
        if let Changed::Done { before: was, now: Some(seen) } = result {
            ensure!(seen.queue == entry.queue, "it is of queue {}", entry.queue);
            ensure!(bindings(&was.job) == before, "it drew {before:?}");
            ensure!(bindings(&seen.job) == budgets, "it should draw {budgets:?}");
            let mut flow = entry.job.flow.take().unwrap_or_default();
            flow.budgets = budgets;
            entry.job.flow = flow.boxed();
        }
        Ok(())
    }

    /// Reads off the store, after a crash within a turn, what the turn did to budgets.
    pub(super) fn adopt_budgets(&mut self, acts: &[Act], ledger: &Ledger) -> Result<()> {
        let stored = ledger.budgets.values().map(|budget| (budget.key.clone(), budget.policy));
        let stored: BTreeMap<BudgetKey, Policy> = stored.collect();
        let changes = |act: &Act| {
            matches!(
                act,
                Act::Budget(_)
                    | Act::Enqueue(_)
                    | Act::Once(..)
                    | Act::EnqueueAndWait { .. }
                    | Act::Fold(_)
                    | Act::RunEntry(..)
                    | Act::Change { change: Change::Bind(_), .. }
            )
        };
        if !acts.iter().any(changes) && !self.bulks.is_any_coming() {
            let known: BTreeMap<_, _> = self.budgets.iter().map(|(key, b)| (key.clone(), b.policy)).collect();
            ensure!(known == stored, "there should be {known:?}, not {stored:?}");
        }
        let budget = |(key, policy)| (key, Budget::full(policy, self.up));
        self.budgets = stored.into_iter().map(budget).collect();
        Ok(())
    }
}
