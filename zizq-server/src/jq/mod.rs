//! jq expressions over payloads. They are untrusted code, so they run in a helper: another process of this program,
//! with limits of its own, that can be killed and replaced at any time.
//!
//! What jq means is in [`protocol::jq`], which runs in the helper alone: `program` filters with it, `fold` folds payloads.
//! `helper` is the helper's side of the pipe, `session` the server's.
//!
//! Many expressions may be at work; the helpers take turns. A filter gives its turn up after a batch of payloads, or after
//! some milliseconds, so that one that takes long over many payloads holds up nobody. One that takes long over a
//! single payload keeps its turn until it is stopped; who waits too long for such ones is told to come again.

pub(crate) mod fold;
pub mod helper;
mod program;
mod session;
mod wire;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::clock;
use session::Helper;
pub(crate) use session::{FoldError, Session};

/// How long a request waits for others' expressions to come to their end: an answer is due within half a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many helpers are kept without work.
const MAX_IDLE: usize = 4;
/// How many expressions may be at work, each with a helper.
const MAX_SESSIONS: usize = 16;
/// How often is looked whether anybody still waits.
const GLANCE: Duration = Duration::from_millis(50);

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
    /// It gives something else than a boolean for a job, where jobs are changed.
    #[error("filter: {0}")]
    NoCondition(String),
    /// It went beyond its limits.
    #[error("filter: {0}")]
    Stopped(String),
    /// The helper cannot be started or talked to.
    #[error("filters cannot be evaluated at the moment: {0}")]
    Unavailable(String),
    /// It did not come to its turn.
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// Other expressions take all the time there is for them.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many jq expressions are being evaluated; try again in a moment")]
pub(crate) struct Busy;

/// The helpers of a server, each started when it is first needed.
#[derive(Debug)]
pub(crate) struct Helpers {
    limits: Limits,
    /// One for each expression that may be at work.
    places: Arc<Semaphore>,
    /// One for each helper that may be busy. They go round, first come, first served.
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Helper>>,
}

impl Helpers {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Two, so that an expression that is about to be stopped does not keep every other one waiting.
        let turns = Arc::new(Semaphore::new(processors.max(2)));
        let places = Arc::new(Semaphore::new(MAX_SESSIONS));
        Arc::new(Self { limits, places, turns, idle: Mutex::default() })
    }

    /// Waits until one more expression may be at work. What it calls `now` is the time at which it began to wait.
    pub(crate) async fn admit(self: &Arc<Self>) -> Admission {
        let asked_at = clock::now().wall;
        let place = self.places.clone().acquire_owned().await.expect("nobody closes it");
        Admission {
            helpers: self.clone(),
            runtime: Handle::current(),
            asked_at,
            patience: Duration::MAX,
            abandoned: Arc::default(),
            place,
        }
    }

    /// As [`Self::admit`], for somebody who waits for an answer.
    ///
    /// # Errors
    /// [`Busy`] after [`PATIENCE`]. The same holds for each turn.
    pub(crate) async fn admit_soon(self: &Arc<Self>) -> Result<Admission, Busy> {
        let admission = timeout(PATIENCE, self.admit()).await.map_err(|_| Busy)?;
        Ok(Admission { patience: PATIENCE, ..admission })
    }

    /// Keeps a helper for the next one, unless enough are at hand.
    fn put_back(&self, helper: Helper) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(helper);
        }
    }

    fn take(&self) -> Option<Helper> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The right to use a helper.
#[derive(Debug)]
pub(crate) struct Admission {
    helpers: Arc<Helpers>,
    runtime: Handle,
    /// In milliseconds since 1970.
    asked_at: u64,
    /// How long each turn is waited for.
    patience: Duration,
    /// Whether nobody waits for the answer any more.
    abandoned: Arc<AtomicBool>,
    #[expect(dead_code, reason = "held for as long as the expression is at work")]
    place: OwnedSemaphorePermit,
}

impl Admission {
    /// What `now` is to the expression, in seconds since 1970.
    pub(crate) fn now(&self) -> f64 {
        Duration::from_millis(self.asked_at).as_secs_f64()
    }

    /// Gives up as soon as this is set.
    pub(crate) fn until(self, abandoned: Arc<AtomicBool>) -> Self {
        Self { abandoned, ..self }
    }

    /// Waits until it is this one's turn. It must not be waited for where others run.
    ///
    /// # Errors
    /// [`JqError::Busy`] when that takes too long, or nobody waits for the answer any more.
    fn turn(&self) -> Result<OwnedSemaphorePermit, JqError> {
        let since = Instant::now();
        self.runtime.block_on(async {
            let mut turn = pin!(self.helpers.turns.clone().acquire_owned());
            loop {
                if let Ok(turn) = timeout(GLANCE, turn.as_mut()).await {
                    return Ok(turn.expect("nobody closes it"));
                }
                if self.is_abandoned() || since.elapsed() >= self.patience {
                    return Err(Busy.into());
                }
            }
        })
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}
