//! What jobs are found by beside their ids.

use protocol::flow::Key;

/// A text of the user's, and what it is to a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Every job with this unique key has it.
    Unique(Key),
    /// The job has it into which others of this batch are folded: one at most, and a ready one.
    Batch(Key),
}
