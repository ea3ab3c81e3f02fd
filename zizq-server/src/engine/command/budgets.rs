//! Requests about budgets, and about the bindings of jobs to them.

use std::sync::Arc;

use protocol::budget::{NewBinding, Policy, PolicyPatch};
use protocol::name::BudgetKey;

/// Lists all budgets.
#[derive(Debug)]
pub struct ListBudgets;

/// Reads one budget.
#[derive(Debug)]
pub struct GetBudget(pub BudgetKey);

/// Creates a budget that does not exist yet.
#[derive(Debug)]
pub struct CreateBudget(pub BudgetKey, pub Policy);

/// Creates or replaces a budget.
#[derive(Debug)]
pub struct PutBudget(pub BudgetKey, pub Policy);

/// Changes part of a budget.
#[derive(Debug)]
pub struct PatchBudget(pub BudgetKey, pub PolicyPatch);

/// Deletes a budget that nothing draws on.
#[derive(Debug)]
pub struct DeleteBudget(pub BudgetKey);

/// Asks whether the bindings of many jobs can be changed like this.
#[derive(Debug)]
pub struct CheckBinding(pub Arc<BindingChange>);

/// A change to the bindings of jobs.
#[derive(Debug, Clone)]
pub enum BindingChange {
    /// Binds to one more budget.
    Add(NewBinding),
    /// Binds to this budget, or replaces the binding to it.
    Put(NewBinding),
    /// Changes the cost.
    Cost(BudgetKey, u32),
    Remove(BudgetKey),
    /// Binds to these budgets and no others.
    Replace(Vec<NewBinding>),
}

impl BindingChange {
    /// The bindings that it makes.
    pub(crate) fn news(&self) -> &[NewBinding] {
        match self {
            Self::Add(new) | Self::Put(new) => std::slice::from_ref(new),
            Self::Replace(news) => news,
            Self::Cost(..) | Self::Remove(_) => &[],
        }
    }
}
