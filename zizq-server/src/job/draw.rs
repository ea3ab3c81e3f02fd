//! Numbers for what jobs draw on budgets: keys and records would be long with the draws themselves.

/// The number of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetId(pub u32);

/// The number of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrawId(pub u32);

impl DrawId {
    /// Jobs that draw on no budget.
    pub const NONE: Self = Self(0);
    /// Jobs that draw on any budget.
    pub const SOME: Self = Self(u32::MAX);

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}
