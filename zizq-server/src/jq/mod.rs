//! jq expressions over payloads. They are untrusted code, so they run in a helper: another process of this program,
//! with limits of its own, that can be killed and replaced at any time.
//!
//! `program` is the only user of jaq, and runs in the helper alone; `helper` is the helper's side of the pipe,
//! `session` the server's. Of the expressions of batches `fold` makes use, in the helper too.

pub(crate) mod fold;
pub mod helper;
mod program;
mod session;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use session::Helper;
pub(crate) use session::{FoldError, Session};

/// How long a request waits for others' expressions to come to their end: an answer is due within half a minute.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an expression may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long it may take, in time of the helper process; every payload adds a little.
    pub time: Duration,
    /// In bytes.
    pub memory: usize,
}

/// Why there is no answer of a jq expression.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JqError {
    /// It is no program.
    #[error("filter: {0}")]
    Invalid(String),
    /// It went beyond its limits.
    #[error("filter: {0}")]
    Stopped(String),
    /// The helper cannot be started or talked to.
    #[error("filters cannot be evaluated at the moment: {0}")]
    Unavailable(String),
}

/// Other expressions take all the time there is for them.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many jq expressions are being evaluated; try again in a moment")]
pub(crate) struct Busy;

/// The helpers of a server, each started when it is first needed.
#[derive(Debug)]
pub(crate) struct Helpers {
    limits: Limits,
    /// One for each that may be at work.
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Helper>>,
}

impl Helpers {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Two, so that an expression that is about to be stopped does not keep every other one waiting.
        let permits = Arc::new(Semaphore::new(processors.max(2)));
        Arc::new(Self { limits, permits, idle: Mutex::default() })
    }

    /// Waits until a helper may work.
    pub(crate) async fn admit(self: &Arc<Self>) -> Admission {
        let permit = self.permits.clone().acquire_owned().await.expect("nobody closes it");
        Admission { helpers: self.clone(), permit }
    }

    /// As [`Self::admit`], for somebody who waits for an answer.
    ///
    /// # Errors
    /// [`Busy`] after [`PATIENCE`].
    pub(crate) async fn admit_soon(self: &Arc<Self>) -> Result<Admission, Busy> {
        timeout(PATIENCE, self.admit()).await.map_err(|_| Busy)
    }

    fn put_back(&self, helper: Helper) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(helper);
    }

    fn take(&self) -> Option<Helper> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The right to use a helper.
#[derive(Debug)]
pub(crate) struct Admission {
    helpers: Arc<Helpers>,
    #[expect(dead_code, reason = "held for as long as the helper works")]
    permit: OwnedSemaphorePermit,
}
