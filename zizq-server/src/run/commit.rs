//! When an answer is given: before or after the disk has what it says.

use crate::engine::command::Kind;

/// Whether an answer waits until the disk has what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CommitMode {
    /// It has been handed to the operating system: it survives a crash of the server.
    Buffered,
    /// It has been forced onto the disk: it survives a loss of power.
    Fsync,
}

/// The commit modes of a server.
#[derive(Debug, Clone, Copy)]
pub struct CommitModes {
    pub enqueue: CommitMode,
    pub others: CommitMode,
}

impl CommitModes {
    /// What an answer to a command of this kind waits for.
    pub(crate) const fn of(self, kind: Kind) -> CommitMode {
        match kind {
            Kind::Enqueue => self.enqueue,
            Kind::Change => self.others,
            // Nothing of it has to be there after a loss of power.
            Kind::Link | Kind::Ask => CommitMode::Buffered,
        }
    }
}
