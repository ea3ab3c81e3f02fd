//! The handle of the engine: the only way that the rest of the server calls it.

use std::sync::Arc;

use crossbeam_channel::Sender;
use protocol::error::Code;
use tokio::sync::{Semaphore, oneshot};

use crate::engine::command::once::{Envelope, Once, Taken};
use crate::engine::command::{self, Reject, Reply};

/// Where an answer is sent.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, CallError>>;

/// A command for the engine.
#[derive(Debug)]
pub(crate) struct Request {
    pub call: Envelope,
    pub reply: Option<ReplyTo>,
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error(
        "the server's disk has less free space than --min-free-disk; jobs are accepted again when there is more"
    )]
    DiskFull,
    #[error("a write failed; the store is being reopened; try again in a moment")]
    StoreClosed,
    /// The engine has stopped.
    #[error("the server is stopping; try again in a moment")]
    Stopped,
}

impl CallError {
    /// The error code of this.
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Rejected(reject) => reject.code(),
            Self::DiskFull => Code::DiskFull,
            Self::StoreClosed => Code::StoreClosed,
            Self::Stopped => Code::Stopping,
        }
    }
}

/// Sends requests to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    requests: Sender<Request>,
    /// A permit per call that waits to be received: callers wait here when the engine cannot keep up (backpressure).
    permits: Arc<Semaphore>,
}

impl Handle {
    pub(crate) const fn new(requests: Sender<Request>, permits: Arc<Semaphore>) -> Self {
        Self { requests, permits }
    }

    /// How many commands wait to be received.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`] when the engine refuses, or has stopped.
    pub(crate) async fn ask<R: command::Request>(&self, request: R) -> Result<R::Answer, CallError> {
        // A reply of another type is never returned.
        R::answer(self.send(request.into_command().into()).await?).ok_or(CallError::Stopped)
    }

    /// As [`Handle::ask`], but a request whose idempotency key was executed before gets the first answer.
    ///
    /// # Errors
    /// As [`Handle::ask`].
    pub(crate) async fn ask_once<R: command::Request>(
        &self,
        once: Option<&Once>,
        request: R,
    ) -> Result<Taken<R::Answer>, CallError> {
        let call = Envelope { command: request.into_command(), once: once.cloned() };
        match self.send(call).await? {
            Reply::Again(again) => Ok(Taken::Again(again)),
            reply => R::answer(reply).map(Taken::Now).ok_or(CallError::Stopped),
        }
    }

    /// Sends a command whose type is not known statically, as [`Handle::ask`].
    ///
    /// # Errors
    /// As [`Handle::ask`].
    pub(crate) async fn send(&self, call: Envelope) -> Result<Reply, CallError> {
        self.permits.acquire().await.map_err(|_| CallError::Stopped)?.forget();
        let (reply, answer) = oneshot::channel();
        let request = Request { call, reply: Some(reply) };
        self.requests.send(request).map_err(|_| CallError::Stopped)?;
        answer.await.map_err(|_| CallError::Stopped)?
    }

    /// Sends the engine a request that needs no answer; also usable where nothing can wait. There are at most a few of
    /// these per connection.
    pub(crate) fn tell(&self, request: impl command::Request) {
        // A stopped engine needs no requests.
        drop(self.requests.send(Request { call: request.into_command().into(), reply: None }));
    }
}
