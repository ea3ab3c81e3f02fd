//! Where one is: in a tab, and in what is open there.

/// The views that have a key of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tab {
    Overview,
    Queues,
    Jobs,
    Running,
    Dead,
    Workers,
    Crons,
    Budgets,
}

impl Tab {
    pub(super) const ALL: [Self; 8] = [
        Self::Overview,
        Self::Queues,
        Self::Jobs,
        Self::Running,
        Self::Dead,
        Self::Workers,
        Self::Crons,
        Self::Budgets,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Queues => "Queues",
            Self::Jobs => "Jobs",
            Self::Running => "Running",
            Self::Dead => "Dead",
            Self::Workers => "Workers",
            Self::Crons => "Crons",
            Self::Budgets => "Budgets",
        }
    }

    /// The tab that a word begins to name.
    pub(super) fn named(word: &str) -> Option<Self> {
        let word = word.to_lowercase();
        Self::ALL.into_iter().find(|tab| !word.is_empty() && tab.title().to_lowercase().starts_with(&word))
    }
}

/// What was opened in a tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    Queue(String),
    /// The dead jobs that have this in common; none for those that have nothing.
    Group(Option<String>),
    Job(String),
    Log(String),
}
