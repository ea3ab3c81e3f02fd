//! How much memory the bodies of all requests may take together, and how many of the large ones are read at a time:
//! where too much comes at once, it waits on the network.

use std::sync::Arc;

use http::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply::{Body, Refusal};
use super::unread::keep_until_sent;

/// Bodies up to this size do not wait for larger ones, in bytes.
pub(super) const SMALL: usize = 64 * 1024;
/// What all small bodies may take together, in bytes.
const ALL_SMALL: usize = 64 * 1024 * 1024;
/// As many bodies of the largest size may be there at a time.
const LARGEST_AT_A_TIME: usize = 2;
/// Memory is counted in pieces of this size, in bytes.
const PIECE: usize = 1024;
/// How many threads work on large bodies.
const WORKERS: usize = 2;

pub(crate) struct Budget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    workers: Semaphore,
}

/// Memory that is taken, until it is dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "is there to be dropped")] Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(max_body_size: usize) -> Self {
        let large = max_body_size.saturating_mul(LARGEST_AT_A_TIME).max(ALL_SMALL) / PIECE;
        Self {
            small: Arc::new(Semaphore::new(ALL_SMALL / PIECE)),
            large: Arc::new(Semaphore::new(large.min(Semaphore::MAX_PERMITS))),
            workers: Semaphore::new(WORKERS),
        }
    }

    /// Waits until there is memory for a body of this size.
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        let pool = if bytes > SMALL { &self.large } else { &self.small };
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        let permit = if pieces == 0 { None } else { pool.clone().acquire_many_owned(pieces).await.ok() };
        Share(permit)
    }

    /// Does work on so many bytes; on another thread where they are many, so that it holds up no connection.
    ///
    /// # Errors
    /// When the server stops meanwhile.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        if bytes <= SMALL {
            return Ok(work());
        }
        let _permit = self.workers.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Refusal::unavailable("the server is stopping; try again in a moment"))
    }
}

impl Share {
    /// Keeps the memory taken until the answer has been sent, if that is large, too.
    pub(crate) fn until_sent(self, answer: Response<Body>) -> Response<Body> {
        keep_until_sent(answer, |_| self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use protocol::media::Format;

    const MIB: usize = 1024 * 1024;

    fn answer(bytes: usize) -> Response<Body> {
        crate::http::reply::bytes(StatusCode::OK, Format::Json, vec![7; bytes])
    }

    #[tokio::test]
    async fn large_bodies_wait_for_their_turn_and_small_ones_do_not() {
        let budget = Budget::new(32 * MIB);
        let first = budget.take(32 * MIB).await;
        let second = budget.take(32 * MIB).await;
        assert!(budget.take(SMALL + 1).now_or_never().is_none());
        let _small = budget.take(SMALL).await;
        let _empty = budget.take(0).await;
        let small = second.until_sent(answer(SMALL));
        let large = first.until_sent(answer(SMALL + 1));
        let third = budget.take(32 * MIB).await;
        assert!(budget.take(SMALL + 1).now_or_never().is_none(), "the large answer is not sent yet");
        let sent = large.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&sent[..], [7; SMALL + 1]);
        assert!(budget.take(SMALL + 1).now_or_never().is_none(), "its bytes are still there");
        drop(sent);
        drop(budget.take(32 * MIB).await);
        drop((small, third));
    }
}
