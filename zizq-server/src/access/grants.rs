//! What a caller may do where, ready to be asked.

use protocol::access::{Grant, QueuePattern, Role, Verb};

use super::Scope;

/// The scope of every verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants([Scope; Verb::ALL.len()]);

impl Grants {
    pub(crate) fn all() -> Self {
        Self(std::array::from_fn(|_| Scope::All))
    }

    pub(crate) fn of(grants: &[Grant]) -> Self {
        let scope = |verb: Verb| {
            let of_verb = grants.iter().filter(|grant| grant.verb == verb);
            Scope::of(&of_verb.map(|grant| grant.queues.clone()).collect::<Vec<QueuePattern>>())
        };
        Self(Verb::ALL.map(scope))
    }

    /// Everything that one of these roles may do, in all queues.
    pub(crate) fn of_roles(roles: &[Role]) -> Self {
        let verbs = roles.iter().flat_map(|role| role.verbs());
        Self::of(&verbs.map(|verb| Grant { verb: *verb, queues: QueuePattern::ALL }).collect::<Vec<_>>())
    }

    /// The queues in which this may be done.
    pub(crate) fn scope(&self, verb: Verb) -> &Scope {
        static NONE: std::sync::LazyLock<Scope> = std::sync::LazyLock::new(Scope::none);
        Verb::ALL.iter().position(|one| *one == verb).and_then(|at| self.0.get(at)).unwrap_or(&NONE)
    }

    /// Whether nothing may be done anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Scope::is_none)
    }

    /// The same as a list.
    pub(crate) fn list(&self) -> Vec<Grant> {
        let of_verb = |verb: &Verb| match self.scope(*verb) {
            Scope::All => vec![Grant { verb: *verb, queues: QueuePattern::ALL }],
            Scope::Only(patterns) => {
                patterns.iter().map(|queues| Grant { verb: *verb, queues: queues.clone() }).collect()
            }
        };
        Verb::ALL.iter().flat_map(of_verb).collect()
    }
}
