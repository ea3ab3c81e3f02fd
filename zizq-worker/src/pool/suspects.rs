//! Decides whether a job cannot be run, or this worker cannot run any job of the route.
//!
//! A shell that does not find a command exits with 127, whether the job asks for nonsense or the machine lacks a program.
//! One job alone proves nothing, however often it fails. Two jobs that fail in the same way in a row blame the worker.

use std::collections::HashMap;

use protocol::id::JobId;

use crate::route::RouteName;

/// The last suspect failure of each route.
#[derive(Debug, Default)]
pub(super) struct Suspects(HashMap<RouteName, Suspect>);

#[derive(Debug)]
struct Suspect {
    failure: String,
    first: JobId,
    are_many: bool,
}

impl Suspects {
    /// Records a suspect failure. Returns whether this worker is at fault.
    pub(super) fn is_fault(&mut self, route: &RouteName, id: JobId, failure: &str) -> bool {
        match self.0.get_mut(route).filter(|suspect| suspect.failure == failure) {
            Some(suspect) => {
                suspect.are_many |= suspect.first != id;
                suspect.are_many
            }
            None => {
                let suspect = Suspect { failure: failure.to_owned(), first: id, are_many: false };
                self.0.insert(route.clone(), suspect);
                false
            }
        }
    }

    /// Whether several jobs of this route failed in the same way.
    pub(super) fn has(&self, route: &RouteName) -> bool {
        self.0.get(route).is_some_and(|suspect| suspect.are_many)
    }

    /// Records that a job of this route ended in another way.
    pub(super) fn clear(&mut self, route: &RouteName) {
        self.0.remove(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_failure_of_different_jobs_in_a_row_is_the_fault_of_the_worker() {
        let mut suspects = Suspects::default();
        let (route, other): (RouteName, RouteName) = ("q".into(), "other".into());
        let mut fails = |route: &RouteName, n, how: &str| match how {
            "well" => {
                suspects.clear(route);
                false
            }
            how => suspects.is_fault(route, JobId::from_u128(n), how),
        };
        for (n, how, is_fault) in [
            (1, "127", false),
            (1, "127", false),
            (2, "127", true),
            (1, "127", true),
            (3, "127", true),
            (4, "126", false),
            (3, "127", false),
            (4, "well", false),
            (5, "127", false),
            (5, "127", false),
            (5, "127", false),
            (6, "127", true),
        ] {
            assert_eq!(fails(&route, n, how), is_fault, "{n} {how}");
        }
        assert!(!fails(&other, 9, "127"), "each route by itself");
    }
}
