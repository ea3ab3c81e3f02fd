//! Where jobs are: in the store, and in the order of a queue.

use protocol::job::Status;

use super::draw::DrawId;
use super::id::{QueueId, Stamp};

/// Where a job's record is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub status: Status,
    pub queue: QueueId,
    /// Meaningful only for a ready job.
    pub draw: DrawId,
    pub priority: u16,
    pub stamp: Stamp,
}

/// A place in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneAt {
    pub queue: QueueId,
    pub draw: DrawId,
    pub priority: u16,
    pub from: Stamp,
}
