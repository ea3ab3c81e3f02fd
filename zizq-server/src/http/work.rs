//! Runs work on large bodies on threads of its own, so that it delays no connection.

use protocol::error::Code;
use tokio::sync::Semaphore;

use super::memory::SMALL;
use super::reply::Refusal;

/// How many threads work on large bodies.
const WORKERS: usize = 2;

pub(crate) struct Work(Semaphore);

impl Work {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(WORKERS))
    }

    /// Runs work on this many bytes, on another thread if they are many.
    ///
    /// # Errors
    /// When the server stops in the meantime.
    pub(crate) async fn on<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if bytes <= SMALL {
            return Ok(work());
        }
        let _permit = self.0.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Refusal::new(Code::Stopping, "the server is stopping; try again in a moment"))
    }
}
