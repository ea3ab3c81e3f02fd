//! What jobs draw on budgets, as a number: in keys and records, what is drawn itself would be long.

/// The number of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetId(pub u32);

/// The number of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrawId(pub u32);

impl DrawId {
    /// Of jobs that draw on no budget.
    pub const NONE: Self = Self(0);
    /// Of jobs that draw on some budget, whichever.
    pub const SOME: Self = Self(u32::MAX);

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}
