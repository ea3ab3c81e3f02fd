//! The door to the engine: all that the rest of the server calls it by.

use std::sync::Arc;

use crossbeam_channel::Sender;
use protocol::error::Code;
use tokio::sync::{Semaphore, oneshot};

use crate::engine::command::once::{Envelope, Once, Taken};
use crate::engine::command::{self, Reject, Reply};

/// Where an answer goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, CallError>>;

/// A command on its way to the engine.
#[derive(Debug)]
pub struct Request {
    pub call: Envelope,
    pub reply: Option<ReplyTo>,
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error("the disk of the server is full; jobs are taken again when there is space")]
    DiskFull,
    #[error("the store is closed after a write failed, and opens again by itself; try again in a moment")]
    StoreClosed,
    /// The engine has stopped.
    #[error("the server is stopping; try again in a moment")]
    Stopped,
}

impl CallError {
    /// What this is to a program.
    pub const fn code(&self) -> Code {
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
pub struct Handle {
    requests: Sender<Request>,
    /// One for each call that waits to be taken up: callers wait here when the engine cannot keep up.
    permits: Arc<Semaphore>,
}

impl Handle {
    pub const fn new(requests: Sender<Request>, permits: Arc<Semaphore>) -> Self {
        Self { requests, permits }
    }

    /// Has a request carried out and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`] when the engine refuses, or has stopped.
    pub async fn ask<R: command::Request>(&self, request: R) -> Result<R::Answer, CallError> {
        // Nothing is answered with the reply to something else.
        R::answer(self.send(request.into_command().into()).await?).ok_or(CallError::Stopped)
    }

    /// As [`Handle::ask`]; but a request with a key that was carried out before is answered as it was then.
    ///
    /// # Errors
    /// As [`Handle::ask`].
    pub async fn ask_once<R: command::Request>(
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

    /// Has a command carried out whose type is not known, as [`Handle::ask`].
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

    /// Tells the engine something that needs no answer, also from where nothing can wait. Of these there are at most
    /// a few for every connection.
    pub fn tell(&self, request: impl command::Request) {
        // An engine that has stopped has nothing left to do with it.
        drop(self.requests.send(Request { call: request.into_command().into(), reply: None }));
    }
}
