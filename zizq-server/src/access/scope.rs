//! The queues that a caller may do something in.

use std::sync::Arc;

use protocol::access::QueuePattern;
use protocol::name::QueueName;

/// Some queues. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every queue.
    #[default]
    All,
    /// Those of these patterns; of no pattern: none.
    Only(Arc<[QueuePattern]>),
}

impl Scope {
    pub(crate) fn none() -> Self {
        Self::Only(Arc::new([]))
    }

    pub(crate) fn of(patterns: &[QueuePattern]) -> Self {
        if patterns.iter().any(QueuePattern::is_of_all) { Self::All } else { Self::Only(patterns.into()) }
    }

    /// The queues of both.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(one), Self::Only(other)) if one.is_empty() => Self::Only(other),
            (Self::Only(one), Self::Only(other)) => Self::Only(one.iter().chain(&*other).cloned().collect()),
            _ => Self::All,
        }
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Only(patterns) if patterns.is_empty())
    }

    pub(crate) fn covers(&self, queue: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.covers(queue)),
        }
    }

    /// The queues, if each has been named; none for all queues, and where there are patterns.
    pub(crate) fn names(&self) -> Option<Vec<QueueName>> {
        let Self::Only(patterns) = self else { return None };
        let name = |pattern: &QueuePattern| match pattern {
            QueuePattern::Exact(name) => Some(name.clone()),
            QueuePattern::Prefix(_) => None,
        };
        patterns.iter().map(name).collect()
    }

    /// The queues as text, for messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Only(patterns) if patterns.is_empty() => "no queue".to_owned(),
            Self::Only(patterns) => patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}
