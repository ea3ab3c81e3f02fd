//! jq expressions over payloads. They are untrusted code, so they run in a helper: another process of this program with
//! its own limits, which can be killed and replaced at any time.
//!
//! [`protocol::jq`] implements jq, and runs in the helper only: `program` filters with it, `fold` folds payloads.
//! `helper` is the helper's side of the pipe, `session` the server's.
//!
//! Many expressions may run at once; the helpers take turns. A filter yields after a batch of payloads or after some
//! milliseconds, so that a slow one over many payloads delays no one. An expression that is slow on a single payload
//! keeps its turn until it is stopped; callers that wait too long for those are told to try again. Callers take turns,
//! too: whoever sends many expressions makes itself wait, and nobody else.

mod fair;
pub(crate) mod fold;
pub(crate) mod helper;
mod program;
mod runs;
mod session;
mod wire;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::caller::Caller;
use crate::clock;
use fair::{FairSemaphore, Permit};
use runs::End;
pub(crate) use runs::Runs;
use session::Helper;
pub(crate) use session::{FoldError, Session};

/// How long a request waits for other expressions: an answer is due within half a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many idle helpers are kept.
const MAX_IDLE: usize = 4;
/// The most concurrent expressions, each with a helper.
const MAX_SESSIONS: usize = 16;
/// The most of them that belong to one caller.
const MAX_OF_CALLER: usize = 12;
/// How often to check that a caller still waits.
const GLANCE: Duration = Duration::from_millis(50);

/// The limits of an expression.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Its time in the helper process; every payload adds a little.
    pub time: Duration,
    /// In bytes.
    pub memory: usize,
}

/// Why a jq expression has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JqError {
    /// It is not valid jq.
    #[error("filter: {0}")]
    Invalid(String),
    /// It returns something other than a boolean for a job, in a call that changes jobs.
    #[error("filter: {0}")]
    NoCondition(String),
    /// It exceeded its limits.
    #[error("filter: {0}")]
    Stopped(String),
    /// The helper cannot be started or reached.
    #[error("filters cannot be evaluated at the moment: {0}")]
    Unavailable(String),
    /// It did not get its turn in time.
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// Other expressions use all the time.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many jq expressions are being evaluated; try again in a moment")]
pub(crate) struct Busy;

/// The helpers of a server, each started on first use.
#[derive(Debug)]
pub(crate) struct Helpers {
    limits: Limits,
    /// A permit per expression that may run.
    places: Arc<FairSemaphore>,
    /// A permit per busy helper.
    turns: Arc<FairSemaphore>,
    idle: Mutex<Vec<Helper>>,
    runs: Runs,
}

impl Helpers {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // At least two, so that an expression that is about to be stopped does not block all others.
        let helpers = processors.max(2);
        // A caller may have all of them while nobody else waits: turns are short.
        let turns = FairSemaphore::new(helpers, helpers);
        let places = FairSemaphore::new(MAX_SESSIONS, MAX_OF_CALLER);
        Arc::new(Self { limits, places, turns, idle: Mutex::default(), runs: Runs::default() })
    }

    /// Waits until another expression of this caller may run. Its `now` is the time at which it started to wait.
    pub(crate) async fn admit(self: &Arc<Self>, caller: Caller) -> Admission {
        let asked_at = clock::now().wall;
        let place = self.places.clone().acquire(caller).await;
        Admission {
            helpers: self.clone(),
            caller,
            runtime: Handle::current(),
            asked_at,
            patience: Duration::MAX,
            abandoned: Arc::default(),
            place,
        }
    }

    /// As [`Self::admit`], for a caller that waits for an answer.
    ///
    /// # Errors
    /// [`Busy`] after [`PATIENCE`]. The same limit applies to each turn.
    pub(crate) async fn admit_soon(self: &Arc<Self>, caller: Caller) -> Result<Admission, Busy> {
        let admission = timeout(PATIENCE, self.admit(caller)).await;
        let admission = admission.map_err(|_| {
            self.runs.count(End::Busy);
            Busy
        })?;
        Ok(Admission { patience: PATIENCE, ..admission })
    }

    /// How many expressions ended how.
    pub(crate) const fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Keeps an idle helper for later, unless there are enough.
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

/// The permission to use a helper.
#[derive(Debug)]
pub(crate) struct Admission {
    helpers: Arc<Helpers>,
    caller: Caller,
    runtime: Handle,
    /// In milliseconds since 1970.
    asked_at: u64,
    /// How long to wait for each turn.
    patience: Duration,
    /// Whether the caller has gone away.
    abandoned: Arc<AtomicBool>,
    #[expect(dead_code, reason = "held for as long as the expression is at work")]
    place: Permit,
}

impl Admission {
    /// The value of `now`, in seconds since 1970.
    pub(crate) fn now(&self) -> f64 {
        Duration::from_millis(self.asked_at).as_secs_f64()
    }

    /// Gives up as soon as this is set.
    pub(crate) fn until(self, abandoned: Arc<AtomicBool>) -> Self {
        Self { abandoned, ..self }
    }

    /// Waits for its turn. Blocks, so it must not be called on an async thread.
    ///
    /// # Errors
    /// [`JqError::Busy`] when that takes too long, or the caller has gone away.
    fn turn(&self) -> Result<Permit, JqError> {
        let since = Instant::now();
        self.runtime.block_on(async {
            let mut turn = pin!(self.helpers.turns.clone().acquire(self.caller));
            loop {
                if let Ok(turn) = timeout(GLANCE, turn.as_mut()).await {
                    return Ok(turn);
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
