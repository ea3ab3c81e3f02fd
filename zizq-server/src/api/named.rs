//! The jobs named in a worker's bulk call. Text that cannot be an id counts as not found, and text that cannot be a
//! token as stale, so that one bad entry does not fail the others.

use protocol::given::Given;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::outcome::{LeasedJob, NotDone};

use crate::hash::HashSet;

/// A job as the request names it.
pub(super) type GivenJob = (Given<JobId>, Option<Given<LeaseToken>>);

/// The jobs of a call without duplicates; the first mention counts.
#[derive(Debug)]
pub(super) struct Named<T> {
    pub jobs: Vec<T>,
    pub not_found: Vec<Given<JobId>>,
    pub lost: Vec<Given<JobId>>,
}

impl<T> Named<T> {
    /// Sorts out the entries that can be jobs. `make` converts the other data of each.
    pub(super) fn sort<R>(
        given: impl ExactSizeIterator<Item = (GivenJob, R)>,
        make: impl Fn(LeasedJob, R) -> T,
    ) -> Self {
        let mut named =
            Self { jobs: Vec::with_capacity(given.len()), not_found: Vec::new(), lost: Vec::new() };
        let mut seen = HashSet::default();
        for ((id, lease), rest) in given {
            if !seen.insert(id.clone()) {
                continue;
            }
            match (id, lease) {
                (Given::Known(id), None) => named.jobs.push(make(LeasedJob { id, lease: None }, rest)),
                (Given::Known(id), Some(Given::Known(lease))) => {
                    named.jobs.push(make(LeasedJob { id, lease: Some(lease) }, rest));
                }
                (id @ Given::Known(_), Some(Given::Unknown(_))) => named.lost.push(id),
                (id @ Given::Unknown(_), _) => named.not_found.push(id),
            }
        }
        named
    }

    /// Merges the lists of the engine with the entries that cannot be jobs.
    pub(super) fn not_done(self, engine: NotDone) -> NotDone<Given<JobId>> {
        let known = |ids: Vec<JobId>| ids.into_iter().map(Given::Known);
        NotDone {
            not_found: known(engine.not_found).chain(self.not_found).collect(),
            lost: known(engine.lost).chain(self.lost).collect(),
        }
    }
}
