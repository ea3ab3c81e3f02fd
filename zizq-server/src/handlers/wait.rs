//! Waiting for the end of a job.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::id::JobId;
use protocol::take::MAX_WAIT_MS;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::engine::command::{Command, Reply, Seen};
use crate::engine::notice::Waiter;
use crate::handle::{CallError, Handle};
use crate::http::query::Query;
use crate::http::reply::Refusal;
use crate::http::{App, closed};

/// How long a caller wants to wait.
pub(super) fn read(query: &mut Query<'_>) -> Result<Option<Duration>, Refusal> {
    let wait_ms = query.number("wait_ms", 0, MAX_WAIT_MS)?;
    Ok(wait_ms.filter(|ms| *ms > 0).map(Duration::from_millis))
}

/// A caller who waits. The engine forgets it when it is dropped.
pub(super) struct Waiting {
    engine: Handle,
    job: Option<JobId>,
    key: u64,
    ended: oneshot::Receiver<Option<Seen>>,
}

impl Waiting {
    /// A waiter for the engine, and the caller's end of it.
    pub(super) fn new(app: &App) -> (Waiter, Self) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, ended) = oneshot::channel();
        // A caller who has gone away does not want to know.
        let wake = Box::new(move |seen| drop(sender.send(seen)));
        (Waiter { key, wake }, Self { engine: app.engine.clone(), job: None, key, ended })
    }

    /// Names the job that is waited for.
    pub(super) fn of(mut self, id: JobId) -> Self {
        self.job = Some(id);
        self
    }

    /// Waits for the end of the job. None when time is up, or the server stops; else the job as it ended, or none
    /// where it was deleted.
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
            self.engine.tell(Command::Unwait { id, key: self.key });
        }
    }
}

/// Waits for the end of a job; as [`Waiting::end`]. Also none where it has ended already.
///
/// # Errors
/// When there is no such job.
pub(super) async fn for_end(app: &App, id: JobId, time: Duration) -> Result<Option<Option<Seen>>, CallError> {
    let (waiter, waiting) = Waiting::new(app);
    let mut waiting = waiting.of(id);
    match app.engine.call(Command::Wait { id, waiter }).await? {
        Reply::Ended => Ok(None),
        _ => Ok(waiting.end(app, time).await),
    }
}
