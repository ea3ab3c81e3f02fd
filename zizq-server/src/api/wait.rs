//! Waits for the end of a job.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::id::JobId;
use protocol::take::MAX_WAIT_MS;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::App;
use crate::engine::command::jobs::{Seen, Unwait, Wait, Waiter, Waits};
use crate::http::closed;
use crate::http::query::Query;
use crate::http::reply::Refusal;
use crate::run::handle::{CallError, Handle};

/// Reads how long the caller wants to wait.
pub(super) fn read(query: &mut Query<'_>) -> Result<Option<Duration>, Refusal> {
    let wait_ms = query.number("wait_ms", 0, MAX_WAIT_MS)?;
    Ok(wait_ms.filter(|ms| *ms > 0).map(Duration::from_millis))
}

/// A waiting caller. Dropping it makes the engine forget it.
pub(super) struct Waiting {
    engine: Handle,
    job: Option<JobId>,
    key: u64,
    ended: oneshot::Receiver<Option<Seen>>,
}

impl Waiting {
    /// Creates a wait for no job yet.
    pub(super) fn new(app: &App) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let (_, ended) = oneshot::channel();
        Self { engine: app.engine.clone(), job: None, key, ended }
    }

    /// A waiter for the engine. If the engine refuses it, ask for another one.
    pub(super) fn waiter(&mut self) -> Waiter {
        let (sender, ended) = oneshot::channel();
        self.ended = ended;
        // The caller may have gone away.
        Waiter { key: self.key, wake: Box::new(move |seen| drop(sender.send(seen))) }
    }

    /// Sets the job to wait for.
    pub(super) fn of(mut self, id: JobId) -> Self {
        self.job = Some(id);
        self
    }

    /// Waits for the end of the job. Returns `None` when the time is up or the server stops; else the job as it ended,
    /// or `Some(None)` if it was deleted.
    pub(super) async fn end(&mut self, app: &App, time: Duration) -> Option<Option<Seen>> {
        let mut closing = app.closing.clone();
        tokio::select! {
            biased;
            ended = &mut self.ended => ended.ok(),
            () = sleep(time) => None,
            () = closed(&mut closing) => None,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(id) = self.job {
            self.engine.tell(Unwait { id, key: self.key });
        }
    }
}

/// Waits for the end of a job, as [`Waiting::end`]. Also returns `None` if it has ended already.
///
/// # Errors
/// When the job does not exist.
pub(super) async fn for_end(app: &App, id: JobId, time: Duration) -> Result<Option<Option<Seen>>, CallError> {
    let mut waiting = Waiting::new(app).of(id);
    let waiter = waiting.waiter();
    match app.engine.ask(Wait { id, waiter }).await? {
        Waits::Ended => Ok(None),
        Waits::Yes => Ok(waiting.end(app, time).await),
    }
}
