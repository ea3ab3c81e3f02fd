//! The door to the engine, and all that the HTTP layer knows of it.

use std::sync::Arc;

use crossbeam_channel::Sender;
use tokio::sync::{Semaphore, oneshot};

use crate::engine::command::{Command, Reject, Reply};

/// Where an answer goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, CallError>>;

/// A command on its way to the engine.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
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

/// Sends commands to the engine. Cheap to clone.
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

    /// Has a command carried out and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`] when the engine refuses, or has stopped.
    pub async fn call(&self, command: Command) -> Result<Reply, CallError> {
        self.permits.acquire().await.map_err(|_| CallError::Stopped)?.forget();
        let (reply, answer) = oneshot::channel();
        let request = Request { command, reply: Some(reply) };
        self.requests.send(request).map_err(|_| CallError::Stopped)?;
        answer.await.map_err(|_| CallError::Stopped)?
    }

    /// Tells the engine something that needs no answer, also from where nothing can wait. Of these there are at most
    /// a few for every connection.
    pub fn tell(&self, command: Command) {
        // An engine that has stopped has nothing left to do with it.
        drop(self.requests.send(Request { command, reply: None }));
    }
}
