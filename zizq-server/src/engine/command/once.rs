//! Calls that bring jobs and are carried out once, however often they are sent.

use std::sync::Arc;

use bytes::Bytes;

use super::{Command, Kind};

/// Identifies a call that is carried out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The key that its sender chose.
    pub key: Arc<str>,
    /// The fingerprint of the call and its body. A call with another fingerprint is another call.
    pub fingerprint: u128,
}

/// An answer that was given before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// Whether jobs were created.
    pub created: bool,
    /// The jobs in JSON, separated by commas, in parts.
    pub jobs: Vec<Bytes>,
}

/// The result of a call that may have been carried out before.
#[derive(Debug)]
pub(crate) enum Taken<T> {
    /// It was carried out now.
    Now(T),
    /// It was carried out before, and this was the answer.
    Again(Repeated),
}

/// A command on its way to the engine, with the key of its call.
#[derive(Debug)]
pub struct Envelope {
    pub command: Command,
    /// If none, the call is carried out each time it is sent.
    pub once: Option<Once>,
}

impl Envelope {
    /// What its answer waits for, and whether a full disk refuses it.
    pub const fn kind(&self) -> Kind {
        // A call with a key enqueues, even if this command is only its first step.
        if self.once.is_some() { Kind::Enqueue } else { self.command.kind() }
    }
}

impl<C: Into<Command>> From<C> for Envelope {
    fn from(command: C) -> Self {
        Self { command: command.into(), once: None }
    }
}
