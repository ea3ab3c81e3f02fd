//! The jobs named in a worker's bulk call. Text that cannot be an id counts as not found, and text that cannot be a
//! token as stale, so that one bad entry does not fail the others.

use protocol::given::Given;
use protocol::id::JobId;
use protocol::lease::LeaseToken;
use protocol::name::QueueName;
use protocol::outcome::{LeasedJob, NotDone};

use super::App;
use crate::hash::{HashMap, HashSet};
use crate::http::reply::Refusal;
use crate::http::request::Request;

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

    /// Sorts out the jobs in queues that are none of the caller's business: for it there are none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn within(
        mut self,
        app: &App,
        request: &Request,
        id: impl Fn(&T) -> JobId,
    ) -> Result<Self, Refusal> {
        if request.scope.is_all() {
            return Ok(self);
        }
        let ids: Vec<JobId> = self.jobs.iter().map(&id).collect();
        let seen = app.reader.jobs(ids).await?;
        let queues: HashMap<JobId, QueueName> =
            seen.into_iter().map(|seen| (seen.job.id, seen.queue)).collect();
        let is_foreign = |job: &mut T| queues.get(&id(job)).is_some_and(|queue| !request.scope.covers(queue));
        let foreign = self.jobs.extract_if(.., is_foreign).map(|job| Given::Known(id(&job)));
        self.not_found.extend(foreign);
        Ok(self)
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
