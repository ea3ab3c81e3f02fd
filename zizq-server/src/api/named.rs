//! The jobs that a bulk call of a worker names. What can be no id is not found, and what can be no token is stale: a
//! worker that has one such among many must not lose the others.

use protocol::given::Given;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::outcome::{LeasedJob, NotDone};

use crate::hash::HashSet;

/// A job as it is named.
pub(super) type GivenJob = (Given<JobId>, Option<Given<LeaseToken>>);

/// The jobs of a call, each once; the first time that it is named counts.
#[derive(Debug)]
pub(super) struct Named<T> {
    pub jobs: Vec<T>,
    pub not_found: Vec<Given<JobId>>,
    pub lost: Vec<Given<JobId>>,
}

impl<T> Named<T> {
    /// Sorts out what can be a job. What else is said of each goes through `make`.
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

    /// The lists of an answer: those of the engine, and what could be no job.
    pub(super) fn not_done(self, engine: NotDone) -> NotDone<Given<JobId>> {
        let known = |ids: Vec<JobId>| ids.into_iter().map(Given::Known);
        NotDone {
            not_found: known(engine.not_found).chain(self.not_found).collect(),
            lost: known(engine.lost).chain(self.lost).collect(),
        }
    }
}
