//! What the tasks of a worker tell its pool.

use protocol::job::DeliveredJob;
use protocol::lease::HeartbeatsReply;
use protocol::stream::Cancel;

use crate::report::Lease;

/// Something happened outside.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream was opened or has ended: who holds what should be made sure of now.
    StreamTurned,
    /// A job came.
    Delivered(Box<DeliveredJob>),
    /// A job must stop.
    Cancelled(Cancel),
    /// Leases were renewed, as far as the answer says.
    Renewed { asked: Vec<Lease>, reply: HeartbeatsReply },
    /// Leases could not be renewed; it is time to try again.
    RenewalFailed,
    /// A report got its final answer.
    Settled { lease: Lease, accepted: bool },
}
