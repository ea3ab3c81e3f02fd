//! Requests about budgets, and about the bindings of jobs to them.

use protocol::budget::{NewBinding, Policy, PolicyPatch};
use protocol::name::BudgetKey;

/// All budgets.
#[derive(Debug)]
pub struct ListBudgets;

/// One budget.
#[derive(Debug)]
pub struct GetBudget(pub BudgetKey);

/// A budget that is not there yet.
#[derive(Debug)]
pub struct CreateBudget(pub BudgetKey, pub Policy);

/// The budget becomes this, be it there already or not.
#[derive(Debug)]
pub struct PutBudget(pub BudgetKey, pub Policy);

/// Some of a budget becomes this.
#[derive(Debug)]
pub struct PatchBudget(pub BudgetKey, pub PolicyPatch);

/// A budget that nobody draws on goes.
#[derive(Debug)]
pub struct DeleteBudget(pub BudgetKey);

/// How the bindings of jobs are to change.
#[derive(Debug, Clone)]
pub enum BindingChange {
    /// To one more budget.
    Add(NewBinding),
    /// To this one, be it bound already or not.
    Put(NewBinding),
    /// Another cost.
    Cost(BudgetKey, u32),
    Remove(BudgetKey),
    /// To these budgets and no others.
    Replace(Vec<NewBinding>),
}

impl BindingChange {
    pub(in crate::engine) fn news(&self) -> &[NewBinding] {
        match self {
            Self::Add(new) | Self::Put(new) => std::slice::from_ref(new),
            Self::Replace(news) => news,
            Self::Cost(..) | Self::Remove(_) => &[],
        }
    }
}
