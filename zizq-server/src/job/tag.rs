//! The tags that jobs are found by, besides their ids.

use protocol::flow::Key;

/// A key chosen by the user, and what it means for a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Every job with this unique key has it.
    Unique(Key),
    /// The job into which others of this batch are folded has it: at most one, and a ready one.
    Batch(Key),
}
