//! Calls that bring jobs and are carried out once, however often they are sent.

use std::sync::Arc;

use bytes::Bytes;

use super::{Command, Kind};

/// What makes a call one that is carried out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// As its sender chose it.
    pub key: Arc<str>,
    /// Of the call and its body: with another one it is another call.
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

/// What came of a call that may have been carried out before.
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
    /// None: it is carried out each time that it is sent.
    pub once: Option<Once>,
}

impl Envelope {
    /// What its answer waits for, and whether a full disk refuses it.
    pub const fn kind(&self) -> Kind {
        // Who has a key wants to enqueue, even where this command is only the beginning of that.
        if self.once.is_some() { Kind::Enqueue } else { self.command.kind() }
    }
}

impl<C: Into<Command>> From<C> for Envelope {
    fn from(command: C) -> Self {
        Self { command: command.into(), once: None }
    }
}
