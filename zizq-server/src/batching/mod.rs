//! Enqueues jobs that belong to batches.
//!
//! The engine knows which batch is open, and must not be delayed; a helper process computes the fold of two payloads.
//! This module asks the engine, then the helper, then the engine again, which accepts the result unless the batch has
//! changed in the meantime: then it starts over. Producers of one key take turns, so that they do not invalidate each
//! other's work.

mod keys;
mod plan;

use std::sync::Arc;

use protocol::enqueue::NewJob;
use tokio::sync::mpsc;

use crate::access::Scope;
use crate::caller::Caller;
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

/// Gives up on a batch that changes this often between two reads. Only taking, changing or deleting its job can change
/// it, and each time it is another batch or none.
const MAX_ATTEMPTS: usize = 100;
/// How many cron entries may wait here to be folded before they wait in the engine.
pub(crate) const MAX_FIRINGS: usize = 64;

/// Why jobs were not enqueued.
#[derive(Debug)]
pub(crate) enum Refused {
    /// One of them is invalid.
    Job {
        index: usize,
        error: String,
    },
    /// The jobs are valid.
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

/// Enqueues jobs that belong to batches.
#[derive(Debug)]
pub(crate) struct Batcher {
    engine: Handle,
    /// Separate from the helpers of filters, so that reads do not delay enqueues.
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

    /// How many folds ended how.
    pub(crate) fn jq_runs(&self) -> &jq::Runs {
        self.helpers.runs()
    }

    /// Enqueues all of the jobs or none, folding them only into batches of these queues, optionally with a waiter for the end of the first.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn enqueue(
        &self,
        caller: Caller,
        within: Scope,
        jobs: Vec<NewJob>,
        waiter: impl FnMut() -> Option<Waiter>,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        self.carry_out((caller, within), jobs, waiter, None, once).await
    }

    /// Tries the expressions of a job without enqueuing it.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn check(&self, caller: Caller, job: &NewJob) -> Result<(), Refused> {
        // A job that is not ready is folded into nothing.
        let job = NewJob { ready_at: Some(u64::MAX), ..job.clone() };
        let request = Arc::new(Request::new(vec![job], clock::now().wall));
        let admission = self.helpers.admit_soon(caller).await.map_err(Refused::Busy)?;
        fold(admission, self.limit, &request, &[].into()).await.map(|_| ())
    }

    /// Enqueues the job of a cron entry.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) async fn fire(
        &self,
        caller: Caller,
        firing: Firing,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        self.carry_out((caller, Scope::All), vec![firing.template.job.clone()], || None, Some(firing), once)
            .await
    }

    /// Enqueues the jobs of due cron entries until the engine has stopped.
    pub(crate) async fn follow(self: Arc<Self>, mut firings: mpsc::Receiver<Firing>) {
        while let Some(firing) = firings.recv().await {
            let batcher = self.clone();
            tokio::spawn(async move {
                let (group, name) = (firing.group.clone(), firing.name.clone());
                if let Err(why) = batcher.fire(Caller::Server, firing, None).await {
                    tracing::debug!(%group, %name, ?why, "a cron job was not enqueued");
                }
            });
        }
    }

    async fn carry_out(
        &self,
        (caller, within): (Caller, Scope),
        jobs: Vec<NewJob>,
        mut waiter: impl FnMut() -> Option<Waiter>,
        firing: Option<Firing>,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Enqueued>>, Refused> {
        let request = Arc::new(Request::new(jobs, clock::now().wall));
        let _turns = self.keys.lock(&request.keys).await;
        for _ in 0..MAX_ATTEMPTS {
            let open: Arc<[_]> = match self.open_batches(&request, &within, once).await? {
                Taken::Now(open) => open.into(),
                Taken::Again(answer) => return Ok(Taken::Again(answer)),
            };
            // No one waits for a due entry, so it may take its time.
            let admission = if firing.as_ref().is_some_and(|firing| firing.is_due) {
                self.helpers.admit(caller).await
            } else {
                self.helpers.admit_soon(caller).await.map_err(Refused::Busy)?
            };
            let (plan, jobs) = match fold(admission, self.limit, &request, &open).await {
                // No one would see the error: an extra batch is better than a lost job.
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

    /// Returns which batches are open, or the first answer if the call was executed before.
    async fn open_batches(
        &self,
        request: &Request,
        within: &Scope,
        once: Option<&Once>,
    ) -> Result<Taken<Vec<Option<Arc<Job>>>>, Refused> {
        if request.keys.is_empty() && once.is_none() {
            return Ok(Taken::Now(Vec::new()));
        }
        self.engine
            .ask_once(once, OpenBatches(request.keys.clone(), within.clone()))
            .await
            .map_err(Refused::Engine)
    }
}

/// Computes what to do, on a thread where it delays no one.
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
