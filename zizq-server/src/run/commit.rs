//! Commit modes: whether an answer waits until its change is on the disk.

use crate::engine::command::Kind;

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CommitMode {
    /// The operating system has the change: it survives a crash of the server.
    Buffered,
    /// The disk has the change: it survives a power failure.
    Fsync,
}

/// The commit modes of a server.
#[derive(Debug, Clone, Copy)]
pub struct CommitModes {
    pub enqueue: CommitMode,
    pub others: CommitMode,
}

impl CommitModes {
    /// What the answer to a command of this kind waits for.
    pub(crate) const fn of(self, kind: Kind) -> CommitMode {
        match kind {
            Kind::Enqueue => self.enqueue,
            Kind::Change => self.others,
            // Nobody may come back by a power failure.
            Kind::Access => CommitMode::Fsync,
            // Their effects need not survive a power failure.
            Kind::Link | Kind::Ask => CommitMode::Buffered,
        }
    }
}
