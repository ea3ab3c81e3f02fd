//! Runs the engine: its thread, its turns, the answers that wait for the disk, and the handle for the rest of the
//! server.

pub(crate) mod commit;
pub(crate) mod events;
pub(crate) mod handle;
pub(crate) mod meters;
mod syncer;
pub(crate) mod turn;
pub(crate) mod writer;
