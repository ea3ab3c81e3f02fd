//! What the threads of the engine count.

use crate::meter::{Counter, Timing};

#[derive(Debug, Default)]
pub struct Meters {
    /// Turns, with all their reads and commits.
    pub turns: Timing,
    /// Commits, until the operating system has them.
    pub commits: Timing,
    /// Syncs to the disk that answers waited for.
    pub syncs: Timing,
    /// Records that were set aside because they cannot be read.
    pub damaged: Counter,
}
