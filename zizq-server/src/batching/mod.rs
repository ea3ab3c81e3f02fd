//! Enqueues jobs that belong to batches.
//!
//! The engine knows which batch is open and holds up nobody; a helper process knows what a fold makes of two payloads.
//! Here one is asked, then the other, and then the engine again, which takes the result unless the batch has changed
//! meanwhile: then all begins anew. Producers of one key take turns, so that they do not spoil each other's work.

mod keys;
mod plan;

use std::sync::Arc;

use protocol::enqueue::NewJob;
use tokio::sync::mpsc;

use crate::clock;
use crate::engine::command::Reject;
use crate::engine::command::batches::{Fold, OpenBatches, Plan};
use crate::engine::command::crons::Firing;
use crate::engine::command::jobs::{Enqueued, Waiter};
use crate::engine::command::once::{Once, Taken};
use crate::job::Job;
use crate::jq::{self, Admission, Busy, FoldError, Helpers};
use crate::run::handle::{CallError, Handle};
use keys::Keys;
use plan::{Limit, Request};

/// A batch that changes more often than this between two looks is left alone. Only those who take, change and delete
/// jobs can change it, and each time it is another batch or none.
const MAX_ATTEMPTS: usize = 100;
/// How many cron entries may wait to be folded before they wait with the engine.
pub(crate) const MAX_FIRINGS: usize = 64;

/// Why jobs were not enqueued.
#[derive(Debug)]
pub(crate) enum Refused {
    /// One of them cannot be.
    Job {
        index: usize,
        error: String,
    },
    /// Nothing is wrong with them.
    Unavailable(String),
    Busy(Busy),
    Engine(CallError),
}

impl From<FoldError> for Refused {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Wrong { index, error } => Self::Job { index, error },
            FoldError::Unavailable(error) => Self::Unavailable(error),
            FoldError::Busy(busy) => Self::Busy(busy),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Batcher {
    engine: Handle,
    /// Not those of the filters: who looks at jobs must not hold up those who enqueue them.
    helpers: Arc<Helpers>,
    keys: Keys,
    limit: Limit,
}

/// Whether a job belongs to a batch.
pub(crate) fn is_batched(job: &NewJob) -> bool {
    plan::batch_of(job).is_some()
}

impl Batcher {
    pub(crate) fn new(engine: Handle, limits: jq::Limits, max_payload_size: usize) -> Self {
        let helpers = Helpers::new(limits);
        Self { engine, helpers, keys: Keys::default(), limit: Limit(max_payload_size) }
    }

    /// Enqueues all of the jobs or none; where asked for, with somebody who waits for the end of the first.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn enqueue(
        &self,
        jobs: Vec<NewJob>,
        waiter: impl FnMut() -> Option<Waiter>,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        self.carry_out(jobs, waiter, None, once).await
    }

    /// Tries the expressions of a job that is not enqueued now.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn check(&self, job: &NewJob) -> Result<(), Refused> {
        // It is folded into nothing if it is not ready.
        let job = NewJob { ready_at: Some(u64::MAX), ..job.clone() };
        let request = Arc::new(Request::new(vec![job], clock::now().wall));
        let admission = self.helpers.admit_soon().await.map_err(Refused::Busy)?;
        fold(admission, self.limit, &request, &[].into()).await.map(|_| ())
    }

    /// Enqueues the job of a cron entry.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn fire(
        &self,
        firing: Firing,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        self.carry_out(vec![firing.template.job.clone()], || None, Some(firing), once).await
    }

    /// Enqueues the jobs of cron entries as their times come, until the engine has stopped.
    pub(crate) async fn follow(self: Arc<Self>, mut firings: mpsc::Receiver<Firing>) {
        while let Some(firing) = firings.recv().await {
            let batcher = self.clone();
            tokio::spawn(async move {
                let (group, name) = (firing.group.clone(), firing.name.clone());
                if let Err(why) = batcher.fire(firing, None).await {
                    tracing::debug!(%group, %name, ?why, "a cron entry was not enqueued");
                }
            });
        }
    }

    async fn carry_out(
        &self,
        jobs: Vec<NewJob>,
        mut waiter: impl FnMut() -> Option<Waiter>,
        firing: Option<Firing>,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        let request = Arc::new(Request::new(jobs, clock::now().wall));
        let _turns = self.keys.lock(&request.keys).await;
        for _ in 0..MAX_ATTEMPTS {
            let open: Arc<[_]> = match self.open_batches(&request, once).await? {
                Taken::Now(open) => open.into(),
                Taken::Again(answer) => return Ok(Taken::Again(answer)),
            };
            // Nobody waits for an entry whose time has come, so it has all the time.
            let admission = if firing.as_ref().is_some_and(|firing| firing.is_due) {
                self.helpers.admit().await
            } else {
                self.helpers.admit_soon().await.map_err(Refused::Busy)?
            };
            let (plan, jobs) = match fold(admission, self.limit, &request, &open).await {
                // Nobody would hear of it: it is better to have one batch more than one job less.
                Err(Refused::Job { error, .. }) if firing.as_ref().is_some_and(|firing| firing.is_due) => {
                    tracing::warn!(firing = ?firing.as_ref().map(|f| &f.name), error, "a cron job opens a new batch");
                    (request.without_folds(&open), request.jobs.clone())
                }
                folded => folded?,
            };
            let fold = Fold { jobs, plan, waiter: waiter(), firing: firing.clone() };
            match self.engine.ask_once(once, fold).await {
                Ok(taken) => return Ok(taken),
                Err(CallError::Rejected(Reject::Changed)) => {}
                Err(CallError::Rejected(Reject::Job { index, error })) => {
                    return Err(Refused::Job { index, error });
                }
                Err(error) => return Err(Refused::Engine(error)),
            }
        }
        Err(Refused::Engine(CallError::Rejected(Reject::Changed)))
    }

    /// Which batches are open; or what was answered, if the call was carried out before.
    async fn open_batches(
        &self,
        request: &Request,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Option<Arc<Job>>>>, Refused> {
        if request.keys.is_empty() && once.is_none() {
            return Ok(Taken::Now(Vec::new()));
        }
        self.engine.ask_once(once, OpenBatches(request.keys.clone())).await.map_err(Refused::Engine)
    }
}

/// Finds out what to do, where it holds up nobody.
async fn fold(
    admission: Admission,
    limit: Limit,
    request: &Arc<Request>,
    open: &Arc<[Option<Arc<Job>>]>,
) -> Result<(Plan, Vec<NewJob>), Refused> {
    let (request, open) = (request.clone(), open.clone());
    let folded = tokio::task::spawn_blocking(move || request.fold(admission, &open, limit)).await;
    Ok(folded.map_err(|_| Refused::Engine(CallError::Stopped))??)
}
